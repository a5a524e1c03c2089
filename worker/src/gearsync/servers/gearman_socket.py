# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket to a job server, plain or with TLS."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import ssl
from collections.abc import Iterator
from typing import Optional

from gearsync.declare.configuration import TlsSettings


@contextlib.contextmanager
def _naming(*files: str) -> Iterator[None]:
    """Name ``files`` in an error that is raised inside: OpenSSL's errors do not name the file."""
    # Nor does the error of a file that is missing or may not be read, unless it is opened here.
    for file in files:
        pathlib.Path(file).open("rb").close()
    try:
        yield
    except ssl.SSLError as error:
        raise ssl.SSLError(f"{' with '.join(files)} cannot be used: {error.reason or error}") from error


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """A context for TLS 1.2 or later that verifies the server's name. Raises OSError, which names a file
    that is unusable.
    """
    if settings.ca:
        with _naming(settings.ca):
            context = ssl.create_default_context(cafile=settings.ca)
    else:
        context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 became stricter than OpenSSL, and than the SQL functions: certificates of many private
    # authorities fail.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # The event loop reads only when the socket is readable; a renegotiation could need a write to go on.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if settings.cert and settings.key:
        with _naming(settings.cert, settings.key):
            # An encrypted key is an error; without this callback OpenSSL would ask the terminal for a
            # password.
            context.load_cert_chain(settings.cert, settings.key, password=lambda: "")
    return context


def connect(address: tuple[str, int], timeout: float, tls: Optional[TlsSettings] = None) -> socket.socket:
    """A connected socket whose operations may take ``timeout`` seconds each; with ``tls``, after the
    handshake.

    The files of ``tls`` are read for each connection, so that renewed ones are used without a restart. Raises
    OSError.
    """
    context = tls_context(tls) if tls else None
    connection = socket.create_connection(address, timeout=timeout)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(connection, server_hostname=address[0]) if context else connection
    except BaseException:
        connection.close()
        raise
