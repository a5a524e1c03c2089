# SPDX-License-Identifier: GPL-3.0-or-later
"""A network between a client and a server that delivers late: also after the client has given up and gone."""

from __future__ import annotations

import contextlib
import socket
import threading

from harness.proxy import Proxy


class LateProxy(Proxy):
    """Passes TCP connections on; what is sent while it ``holds`` arrives when it ``delivers``, on the
    connection that it was sent on.
    """

    def __init__(self, server: int) -> None:
        """``server``: the port."""
        self._lock = threading.Lock()
        self._holding = False
        self._held: list[tuple[socket.socket, bytes]] = []
        super().__init__(server)

    def hold(self) -> None:
        """From now on nothing that clients send on these connections arrives; new connections work."""
        with self._lock:
            self._holding = True

    def pass_on(self) -> None:
        """Let new connections through; what the held ones were sent waits on."""
        with self._lock:
            self._holding = False

    @property
    def held(self) -> int:
        """Bytes that wait."""
        with self._lock:
            return sum(len(data) for _upstream, data in self._held)

    def switch(self, server: int) -> None:
        """End all connections, and pass new ones on to another port."""
        self.server = server
        self.end_connections()

    def deliver(self) -> None:
        """Deliver what was held, as a network does whose route is there again."""
        with self._lock:
            held, self._held = self._held, []
        for upstream, data in held:
            with contextlib.suppress(OSError):
                upstream.sendall(data)
                upstream.shutdown(socket.SHUT_WR)

    def _begin(self, client: socket.socket, server: socket.socket) -> None:
        for pump in (self._up, self._down):
            threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, upstream: socket.socket) -> None:
        late = False
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                with self._lock:
                    # One that has lost a packet delivers none of those that follow it.
                    late = late or self._holding
                    if late:
                        self._held.append((upstream, data))
                if not late:
                    upstream.sendall(data)
            if not late:
                upstream.shutdown(socket.SHUT_WR)

    @staticmethod
    def _down(client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := upstream.recv(1 << 16):
                client.sendall(data)
            client.shutdown(socket.SHUT_WR)
