"""Gearman job servers: many jobs in flight on every connection, and connections that are made again for ever.

Built on python3-gearman 0.1.0, whose command handler keeps the protocol's state. What is mended here: it takes one job at a time,
counts a packet's size in characters, reads four kilobytes at a time, knows IPv4 only, connects without a timeout, and gives up when
every server is gone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import selectors
import socket
import ssl
import struct
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Callable, NamedTuple, Optional

from python3_gearman.connection import GearmanConnection
from python3_gearman.errors import ConnectionError as GearmanConnectionError
from python3_gearman.errors import GearmanError
from python3_gearman.protocol import (
    GEARMAN_COMMAND_CAN_DO,
    GEARMAN_COMMAND_CANT_DO,
    GEARMAN_COMMAND_ECHO_REQ,
    GEARMAN_COMMAND_GRAB_JOB_UNIQ,
    GEARMAN_COMMAND_PRE_SLEEP,
    GEARMAN_COMMAND_WORK_COMPLETE,
    GEARMAN_COMMAND_WORK_DATA,
    GEARMAN_PARAMS_FOR_COMMAND,
)
from python3_gearman.worker import GearmanWorker
from python3_gearman.worker_handler import GearmanWorkerCommandHandler

from gearsync.declare.configuration import TlsSettings
from gearsync.servers.gearman_socket import connect

log = logging.getLogger(__name__)

_HEADER = struct.Struct("!4sII")
_REQUEST, _RESPONSE = b"\0REQ", b"\0RES"
_READ_SIZE = 1 << 18
#: No job of ours is larger; a length beyond it means that the peer does not speak Gearman.
_MAX_PACKET = 1 << 30
#: After so long without a word a server is asked for one; without an answer in the same time it counts as lost.
_SILENCE = 30.0
_FIRST_WINDOW = 4
#: The socket, or TLS above it, can neither read nor write now.
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Job(NamedTuple):
    """A job that a server has assigned and that is not completed yet."""

    connection: JobServer
    handle: bytes
    function: str
    data: bytes
    #: The state of the connection that it came on; the connection may be another by the time of the answer.
    handler: _Handler


class JobServer(GearmanConnection):  # type: ignore[misc]  # the library has no types
    """One connection, in bytes, with timeouts."""

    timeout = 5.0
    tls: Optional[TlsSettings] = None
    _outgoing_buffer: bytes

    def __init__(self, host: str, port: int) -> None:
        self.failures = 0
        self.retry_at = 0.0
        self.heard = 0.0
        #: The attempt to connect that is under way, or done and not taken up.
        self.dialling: Optional[Future[socket.socket]] = None
        super().__init__(host=host, port=port)
        # The manager above decides when to try again.
        self.connect_cooldown_seconds = 0.0

    def _reset_connection(self) -> None:
        super()._reset_connection()
        self._incoming = bytearray()
        self._asked = False

    @property
    def address(self) -> str:
        host = f"[{self.gearman_host}]" if ":" in self.gearman_host else self.gearman_host
        return f"{host}:{self.gearman_port}"

    def dial(self, done: Callable[[], None]) -> None:
        """Begin to connect in a thread: whatever does not answer, a name server too, must not hold up the caller. ``done`` is called in it at the end."""
        attempt = self.dialling = Future[socket.socket]()

        def run() -> None:
            try:
                attempt.set_result(connect((self.gearman_host, self.gearman_port), self.timeout, self.tls))
            except Exception as error:  # noqa: BLE001  # who takes it up looks at it
                attempt.set_exception(error)
            done()

        threading.Thread(target=run, name=f"dial {self.address}", daemon=True).start()

    def _create_client_socket(self) -> None:
        attempt, self.dialling = self.dialling, None
        assert attempt is not None  # noqa: S101  # only what was dialled is taken up
        try:
            found = attempt.result(0)
        except (OSError, ValueError) as error:
            self.throw_exception(message=str(error))
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Unacknowledged data ends the connection in a known time, in place of the kernel's quarter of an hour.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_SILENCE * 1000))
        found.setblocking(False)
        self.gearman_socket = found
        self.heard = time.monotonic()

    def read_data_from_socket(self, bytes_to_read: int = _READ_SIZE) -> int:
        try:
            # More than a record of TLS, so that none is kept in part where the selector does not see it.
            data = self.gearman_socket.recv(bytes_to_read)
        except _NOT_NOW:
            return len(self._incoming)
        except OSError as error:
            self.throw_exception(message=str(error))
        if not data:
            self.throw_exception(message="closed by the job server")
        self.heard = time.monotonic()
        self._asked = False
        self._incoming += data
        return len(self._incoming)

    def read_commands_from_buffer(self) -> int:
        buffer, start, number = self._incoming, 0, 0
        while len(buffer) - start >= _HEADER.size:
            magic, kind, size = _HEADER.unpack_from(buffer, start)
            names = GEARMAN_PARAMS_FOR_COMMAND.get(kind)
            if magic != _RESPONSE or names is None or size > _MAX_PACKET:
                self.throw_exception(message="the peer does not speak Gearman's protocol")
            end = start + _HEADER.size + size
            if len(buffer) < end:
                break
            parts = bytes(buffer[start + _HEADER.size : end]).split(b"\0", len(names) - 1) if names else []
            if len(parts) != len(names):
                self.throw_exception(message=f"packet {kind} with {len(parts)} arguments in place of {len(names)}")
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
        except _NOT_NOW:
            return len(self._outgoing_buffer)
        except OSError as error:
            self.throw_exception(message=str(error))
        self._outgoing_buffer = self._outgoing_buffer[sent:]
        return len(self._outgoing_buffer)

    def check_silence(self, now: float) -> None:
        """Ask a silent server for a word; raises the library's ConnectionError when it did not answer the last time."""
        if now - self.heard < _SILENCE:
            return
        if self._asked and now - self.heard >= 2 * _SILENCE:
            self.throw_exception(message=f"silent for {now - self.heard:.0f} s")
        if not self._asked:
            self._asked = True
            self.send_command(GEARMAN_COMMAND_ECHO_REQ, {"data": b"gearsync"})


