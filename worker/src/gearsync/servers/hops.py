# SPDX-License-Identifier: GPL-3.0-or-later
"""How the way to a server is protected."""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple


class Hop(NamedTuple):
    """In a few words; and whether others on a network may read it, or answer in the server's place."""

    text: str
    is_exposed: bool


def _within_host(connection: socket.socket) -> bool:
    return bool(connection.getpeername()[0] == connection.getsockname()[0])


def hop(connection: socket.socket, is_verified: bool) -> Hop:
    """The hop that a connected socket is. ``is_verified``: whether TLS was only agreed to with the right
    server. Raises OSError.
    """
    if connection.family == socket.AF_UNIX:
        return Hop("unix socket", False)
    place = "within this host" if _within_host(connection) else "over a network"
    if not isinstance(connection, ssl.SSLSocket):
        return Hop(f"plain text {place}", not _within_host(connection))
    if is_verified:
        return Hop(f"{connection.version()}, verified", False)
    return Hop(f"{connection.version()}, not verified, {place}", not _within_host(connection))
