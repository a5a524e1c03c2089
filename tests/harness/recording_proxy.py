# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody on the network, who reads all that a client and a server send each other."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from harness.ports import free_port


class RecordingProxy:
    """Passes TCP connections on to a port of this host, and keeps what goes each way."""

    def __init__(self, server: int) -> None:
        self.port = free_port()
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._sockets: list[socket.socket] = []
        #: Of each connection: what its client sent, and what the server did.
        self._recorded: list[tuple[bytearray, bytearray]] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

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

    def end_connections(self) -> None:
        """As a network that was interrupted for a moment."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # Closing it alone would not wake the thread, which could accept another connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.end_connections()
        for each in self._sockets:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            recorded = bytearray(), bytearray()
            self._recorded.append(recorded)
            for source, target, record in ((client, server, recorded[0]), (server, client, recorded[1])):
                threading.Thread(target=self._pass_on, args=(source, target, record), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                record += data
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
