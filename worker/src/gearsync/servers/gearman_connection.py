# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to a Gearman job server, in bytes, with timeouts.

Built on python3-gearman 0.1.0, which counts a packet's size in characters, reads four kilobytes at a time,
knows IPv4 only and connects without a timeout.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from concurrent.futures import Future
from typing import Any, Callable, Optional

from python3_gearman.connection import GearmanConnection
from python3_gearman.protocol import GEARMAN_COMMAND_ECHO_REQ, GEARMAN_PARAMS_FOR_COMMAND

from gearsync.declare.tls import TlsSettings
from gearsync.servers.gearman_socket import connect

_HEADER = struct.Struct("!4sII")
_REQUEST, _RESPONSE = b"\0REQ", b"\0RES"
_READ_SIZE = 1 << 18
#: Larger than any job of the worker; a greater length means that the peer does not speak Gearman.
_MAX_PACKET = 1 << 30
#: After so many seconds without data a server is sent an echo request; it is lost when it does not answer in
#: the same time.
_SILENCE = 30.0
#: The socket, or TLS above it, can neither read nor write now.
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class JobServer(GearmanConnection):  # type: ignore[misc]  # the library has no types
    """One connection to a job server."""

    timeout = 5.0
    tls: Optional[TlsSettings] = None
    _outgoing_buffer: bytes

    def __init__(self, host: str, port: int) -> None:
        self.failures = 0
        self.retry_at = 0.0
        #: When data was received last.
        self.received_at = 0.0
        #: The attempt to connect that is in progress, or has ended and is not used yet.
        self.dialling: Optional[Future[socket.socket]] = None
        super().__init__(host=host, port=port)
        # JobServers decides when to retry.
        self.connect_cooldown_seconds = 0.0

    def _reset_connection(self) -> None:
        super()._reset_connection()
        self._incoming = bytearray()
        self._is_probed = False

    @property
    def address(self) -> str:
        host = f"[{self.gearman_host}]" if ":" in self.gearman_host else self.gearman_host
        return f"{host}:{self.gearman_port}"

    def dial(self, done: Callable[[], None]) -> None:
        """Begin to connect in a thread, which calls ``done`` at its end: neither the job server nor a
        name server may delay the caller.
        """
        attempt = self.dialling = Future[socket.socket]()

        def run() -> None:
            try:
                attempt.set_result(connect((self.gearman_host, self.gearman_port), self.timeout, self.tls))
            except Exception as error:  # noqa: BLE001  # raised again by _create_client_socket
                attempt.set_exception(error)
            done()

        threading.Thread(target=run, name=f"dial {self.address}", daemon=True).start()

    def _create_client_socket(self) -> None:
        attempt, self.dialling = self.dialling, None
        assert attempt is not None  # noqa: S101  # dial() was called before
        try:
            connection = attempt.result(0)
        except (OSError, ValueError) as error:
            self.throw_exception(message=str(error))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Unacknowledged data ends the connection after this time; the kernel's default is a quarter of an
        # hour.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_SILENCE * 1000))
        connection.setblocking(False)
        self.gearman_socket = connection
        self.received_at = time.monotonic()

    def read_data_from_socket(self, bytes_to_read: int = _READ_SIZE) -> int:
        try:
            # More than a TLS record holds, so that no part of one stays buffered where the selector does not
            # see it.
            data = self.gearman_socket.recv(bytes_to_read)
        except _WOULD_BLOCK:
            return len(self._incoming)
        except OSError as error:
            self.throw_exception(message=str(error))
        if not data:
            self.throw_exception(message="the job server closed the connection")
        self.received_at = time.monotonic()
        self._is_probed = False
        self._incoming += data
        return len(self._incoming)

    def read_commands_from_buffer(self) -> int:
        buffer, start, number = self._incoming, 0, 0
        while len(buffer) - start >= _HEADER.size:
            magic, kind, size = _HEADER.unpack_from(buffer, start)
            names = GEARMAN_PARAMS_FOR_COMMAND.get(kind)
            if magic != _RESPONSE or names is None or size > _MAX_PACKET:
                self.throw_exception(
                    message="the peer does not speak Gearman's protocol; check the address and TLS"
                )
            end = start + _HEADER.size + size
            if len(buffer) < end:
                break
            parts = bytes(buffer[start + _HEADER.size : end]).split(b"\0", len(names) - 1) if names else []
            if len(parts) != len(names):
                self.throw_exception(
                    message=f"packet {kind} has {len(parts)} arguments instead of {len(names)}"
                )
            self._incoming_commands.append((kind, dict(zip(names, parts))))
            start = end
            number += 1
        del buffer[:start]
        return number

    def _pack_command(self, cmd_type: int, cmd_args: dict[str, Any]) -> bytes:
        values = [cmd_args[name] for name in GEARMAN_PARAMS_FOR_COMMAND[cmd_type]]
        payload = b"\0".join(value if isinstance(value, bytes) else value.encode() for value in values)
        return _HEADER.pack(_REQUEST, cmd_type, len(payload)) + payload

    def send_data_to_socket(self) -> int:
        try:
            sent = self.gearman_socket.send(self._outgoing_buffer)
        except _WOULD_BLOCK:
            return len(self._outgoing_buffer)
        except OSError as error:
            self.throw_exception(message=str(error))
        self._outgoing_buffer = self._outgoing_buffer[sent:]
        return len(self._outgoing_buffer)

    def check_silence(self, now: float) -> None:
        """Send a silent server an echo request. Raises the library's ConnectionError when the last one
        has no answer.
        """
        if now - self.received_at < _SILENCE:
            return
        if self._is_probed and now - self.received_at >= 2 * _SILENCE:
            self.throw_exception(message=f"no data for {now - self.received_at:.0f} s")
        if not self._is_probed:
            self._is_probed = True
            self.send_command(GEARMAN_COMMAND_ECHO_REQ, {"data": b"gearsync"})