class _Handler(GearmanWorkerCommandHandler):  # type: ignore[misc]  # the library has no types
    """One connection's state: how many GRAB_JOBs are unanswered, and how many may be.

    The window starts small and doubles while the server has a job for every GRAB_JOB, so that an idle queue is not
    answered by a hundred NO_JOBs, and a full one is drained a hundred jobs at a time.
    """

    connection_manager: JobServers

    def initial_state(self, abilities: Optional[list[str]] = None, client_id: Optional[str] = None) -> None:
        self.unanswered = 0
        self.held = 0
        self.window = _FIRST_WINDOW
        super().initial_state(abilities=abilities, client_id=client_id)

    def set_abilities(self, connection_abilities_list: list[str]) -> None:
        # Without the library's RESET_ABILITIES first: this connection is new.
        self._handler_abilities = connection_abilities_list
        for task in connection_abilities_list:
            self.send_command(GEARMAN_COMMAND_CAN_DO, task=task)

    def grab(self, number: int) -> None:
        """Ask for ``number`` jobs more."""
        self.unanswered += number
        for _number in range(number):
            self.send_command(GEARMAN_COMMAND_GRAB_JOB_UNIQ)

    def recv_noop(self) -> bool:
        if self.unanswered == 0 and self.held == 0 and not self.connection_manager.stopping:
            self.grab(self.window)
        return True

    def recv_no_job(self) -> bool:
        self.unanswered -= 1
        self.window = _FIRST_WINDOW
        self._rest()
        return True

    def recv_job_assign_uniq(self, job_handle: bytes, task: bytes, unique: bytes, data: bytes) -> bool:
        self.unanswered -= 1
        self.held += 1
        self.connection_manager.assigned(self, job_handle, task.decode(errors="replace"), data)
        return True

    def recv_echo_res(self, data: bytes) -> bool:
        return True

    def recv_error(self, error_code: bytes, error_text: bytes) -> bool:
        log.error("the job server reports %s: %s", error_code, error_text, extra={"action": "job_server_error"})
        return True

    def completed(self) -> None:
        """All held jobs are done: ask for more, or sleep when the server had fewer than asked for."""
        full = self.held >= self.window
        self.held = 0
        if self.connection_manager.stopping:
            return
        if full:
            self.window = min(self.window * 2, self.connection_manager.prefetch)
        if self.unanswered < self.window:
            self.grab(self.window - self.unanswered)

    def _rest(self) -> None:
        if self.unanswered == 0 and self.held == 0:
            self.send_command(GEARMAN_COMMAND_PRE_SLEEP)


