# SPDX-License-Identifier: GPL-2.0-or-later
"""A name server on loopback that can misbehave."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

A, CNAME, AAAA = 1, 5, 28


class FakeDns:
    """Answers for the names in `names` (addresses of both families, in their text form) as `mode` says, which
    may change at any time.

    good. alias: the addresses belong to another name. silent: never. fails: SERVFAIL. garbage: bytes without
    sense. stranger: the right answer with another number, and nothing else. only4: no word about IPv6.
    truncated: cut within a record.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", mode: str = "good") -> None:
        self.mode = mode
        self.names: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, port))
        self._socket.settimeout(0.1)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> FakeDns:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while not self._closing:
            with contextlib.suppress(TimeoutError, OSError):
                query, client = self._socket.recvfrom(4096)
                answer = self._answer(query)
                if answer is not None:
                    self._socket.sendto(answer, client)

    def _answer(self, query: bytes) -> bytes | None:
        labels, at = [], 12
        while size := query[at]:
            labels.append(query[at + 1 : at + 1 + size].decode())
            at += 1 + size
        name, (kind,) = ".".join(labels), struct.unpack(">H", query[at + 1 : at + 3])
        question = query[12 : at + 5]
        self.asked.append(name)
        if self.mode == "silent" or (self.mode == "only4" and kind == AAAA):
            return None
        if self.mode == "garbage":
            return query[:2] + b"\x81\x80" + b"\xff" * 40
        known = name in self.names
        code = 2 if self.mode == "fails" else 0 if known else 3
        wanted = (
            [one for one in self.names.get(name, []) if (":" in one) == (kind == AAAA)] if code == 0 else []
        )
        owner, records = b"\xc0\x0c", b""
        count = len(wanted)
        if self.mode == "alias" and wanted:
            target = b"\x05other\x07example\x00"
            records += owner + struct.pack(">HHIH", CNAME, 1, 60, len(target)) + target
            owner, count = target, count + 1
        for one in wanted:
            data = socket.inet_pton(socket.AF_INET6 if kind == AAAA else socket.AF_INET, one)
            records += owner + struct.pack(">HHIH", kind, 1, 60, len(data)) + data
        number = bytes([query[0] ^ 0xFF, query[1]]) if self.mode == "stranger" else query[:2]
        if self.mode == "truncated" and records:
            return number + struct.pack(">HHHHH", 0x8380, 1, count, 0, 0) + question + records[:-3]
        return number + struct.pack(">HHHHH", 0x8180 | code, 1, count, 0, 0) + question + records
