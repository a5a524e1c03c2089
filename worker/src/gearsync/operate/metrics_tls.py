# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS of the metrics page, with files that may be renewed at any time."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Optional

from gearsync.declare.configuration import WorkerSettings
from gearsync.declare.problem import Problem
from gearsync.declare.tls import ServingTls
from gearsync.servers.tls import configure, naming

log = logging.getLogger(__name__)


def _context(settings: ServingTls) -> ssl.SSLContext:
    """Raises OSError, which names a file that is unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    configure(context, settings)
    if settings.ca:
        with naming(settings.ca):
            context.load_verify_locations(settings.ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def file_problems(settings: WorkerSettings) -> Iterator[Problem]:
    """Why the metrics page cannot be served with its certificate."""
    if settings.metrics_listen is None or settings.metrics_tls is None:
        return
    try:
        _context(settings.metrics_tls)
    except OSError as error:
        hint = "the user that runs the worker must be able to read it, and the key must be the certificate's"
        yield Problem(("worker", "metrics_tls"), str(error), hint)


class Renewed:
    """Accepts connections with the certificate that is in the files at the time."""

    def __init__(self, settings: ServingTls) -> None:
        """Raises OSError, which names a file that is unusable."""
        self._settings = settings
        self._lock = threading.Lock()
        self._used = self._stamps()
        self._refused = self._used, ""
        self._context = _context(settings)

    def _stamps(self) -> list[Optional[tuple[int, ...]]]:
        return list(map(_stamp, filter(None, (self._settings.cert, self._settings.key, self._settings.ca))))

    def _current(self) -> ssl.SSLContext:
        with self._lock:
            # Before the files are read: one that changes meanwhile is looked at again.
            stamps = self._stamps()
            if stamps == self._used:
                return self._context
            try:
                self._context, self._used = _context(self._settings), stamps
                log.info("the metrics page has a renewed certificate", extra={"action": "metrics"})
            except OSError as error:
                if self._refused != (stamps, str(error)):
                    log.warning(
                        "the metrics page keeps its former certificate: %s",
                        error,
                        extra={"action": "metrics_failed"},
                    )
                self._refused = stamps, str(error)
            return self._context

    def accept(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection after the handshake, which may take the connection's timeout. Raises OSError."""
        return self._current().wrap_socket(connection, server_side=True)


def _stamp(file: str) -> Optional[tuple[int, ...]]:
    """Of a file: another one, or one that was written again, has another stamp."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
