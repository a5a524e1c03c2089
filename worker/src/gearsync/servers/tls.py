# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS to a server of any kind, always verified."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import ssl
from collections.abc import Iterator
from typing import Union

from gearsync.declare.tls import ServingTls, TlsSettings


@contextlib.contextmanager
def naming(*files: str) -> Iterator[None]:
    """Name ``files`` in an error that is raised inside: OpenSSL's errors do not name the file."""
    try:
        # Nor does the error of a file that is missing or may not be read, unless it is opened here.
        for file in files:
            pathlib.Path(file).open("rb").close()
        yield
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror or error
        raise OSError(f"{error.filename or ' with '.join(files)} cannot be used: {reason}") from error


def _context(settings: TlsSettings) -> ssl.SSLContext:
    """Raises OSError, which names a file that is unusable."""
    if settings.ca:
        with naming(settings.ca):
            context = ssl.create_default_context(cafile=settings.ca)
    else:
        context = ssl.create_default_context()
    configure(context, settings)
    return context


def configure(context: ssl.SSLContext, settings: Union[TlsSettings, ServingTls]) -> None:
    """What holds at both ends: the versions, the certificate to show, how one that is shown is verified.
    Raises OSError, which names a file that is unusable.
    """
    context.minimum_version = ssl.TLSVersion[settings.minimum_version.replace(".", "_")]
    # Python 3.13 became stricter than OpenSSL, and than the SQL functions: certificates of many private
    # authorities fail.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # The event loop reads only when the socket is readable; a renegotiation could need a write to go on.
    context.options |= ssl.OP_NO_RENEGOTIATION
    if settings.cert and settings.key:
        with naming(settings.cert, settings.key):
            # An encrypted key is an error; without this callback OpenSSL would ask the terminal for a
            # password.
            context.load_cert_chain(settings.cert, settings.key, password=lambda: "")


class Handshake:
    """The handshake of one connection.

    The files of the settings are read for each, and before a server is connected to: renewed ones are used
    without a restart, and a server does not count attempts that end for want of a file.
    """

    def __init__(self, settings: TlsSettings) -> None:
        """Raises OSError, which names a file that is unusable."""
        self._context = _context(settings)
        self._name = settings.server_name

    def wrap_socket(self, connection: socket.socket, server_hostname: str) -> ssl.SSLSocket:
        """The connection with TLS, to a server that has shown a valid certificate of the settings' name, or
        of ``server_hostname``. Raises OSError.
        """
        return self._context.wrap_socket(connection, server_hostname=self._name or server_hostname)
