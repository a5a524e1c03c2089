"""Processes, signals and systemd: starts the worker processes, restarts one that dies, tells systemd that all of them make progress."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Callable, Optional, Union

import sdnotify

from gearsync import logs
from gearsync.config import Config, parse_address
from gearsync.database import Database
from gearsync.direct import DirectDelivery, Router
from gearsync.drain import Drain
from gearsync.job_server import JobServers
from gearsync.reverse import NAME as REVERSE
from gearsync.target import Target
from gearsync.transform import transforms

log = logging.getLogger(__name__)

_STEP_SECONDS = 0.5
_RESTART_SECONDS = 1.0
#: A process that has not finished a step for so long is stuck; systemd's watchdog then restarts the service.
_STUCK_SECONDS = 20.0
_WAKE_TIMEOUT = 0.25


@contextmanager
def stop_signals(action: Any) -> Iterator[None]:
    """Call ``action(count)`` for every SIGTERM and SIGINT, with how many there were; the former handlers come back afterwards."""
    count = 0

    def handle(_number: int, _frame: Optional[FrameType]) -> None:
        nonlocal count
        count += 1
        action(count)

    former = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _servers(config: Config, functions: Sequence[str], timeout: float) -> JobServers:
    return JobServers(
        [parse_address(server) for server in config.job_servers], functions,
        prefetch=config.worker.prefetch, timeout=timeout, reconnect_max=config.worker.reconnect_max,
    )


def direct(config: Config) -> DirectDelivery:
    """The loop of a process that takes jobs."""
    router = Router(config.tables, transforms(config))
    servers = _servers(config, [*router.functions, REVERSE], config.worker.io_timeout)
    return DirectDelivery(config, servers, Target(config.redis, config.worker.io_timeout), router)


def drain(config: Config) -> Drain:
    """The loop of a process that drains shards of the outbox."""
    settings = config.worker
    assert config.mysql is not None  # noqa: S101  # the configuration was checked
    # Wakes are a help and nothing more: a job server that does not answer must not hold up the drain for long.
    servers = _servers(config, [], min(settings.io_timeout, _WAKE_TIMEOUT))
    # A batch is thousands of small objects without cycles: looking for these at every few hundred costs a tenth of the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    database = Database(config.mysql, settings.io_timeout, idle=2 * settings.lease)
    return Drain(config, servers, Target(config.redis, settings.io_timeout), database, transforms(config))


def work(config: Config, kind: Callable[[Config], Union[DirectDelivery, Drain]], progress: Any) -> None:
    """One worker process: runs until it is told to stop. ``progress`` (a shared double) gets the time of each finished step."""
    logs.configure(config.worker.log_level, config.worker.log_format)
    delivery = kind(config)
    deadline = float("inf")

    def stop(count: int) -> None:
        nonlocal deadline
        delivery.stop()
        # The second one means "at once": what is in hand goes back to its queue when the connection closes.
        deadline = time.monotonic() + (config.worker.shutdown_timeout if count == 1 else 0.0)

    with stop_signals(stop):
        while not delivery.stopped and time.monotonic() < deadline:
            delivery.step(_STEP_SECONDS)
            progress.value = time.monotonic()
    delivery.close()
    delivery.servers.close()
    delivery.target.close()
    log.info("stopped after %s", ", ".join(f"{number} {name}" for name, number in delivery.counts.items()) or "nothing", extra={"action": "stopped"})


class _Child:
    """One worker process and when it last made progress."""

    def __init__(self, config: Config, kind: Callable[[Config], Union[DirectDelivery, Drain]]) -> None:
        self._config = config
        self._kind = kind
        # fork: nothing has been opened and no thread was started when the processes are made.
        self._context = multiprocessing.get_context("fork")
        self.progress = self._context.Value("d", time.monotonic(), lock=False)
        self.restart_at = 0.0
        self.process: BaseProcess = self._start()

    def _start(self) -> BaseProcess:
        self.progress.value = time.monotonic()
        process = self._context.Process(target=work, args=(self._config, self._kind, self.progress), daemon=True)
        process.start()
        return process

    def revive(self, now: float) -> None:
        """Start the process again when it died, a second after it did."""
        if self.process.is_alive():
            return
        if self.restart_at == 0.0:
            log.error("worker process %s died with status %s", self.process.pid, self.process.exitcode, extra={"action": "process_died"})
            self.restart_at = now + _RESTART_SECONDS
        elif now >= self.restart_at:
            self.restart_at = 0.0
            self.process = self._start()

    def signal(self, number: int) -> None:
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, number)


def run(config: Config) -> int:
    """Run the service until it is told to stop; the exit status."""
    notifier = sdnotify.SystemdNotifier()
    stops = 0

    def stop(count: int) -> None:
        nonlocal stops
        stops = count

    with stop_signals(stop):
        children = [_Child(config, direct) for _number in range(config.worker.processes)]
        if config.mysql is not None:
            children += [_Child(config, drain) for _number in range(config.worker.drainers)]
        # Ready means: configured and running. Servers that are down are waited for, and must not fail the start.
        notifier.notify("READY=1")
        log.info(
            "%d processes for %d tables, job servers %s", len(children), len(config.tables), ", ".join(config.job_servers), extra={"action": "started"}
        )
        while not stops:
            now = time.monotonic()
            for child in children:
                child.revive(now)
            if all(now - child.progress.value < _STUCK_SECONDS for child in children):
                notifier.notify("WATCHDOG=1")
            time.sleep(_STEP_SECONDS)

        notifier.notify("STOPPING=1")
        deadline = time.monotonic() + config.worker.shutdown_timeout + 1.0
        sent = 0
        while any(child.process.is_alive() for child in children) and time.monotonic() < deadline:
            if sent < stops:
                sent = stops
                for child in children:
                    child.signal(signal.SIGTERM)
            time.sleep(0.02)
    for child in children:
        child.signal(signal.SIGKILL)
        child.process.join()
    sys.stderr.flush()
    return 0
