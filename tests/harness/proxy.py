# SPDX-License-Identifier: GPL-3.0-or-later
"""A network between clients and a server on this host: what the proxies of the tests share."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod

from harness.ports import free_port


class Proxy(ABC):
    """Accepts connections on ``port``, and makes one to the server for each."""

    def __init__(self, server: int) -> None:
        """``server``: the port."""
        self.port = free_port()
        self.server = server
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def end_connections(self) -> None:
        """As a network that was interrupted for a moment."""
        # They are closed at the end: a thread may be about to read from one.
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # Closing it alone would not wake the thread, which could accept another connection.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self.end_connections()
        for each in self._sockets:
            each.close()

    @abstractmethod
    def _begin(self, client: socket.socket, server: socket.socket) -> None:
        """Start the threads that pass on what the two send each other."""

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.server))
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            self._begin(client, server)
