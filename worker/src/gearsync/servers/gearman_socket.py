# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket to a job server, plain or with TLS."""

from __future__ import annotations

import socket
from typing import Optional

from gearsync.declare.tls import TlsSettings
from gearsync.servers.tls import Handshake


def connect(address: tuple[str, int], timeout: float, tls: Optional[TlsSettings] = None) -> socket.socket:
    """A connected socket whose operations may take ``timeout`` seconds each; with ``tls``, after the
    handshake.

    Raises OSError.
    """
    handshake = Handshake(tls) if tls else None
    connection = socket.create_connection(address, timeout=timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return handshake.wrap_socket(connection, address[0]) if handshake else connection
    except BaseException:
        connection.close()
        raise
