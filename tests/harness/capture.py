# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes over the network of the test hosts, as somebody reads it who listens there."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import threading
from typing import NamedTuple

from harness.places import ROOT

#: Of Linux, and not in Python's module: linux/if_ether.h, linux/if_packet.h, asm-generic/socket.h.
ETH_P_ALL, SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_STATISTICS = 3, 263, 1, 6
PACKET_MR_PROMISC, SO_RCVBUFFORCE = 1, 33
#: Bytes of packets that wait to be read, and of the largest one: the hosts' links do not divide them.
WAITING, LARGEST = 64 << 20, 1 << 17
IPV4, TCP = b"\x08\x00", 6


class Segment(NamedTuple):
    """A packet of TCP with data."""

    source: str
    source_port: int
    destination: str
    port: int  # of the destination
    data: bytes


class Capture:
    """All packets between the scenario's hosts while it is entered, from the bridge that joins them."""

    def __init__(self) -> None:
        network = f"gearsync-{os.environ['MOLECULE_SCENARIO_NAME']}"
        inspect = [str(ROOT / "molecule/hosts/podman"), "network", "inspect", network]
        self._link = json.loads(subprocess.run(inspect, check=True, capture_output=True).stdout)[0][
            "network_interface"
        ]
        self._ending = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self.packets: list[bytes] = []
        #: Packets that came faster than they were read.
        self.lost = 0

    def __enter__(self) -> Capture:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, WAITING)
        self._socket.bind((self._link, ETH_P_ALL))
        # Without it the bridge shows only what is for this machine itself.
        request = struct.pack("iHH8x", socket.if_nametoindex(self._link), PACKET_MR_PROMISC, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
        self._socket.settimeout(0.1)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._reader.join()
        self.lost = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1]
        self._socket.close()

    def _read(self) -> None:
        """Until nothing is left after the end."""
        while True:
            try:
                self.packets.append(self._socket.recv(LARGEST))
            except TimeoutError:
                if self._ending.is_set():
                    return

    def holding(self, text: str) -> list[bytes]:
        """The packets with this text, of whatever protocol."""
        return [packet for packet in self.packets if text.encode() in packet]

    @property
    def segments(self) -> list[Segment]:
        """What went over TCP, by IPv4, which the hosts use."""
        segments = []
        for packet in self.packets:
            if packet[12:14] != IPV4 or packet[23] != TCP:
                continue
            begin = 14 + 4 * (packet[14] & 15)
            end = 14 + int.from_bytes(packet[16:18], "big")
            data = packet[begin + 4 * (packet[begin + 12] >> 4) : end]
            if data:
                source, destination = (socket.inet_ntoa(packet[at : at + 4]) for at in (26, 30))
                source_port, port = struct.unpack("!HH", packet[begin : begin + 4])
                segments.append(Segment(source, source_port, destination, port, data))
        return segments
