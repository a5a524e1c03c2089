# SPDX-License-Identifier: GPL-3.0-or-later
"""Gearman's binary protocol, as far as clients and workers of the tests speak it. Knows nothing of the
code under test.
"""

from __future__ import annotations

import socket
import struct
from typing import Self

HEADER = struct.Struct(">4sII")
CAN_DO, PRE_SLEEP, NOOP, SUBMIT_JOB, JOB_CREATED, GRAB_JOB, NO_JOB, JOB_ASSIGN = 1, 4, 6, 7, 8, 9, 10, 11
WORK_STATUS, WORK_COMPLETE, WORK_FAIL, SUBMIT_JOB_BG, WORK_EXCEPTION, WORK_DATA, WORK_WARNING = (
    12,
    13,
    14,
    18,
    25,
    28,
    29,
)
#: Seconds for an answer.
ANSWER = 180


def packet(kind: int, *parts: bytes) -> bytes:
    """A request."""
    body = b"\0".join(parts)
    return HEADER.pack(b"\0REQ", kind, len(body)) + body


class Connection:
    """A connection to a job server. ``seconds``: how long an answer may take; None for ever."""

    def __init__(self, port: int, host: str = "127.0.0.1", seconds: float | None = ANSWER) -> None:
        self.socket = socket.create_connection((host, port), timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, kind: int, *parts: bytes) -> None:
        self.socket.sendall(packet(kind, *parts))

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError("the job server closed the connection")
            data += more
        return bytes(data)

    def receive(self) -> tuple[int, bytes]:
        """The kind and the body of the next packet."""
        _magic, kind, size = HEADER.unpack(self._exactly(HEADER.size))
        return kind, self._exactly(size)
