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
    """OpenSSL's errors do not tell which file they are about."""
    # Python's neither, when one is missing or may not be read.
    for file in files:
        pathlib.Path(file).open("rb").close()
    try:
        yield
    except ssl.SSLError as error:
        raise ssl.SSLError(f"{' with '.join(files)} cannot be used: {error.reason or error}") from error


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, in which the server must prove its name. Raises OSError that names the file of no use."""
    if settings.ca:
        with _naming(settings.ca):
            context = ssl.create_default_context(cafile=settings.ca)
    else:
        context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 became stricter than OpenSSL, and than the SQL functions: not every private authority is made by the book.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # The protocol's loop reads when there is something to read, and not when there is room to write.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if settings.cert and settings.key:
        with _naming(settings.cert, settings.key):
            # An encrypted key is an error; without a password OpenSSL would ask the terminal for one.
            context.load_cert_chain(settings.cert, settings.key, password=lambda: "")
    return context


def connect(address: tuple[str, int], timeout: float, tls: Optional[TlsSettings] = None) -> socket.socket:
    """A connected socket, whose operations may take ``timeout`` seconds each; with ``tls`` after the handshake. Raises OSError.

    The files of ``tls`` are read for each connection, so that renewed ones are taken without a restart.
    """
    context = tls_context(tls) if tls else None
    found = socket.create_connection(address, timeout=timeout)
    try:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return context.wrap_socket(found, server_hostname=address[0]) if context else found
    except BaseException:
        found.close()
        raise
