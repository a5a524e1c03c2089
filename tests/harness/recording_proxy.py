# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody on the network, who reads all that a client and a server send each other."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from harness.proxy import Proxy


class RecordingProxy(Proxy):
    """Passes TCP connections on to a port of this host, and keeps what goes each way."""

    def __init__(self, server: int) -> None:
        #: Of each connection: what its client sent, and what the server did.
        self._recorded: list[tuple[bytearray, bytearray]] = []
        super().__init__(server)

    @property
    def accepted(self) -> int:
        """How many connections there were."""
        return len(self._recorded)

    @property
    def sent(self) -> bytes:
        """All that clients sent."""
        return b"\n".join(bytes(sent) for sent, _answered in self._recorded)

    @property
    def seen(self) -> bytes:
        """All that went either way."""
        return b"\n".join(bytes(part) for both in self._recorded for part in both)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, client: socket.socket, server: socket.socket) -> None:
        sent, answered = bytearray(), bytearray()
        self._recorded.append((sent, answered))
        for source, target, record in ((client, server, sent), (server, client, answered)):
            threading.Thread(target=self._pass_on, args=(source, target, record), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                record += data
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
