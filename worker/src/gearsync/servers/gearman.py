# SPDX-License-Identifier: GPL-3.0-or-later
"""Gearman job servers: many jobs in progress on each connection, and connections that are retried
indefinitely.

Built on python3-gearman 0.1.0, whose command handler keeps the protocol's state. What this adds: the library
takes one job at a time, and gives up when all servers are gone.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import selectors
import socket
import time
from collections.abc import Sequence
from typing import Any, Callable, NamedTuple, Optional

from python3_gearman.errors import ConnectionError as GearmanConnectionError
from python3_gearman.errors import GearmanError
from python3_gearman.protocol import (
    GEARMAN_COMMAND_CAN_DO,
    GEARMAN_COMMAND_CANT_DO,
    GEARMAN_COMMAND_GRAB_JOB_UNIQ,
    GEARMAN_COMMAND_PRE_SLEEP,
    GEARMAN_COMMAND_WORK_COMPLETE,
    GEARMAN_COMMAND_WORK_DATA,
)
from python3_gearman.worker import GearmanWorker
from python3_gearman.worker_handler import GearmanWorkerCommandHandler

from gearsync.declare.tls import TlsSettings
from gearsync.servers.gearman_connection import JobServer

log = logging.getLogger(__name__)

_FIRST_WINDOW = 4


class Job(NamedTuple):
    """A job that a server has assigned and that is not yet completed."""

    connection: JobServer
    handle: bytes
    function: str
    data: bytes
    #: The protocol state of its connection, which may have been replaced by the time of the answer.
    handler: _Handler


class _Handler(GearmanWorkerCommandHandler):  # type: ignore[misc]  # the library has no types
    """One connection's state: how many GRAB_JOBs are unanswered, and how many may be.

    The window starts small and doubles while the server has a job for every GRAB_JOB: an idle queue does not
    answer with a hundred NO_JOBs, and a full one is drained a hundred jobs at a time.
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
        """Ask for ``number`` more jobs."""
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
        self.sleep_when_idle()
        return True

    def recv_job_assign_uniq(self, job_handle: bytes, task: bytes, unique: bytes, data: bytes) -> bool:
        self.unanswered -= 1
        self.held += 1
        self.connection_manager.assigned(self, job_handle, task.decode(errors="replace"), data)
        return True

    def recv_echo_res(self, data: bytes) -> bool:
        return True

    def recv_error(self, error_code: bytes, error_text: bytes) -> bool:
        log.error(
            "a job server reports error %s: %s", error_code, error_text, extra={"action": "job_server_error"}
        )
        return True

    def completed(self) -> None:
        """All held jobs are completed: ask for more, and for twice as many when the server had as many as
        were asked for.
        """
        full = self.held >= self.window
        self.held = 0
        if self.connection_manager.stopping:
            return
        if full:
            self.window = min(self.window * 2, self.connection_manager.prefetch)
        if self.unanswered < self.window:
            self.grab(self.window - self.unanswered)

    def sleep_when_idle(self) -> None:
        """Wait for a NOOP, which comes at once when the server has a job already."""
        if self.unanswered == 0 and self.held == 0:
            self.send_command(GEARMAN_COMMAND_PRE_SLEEP)


class JobServers(GearmanWorker):  # type: ignore[misc]  # the library has no types
    """All job servers: takes jobs from whichever has some, and reconnects to each indefinitely."""

    command_handler_class = _Handler
    connection_class = JobServer

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        functions: Sequence[str],
        *,
        prefetch: int,
        timeout: float,
        reconnect_max: float,
        tls: Optional[TlsSettings] = None,
    ) -> None:
        """``prefetch``: how many jobs one connection may hold; ``timeout`` and ``reconnect_max`` are in
        seconds.
        """
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
        """From now on take jobs of ``functions`` and of no others, on all connections, present and future."""
        former, wanted = set(self.worker_abilities), set(functions)
        self.worker_abilities = dict.fromkeys(functions)
        self._update_initial_state()
        for handler in self.handler_to_connection_map:
            for name in sorted(former - wanted):
                handler.send_command(GEARMAN_COMMAND_CANT_DO, task=name)
            for name in sorted(wanted - former):
                handler.send_command(GEARMAN_COMMAND_CAN_DO, task=name)
            # CAN_DO brings no NOOP, and a job that is merged into one that waits brings none either.
            handler.sleep_when_idle()

    def assigned(self, handler: _Handler, handle: bytes, function: str, data: bytes) -> None:
        self.batch.append(Job(self.handler_to_connection_map[handler], handle, function, data, handler))

    def poll(self, seconds: float) -> None:
        """Wait up to ``seconds`` for data from the servers, and read it; new jobs are appended to
        ``batch``.
        """
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
        """Send what is queued; what the sockets do not accept now is sent later."""
        for connection in self.connection_list:
            if connection.writable():
                self._guard(connection, functools.partial(self.handle_write, connection))
            if connection.connected:
                wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.writable() else 0)
                if self._selector.get_key(connection.gearman_socket).events != wanted:
                    self._selector.modify(connection.gearman_socket, wanted, connection)

    def answer(self, job: Job, data: bytes, result: bytes) -> None:
        """Send ``data`` as partial data of a job, then complete it with ``result``; nothing if its
        connection is gone.
        """
        handler = self.connection_to_handler_map.get(job.connection)
        if handler is not job.handler or not job.connection.connected:
            return
        if data:
            handler.send_command(GEARMAN_COMMAND_WORK_DATA, job_handle=job.handle, data=data)
        handler.send_command(GEARMAN_COMMAND_WORK_COMPLETE, job_handle=job.handle, data=result)

    def finish_batch(self) -> None:
        """The batch is answered: clear it and ask for the next."""
        self.batch = []
        for handler in list(self.handler_to_connection_map):
            if handler.held:
                handler.completed()
        self.flush()

    def stop(self) -> None:
        """Take no more jobs, and end a wait of ``poll``."""
        self.stopping = True
        self._wake()

    def close(self) -> None:
        """Send what is queued, for a second at most, and close; jobs that are not completed return to
        their queues.
        """
        deadline = time.monotonic() + 1.0
        while (
            any(connection.writable() for connection in self.connection_list) and time.monotonic() < deadline
        ):
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
            log.info(
                "connected to job server %s again",
                connection.address,
                extra={"action": "job_server_connected"},
            )
        else:
            log.info(
                "connected to job server %s", connection.address, extra={"action": "job_server_connected"}
            )
        connection.failures = 0
        self._selector.register(connection.gearman_socket, selectors.EVENT_READ, connection)

    def _guard(self, connection: JobServer, action: Callable[[], Any]) -> None:
        """Run ``action``; its error ends this connection, and no other."""
        try:
            action()
        except (GearmanError, OSError, ValueError) as error:
            self._lost(connection, error)

    def _lost(self, connection: JobServer, error: Exception) -> None:
        if connection.gearman_socket is not None:
            # The connection may have failed before it was registered.
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(connection.gearman_socket)
        failures = connection.failures
        self.handle_error(connection)
        # Its jobs return to the queue and are assigned again, to this worker or another: they need not be
        # written now.
        self.batch = [job for job in self.batch if job.connection is not connection]
        if failures == 0:
            log.warning(
                "job server %s is unavailable, retrying indefinitely: %s",
                connection.address,
                error,
                extra={"action": "job_server_lost"},
            )
        connection.failures = failures + 1
        connection.retry_at = time.monotonic() + min(0.1 * 2 ** min(failures, 16), self.reconnect_max)
