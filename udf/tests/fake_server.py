# SPDX-License-Identifier: GPL-2.0-or-later
"""Job servers that misbehave, each in its own way."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
import time

from harness.ports import free_port
from harness.waiting import DEADLINE

# The states of a TCP connection whose end the other side has not acknowledged: FIN_WAIT1, CLOSING, LAST_ACK.
UNACKNOWLEDGED = (4, 11, 9)
SUBMIT_JOB_BG, JOB_CREATED, WORK_STATUS, ECHO_REQ, ECHO_RES, ERROR = 18, 8, 12, 16, 17, 19


def packet(kind: int, *parts: bytes) -> bytes:
    body = b"\0".join(parts)
    return b"\0RES" + struct.pack(">II", kind, len(body)) + body


class FakeServer:
    """Listens on loopback and answers submissions as `mode` says, which may change at any time.

    good: a job handle. silent: accepts, reads, never answers. deaf: accepts and never reads. close: closes
    when it has a job. half: sends half of an answer and closes. garbage: speaks another protocol. error: an
    ERROR packet. slow: waits for a tenth of a second. held: answers after `release()`. endless: a job handle,
    and then one WORK_STATUS after the other. echo: answers probes and no job. late: answers probes after
    `release()`. large: announces a handle of 100 kB. drip: sends its answer byte by byte. flood: sends
    packets without end that nobody asked for. huge: announces 4 GiB. With a context it speaks TLS, and
    misbehaves inside of it.
    """

    def __init__(
        self,
        mode: str = "good",
        port: int = 0,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.mode = mode
        self.context = context
        self._released = threading.Event()
        self.jobs: list[tuple[int, bytes, bytes, bytes]] = []  # type, function, unique, workload
        self.foreign = b""  # the beginning of data that is not a packet
        self.accepted = 0
        self._sockets: list[socket.socket] = []
        self._closing = False
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # Not a port that an outgoing connection could use while a test replaces the server.
        self._listener = socket.create_server((host, port or free_port()), family=family, backlog=128)
        self.port = self._listener.getsockname()[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._closing = True
        self.release()
        # shutdown, because close alone leaves a thread that waits in accept with a port that still listens
        for one in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def release(self) -> None:
        """Send what was held back."""
        self._released.set()

    def hang_up(self) -> None:
        """Close all connections, as a restart does. Returns when the other side has noticed."""
        for one in self._sockets:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(one.fileno())) as kept:
                one.shutdown(socket.SHUT_RDWR)
                end = time.monotonic() + DEADLINE
                while (
                    kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] in UNACKNOWLEDGED
                    and time.monotonic() < end
                ):
                    time.sleep(0.001)
            one.close()
        self._sockets.clear()

    def _accept(self) -> None:
        while not self._closing:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._sockets.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), connection:
            if not self.context:
                self._talk(connection)
                return
            self._sockets.remove(connection)
            with self.context.wrap_socket(connection, server_side=True) as secure:
                self._sockets.append(secure)
                self._talk(secure)

    def _talk(self, connection: socket.socket) -> None:
        while self.mode == "deaf" and not self._closing:
            time.sleep(0.01)
        with connection.makefile("rb") as stream:
            while header := stream.read(12):
                if header[:4] != b"\0REQ":
                    self.foreign += header + connection.recv(4096)
                    if self.mode == "garbage":
                        self._answer(connection, b"")
                    while self.mode == "silent" and connection.recv(4096):
                        pass
                    return
                kind, length = struct.unpack(">II", header[4:])
                body = stream.read(length)
                if kind == ECHO_REQ:
                    if self.mode == "late":
                        self._released.wait(DEADLINE)
                    if self.mode not in ("silent", "garbage"):
                        connection.sendall(packet(ECHO_RES, body))
                    continue
                function, unique, workload = body.split(b"\0", 2)
                self.jobs.append((kind, function, unique, workload))
                self._answer(connection, packet(JOB_CREATED, b"H:fake:%d" % len(self.jobs)))

    def _answer(self, connection: socket.socket, answer: bytes) -> None:
        mode = self.mode
        if mode in ("good", "late"):
            connection.sendall(answer)
        elif mode == "endless":
            connection.sendall(answer)
            status = packet(WORK_STATUS, answer[12:], b"1", b"2") * 20_000  # faster than they are read
            while not self._closing:
                connection.sendall(status)
        elif mode == "large":
            connection.sendall(b"\0RES" + struct.pack(">II", JOB_CREATED, 100_000))
        elif mode == "slow":
            time.sleep(0.1)
            connection.sendall(answer)
        elif mode == "held":
            self._released.wait(DEADLINE)
            connection.sendall(answer)
        elif mode == "close":
            connection.shutdown(socket.SHUT_RDWR)
        elif mode == "half":
            connection.sendall(answer[: len(answer) // 2])
            connection.shutdown(socket.SHUT_RDWR)
        elif mode == "garbage":
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        elif mode == "error":
            connection.sendall(packet(ERROR, b"ERR_QUEUE_FULL", b"Job queue is full"))
        elif mode == "drip":
            for byte in answer:
                connection.sendall(bytes([byte]))
                time.sleep(0.002)
        elif mode == "flood":
            for _ in range(2000):
                connection.sendall(packet(28, b"H:x:1", b"x" * 65536))
        elif mode == "huge":
            connection.sendall(b"\0RES" + struct.pack(">II", JOB_CREATED, 0xFFFFFFFF))