class JobServers(GearmanWorker):  # type: ignore[misc]  # the library has no types
    """All job servers: takes jobs from whichever has some, and reconnects to each for ever."""

    command_handler_class = _Handler
    connection_class = JobServer

    def __init__(
        self, addresses: Sequence[tuple[str, int]], functions: Sequence[str], *, prefetch: int, timeout: float, reconnect_max: float,
        tls: Optional[TlsSettings] = None,
    ) -> None:
        """``prefetch`` jobs may be held on one connection; ``timeout`` and ``reconnect_max`` are seconds."""
        super().__init__(host_list=list(addresses))
        self.prefetch = prefetch
        self.reconnect_max = reconnect_max
        self.stopping = False
        self.batch: list[Job] = []
        self._selector = selectors.SelectSelector()
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        for connection in self.connection_list:
            connection.timeout = timeout
            connection.tls = tls
        self.worker_abilities = dict.fromkeys(functions)
        self.set_client_id(f"gearsync-{socket.gethostname()}-{os.getpid()}")
        self._update_initial_state()

    @property
    def connected(self) -> list[str]:
        """Addresses of the servers that are connected now."""
        return [connection.address for connection in self.connection_list if connection.connected]

    def offer(self, functions: Sequence[str]) -> None:
        """Take jobs of ``functions`` and of no others from now on, on all connections, present and future."""
        former, wanted = set(self.worker_abilities), set(functions)
        self.worker_abilities = dict.fromkeys(functions)
        self._update_initial_state()
        for handler in self.handler_to_connection_map:
            for name in sorted(former - wanted):
                handler.send_command(GEARMAN_COMMAND_CANT_DO, task=name)
            for name in sorted(wanted - former):
                handler.send_command(GEARMAN_COMMAND_CAN_DO, task=name)

    def assigned(self, handler: _Handler, handle: bytes, function: str, data: bytes) -> None:
        self.batch.append(Job(self.handler_to_connection_map[handler], handle, function, data, handler))

    def poll(self, seconds: float) -> None:
        """Wait up to ``seconds`` for what the servers send, and read it; new jobs are appended to ``batch``."""
        now = time.monotonic()
        for connection in self.connection_list:
            if connection.connected:
                self._guard(connection, functools.partial(connection.check_silence, now))
            elif connection.dialling is not None:
                if connection.dialling.done():
                    self._connect(connection)
            elif not self.stopping:
                if now >= connection.retry_at:
                    connection.dial(self._wake)
                else:
                    seconds = min(seconds, connection.retry_at - now)
        self.flush()
        for key, events in self._selector.select(seconds):
            if key.data is None:
                self._woken.recv(1 << 10)
            elif events & selectors.EVENT_READ:
                self._guard(key.data, functools.partial(self.handle_read, key.data))
        self.flush()

    def flush(self) -> None:
        """Send what is to be sent; what the sockets do not take now is sent when they do."""
        for connection in self.connection_list:
            if connection.writable():
                self._guard(connection, functools.partial(self.handle_write, connection))
            if connection.connected:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.writable() else 0)
                if self._selector.get_key(connection.gearman_socket).events != wanted:
                    self._selector.modify(connection.gearman_socket, wanted, connection)

    def answer(self, job: Job, data: bytes, result: bytes) -> None:
        """Send ``data`` as partial data of a job, then complete it with ``result``, both where the connection still lives."""
        handler = self.connection_to_handler_map.get(job.connection)
        if handler is not job.handler or not job.connection.connected:
            return
        if data:
            handler.send_command(GEARMAN_COMMAND_WORK_DATA, job_handle=job.handle, data=data)
        handler.send_command(GEARMAN_COMMAND_WORK_COMPLETE, job_handle=job.handle, data=result)

    def finish_batch(self) -> None:
        """The batch is answered: forget it and ask for the next."""
        self.batch = []
        for handler in list(self.handler_to_connection_map):
            if handler.held:
                handler.completed()
        self.flush()

    def close(self) -> None:
        """Send what is waiting, for a second at most, and close; jobs that are not completed go back to their queues."""
        deadline = time.monotonic() + 1.0
        while any(connection.writable() for connection in self.connection_list) and time.monotonic() < deadline:
            self.flush()
            time.sleep(0.001)
        self.shutdown()
        self._selector.close()
        self._woken.close()
        self._waker.close()

    def _wake(self) -> None:
        """End the wait of ``poll``."""
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _connect(self, connection: JobServer) -> None:
        try:
            self.establish_connection(connection)
        except GearmanConnectionError as error:
            self._lost(connection, error)
            return
        if connection.failures:
            log.info("connected to job server %s again", connection.address, extra={"action": "job_server_connected"})
        else:
            log.info("connected to job server %s", connection.address, extra={"action": "job_server_connected"})
        connection.failures = 0
        self._selector.register(connection.gearman_socket, selectors.EVENT_READ, connection)

    def _guard(self, connection: JobServer, action: Callable[[], Any]) -> None:
        """Run ``action``; an error of it is the connection's end and nobody else's."""
        try:
            action()
        except (GearmanError, OSError, ValueError) as error:
            self._lost(connection, error)

    def _lost(self, connection: JobServer, error: Exception) -> None:
        if connection.gearman_socket is not None:
            # It may have failed before it was registered.
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(connection.gearman_socket)
        failures = connection.failures
        self.handle_error(connection)
        # Its jobs go back to the queue and come again, here or elsewhere: what was not written yet need not be.
        self.batch = [job for job in self.batch if job.connection is not connection]
        if failures == 0:
            log.warning("job server %s is lost, trying again for ever: %s", connection.address, error, extra={"action": "job_server_lost"})
        connection.failures = failures + 1
        connection.retry_at = time.monotonic() + min(0.1 * 2 ** min(failures, 16), self.reconnect_max)
