"""A private job server, with the client side of its protocol."""

from __future__ import annotations

import socket
import struct

from harness.gearmand import Gearmand
from harness.waiting import until

SUBMIT_JOB, SUBMIT_JOB_BG, JOB_CREATED, WORK_COMPLETE, WORK_DATA = 7, 18, 8, 13, 28
#: Seconds for an answer.
ANSWER = 180


def _packets(kind: int, function: str, payloads: tuple[bytes, ...], unique: str = "") -> bytes:
    bodies = [b"\0".join([function.encode(), unique.encode(), payload]) for payload in payloads]
    return b"".join(struct.pack("!4sII", b"\0REQ", kind, len(body)) + body for body in bodies)


def _answer(client: socket.socket) -> tuple[int, bytes]:
    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = client.recv(size - len(data))
            assert more, "gearmand closed the connection"
            data += more
        return data

    _magic, kind, size = struct.unpack("!4sII", exactly(12))
    return kind, exactly(size)


class JobServer(Gearmand):
    """gearmand, and what clients send to it."""

    def reset(self) -> None:
        """Running, with no job and no worker."""
        # Jobs are in its memory only.
        if self.running and any(int(line.split("\t")[1]) for line in self.admin("status").splitlines()):
            self.stop()
        if not self.running:
            self.start()
        # It has yet to see that the connections of killed workers are closed.
        until(lambda: [line for line in self.admin("status").splitlines() if not line.endswith("\t0")], [])

    def _connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=ANSWER)

    def submit(self, function: str, *payloads: bytes, unique: str = "") -> list[bytes]:
        """Queue background jobs; their handles. Those with one ``unique`` are merged."""
        with self._connect() as client:
            client.sendall(_packets(SUBMIT_JOB_BG, function, payloads, unique))
            answers = [_answer(client) for _ in payloads]
        assert {kind for kind, _ in answers} == {JOB_CREATED}
        return [handle for _, handle in answers]

    def do(self, function: str, payload: bytes) -> list[tuple[int, bytes]]:
        """Run a foreground job; the kind and the data of each packet about it, the last being WORK_COMPLETE."""
        with self._connect() as client:
            client.sendall(_packets(SUBMIT_JOB, function, (payload,)))
            packets: list[tuple[int, bytes]] = []
            while not packets or packets[-1][0] != WORK_COMPLETE:
                kind, body = _answer(client)
                packets.append((kind, body.partition(b"\0")[2]))
            return packets
