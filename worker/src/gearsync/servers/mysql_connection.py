# SPDX-License-Identifier: GPL-3.0-or-later
"""PyMySQL's connection, with what it lacks: TLS that is verified and never given up, and errors for
malformed packets.
"""

from __future__ import annotations

import ssl
import struct
from typing import Any, Optional, Union

import pymysql
from pymysql.constants import CLIENT, CR

from gearsync.declare.tls import TlsSettings
from gearsync.servers.hops import Hop, hop
from gearsync.servers.tls import Handshake


def _unverified() -> ssl.SSLContext:
    """TLS without verification of the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_UNVERIFIED = _unverified()


class Connection(pymysql.connections.Connection):  # type: ignore[misc]  # PyMySQL has no types
    """A connection with TLS by the settings, or else, over TCP, where the server has some."""

    def __init__(self, tls: Optional[TlsSettings], **options: Any) -> None:
        """Raises MySQLError."""
        self._address = options.get("unix_socket") or f"{options['host']}:{options['port']}"
        # A Unix socket needs no TLS.
        self._is_verified = bool(tls and not options.get("unix_socket"))
        try:
            super().__init__(
                ssl=Handshake(tls) if tls and self._is_verified else None,
                ssl_disabled=bool(options.get("unix_socket")),
                **options,
            )
        except (OSError, ValueError) as error:
            raise pymysql.err.OperationalError(CR.CR_SSL_CONNECTION_ERROR, f"TLS: {error}") from None

    def _create_ssl_ctx(self, sslp: Union[Handshake, dict[str, Any]]) -> Union[Handshake, ssl.SSLContext]:
        # PyMySQL's own context reads the host's certificate authorities each time, and does not use them.
        return sslp if isinstance(sslp, Handshake) else _UNVERIFIED

    def _get_server_information(self) -> None:
        super()._get_server_information()
        # Before anything is sent; older releases of PyMySQL would go on in plain text.
        if self._is_verified and not self.server_capabilities & CLIENT.SSL:
            raise pymysql.err.OperationalError(
                CR.CR_SSL_CONNECTION_ERROR,
                f"{self._address} has no TLS, which mysql.tls demands: give the server a certificate, or "
                "leave mysql.tls out",
            )

    def connect(self, sock: Any = None) -> None:
        """Raises MySQLError, also for a malformed packet, whose lengths PyMySQL does not check."""
        try:
            super().connect(sock)
        except (struct.error, IndexError, ValueError) as error:
            raise pymysql.err.OperationalError(
                CR.CR_MALFORMED_PACKET, f"{self._address} does not answer as a MySQL server: {error}"
            ) from None
        except RuntimeError:
            # PyMySQL lacks a package, to encrypt the password for a server that has not shown who it is.
            raise pymysql.err.OperationalError(
                CR.CR_AUTH_PLUGIN_CANNOT_LOAD,
                f"the password of {self.user!r} at {self._address} would cross the network without TLS, "
                "which its method does not allow: set mysql.tls, or connect by unix_socket",
            ) from None

    @property
    def hop(self) -> Hop:
        """How it is protected, while it is connected."""
        return hop(self._sock, self._is_verified)
