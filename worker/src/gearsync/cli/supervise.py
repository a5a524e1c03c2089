# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes, signals and systemd: starts the worker processes, restarts one that dies, serves the metrics,
and notifies systemd while all of the processes make progress.
"""

from __future__ import annotations

import copy
import functools
import gc
import importlib
import logging
import multiprocessing
import os
import pathlib
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, Callable, Optional, Union

import sdnotify

from gearsync.apply.direct import DirectDelivery
from gearsync.apply.drain import Drain
from gearsync.apply.drain_servers import Servers
from gearsync.apply.late_jobs import LateJobs
from gearsync.apply.reverse import NAME as REVERSE
from gearsync.apply.router import Router
from gearsync.declare.configuration import Config, parse_address
from gearsync.project.transform import transforms
from gearsync.servers.gearman import JobServers
from gearsync.servers.mysql import Database
from gearsync.servers.primary import Watch, open_database
from gearsync.servers.resolver import Resolver
from gearsync.servers.target import open_target
from gearsync.telemetry import logs, tallies
from gearsync.telemetry.metrics import RESTARTS, Tally, merged

log = logging.getLogger(__name__)

#: Seconds that a step of a worker process may wait, and between two looks of the supervisor at the processes.
_WAIT_SECONDS, _STEP_SECONDS = 2.0, 0.5
_RESTART_SECONDS = 1.0
#: A process is stuck when it has not finished a step for so many seconds, or for so many times the timeout of
#: one answer: systemd restarts the service.
_STUCK_SECONDS, _STUCK_ANSWERS = 20.0, 5
#: Seconds that a name server has to answer; then a process continues without it.
_RESOLVE_SECONDS = 1.0
#: How often a process saves its counters, in seconds.
_SAVE_SECONDS = 1.0
#: What libraries and this package import at their first connection.
_LATE_IMPORTS = ("encodings.idna", "gearsync.servers.redis", "secrets")
#: Imported only where metrics are on.
_EXPORTER = "gearsync.operate.exporter"

Kind = Callable[[Config, Tally], Union[DirectDelivery, Drain]]


@contextmanager
def stop_signals(action: Any) -> Iterator[None]:
    """Call ``action(count)`` for every SIGTERM and SIGINT, with their number so far; the former handlers
    are restored afterwards.
    """
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


def _servers(config: Config, functions: Sequence[str]) -> JobServers:
    return JobServers(
        [parse_address(server) for server in config.job_servers],
        functions,
        prefetch=config.worker.prefetch,
        timeout=config.worker.io_timeout,
        reconnect_max=config.worker.reconnect_max,
        tls=config.job_server_tls,
    )


def direct(config: Config, tally: Tally) -> DirectDelivery:
    """The loop of a process that takes jobs."""
    router = Router(config.tables, transforms(config))
    shared = config.worker.shared_job_servers
    servers = _servers(config, [*(router.direct_functions if shared else router.functions), REVERSE])
    durable = [table.table for table in config.durable_tables]
    late = (
        LateJobs(open_database(config.mysql, config.worker.io_timeout), durable)
        if config.mysql is not None and durable
        else None
    )
    return DirectDelivery(
        config, servers, open_target(config.redis, config.worker.io_timeout), router, tally, late=late
    )


def drain(config: Config, tally: Tally) -> Drain:
    """The loop of a process that drains shards of the outbox."""
    settings = config.worker
    assert config.mysql is not None  # noqa: S101  # checked with the configuration
    servers = _servers(config, [])
    # A batch is thousands of small objects without cycles: to collect at every few hundred costs a tenth of
    # the time.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    watch = Watch(config.mysql) if len(config.mysql.servers) > 1 else None
    idle = 2 * settings.lease
    database = Database(config.mysql, settings.io_timeout, idle=idle, choice=watch)
    behind = Database(config.mysql, settings.io_timeout, idle=idle, choice=watch)
    if watch is not None:
        watch.sessions += [database, behind]
    return Drain(
        config,
        Servers(servers, open_target(config.redis, settings.io_timeout), database, behind, watch),
        transforms(config),
        tally,
    )


class _Loop:
    """One loop of a worker process, with its counters and the file of those."""

    def __init__(self, config: Config, kind: Kind, counted: pathlib.Path) -> None:
        self.delivery = kind(config, tallies.load(counted))
        self._before = copy.deepcopy(self.delivery.tally)
        self._counted = counted
        self._save_at = 0.0
        self._saved = Tally()
        #: When its last step ended.
        self.stepped = time.monotonic()

    def run(self, deadline: Callable[[], float], after: Callable[[], None]) -> None:
        """Until it is stopped, or the ``deadline`` is over; ``after`` is called after each step."""
        while not self.delivery.stopped and time.monotonic() < deadline():
            self.delivery.step(_WAIT_SECONDS)
            self.stepped = now = time.monotonic()
            if now >= self._save_at:
                self._save_at = now + _SAVE_SECONDS
                if self._saved != self.delivery.tally:
                    tallies.save(self._counted, self.delivery.tally)
                    self._saved = copy.deepcopy(self.delivery.tally)
            after()

    def close(self) -> None:
        self.delivery.close()
        self.delivery.servers.close()
        self.delivery.target.close()
        tallies.save(self._counted, self.delivery.tally)

    @property
    def counted(self) -> Tally:
        """What it has counted since it began."""
        return self.delivery.tally.since(self._before)


def work(config: Config, kinds: Mapping[str, Kind], counted: pathlib.Path, progress: Any) -> None:
    """One worker process: runs until a signal stops it. All loops of ``kinds`` but the first are in threads.

    ``progress`` (a shared double) gets the time at which the last of them has finished a step; the directory
    ``counted`` has a file for each name in ``kinds``, with the counters of this process and of those before.
    """
    logs.configure(config.worker.log_level, config.worker.log_format, config.source)
    # Libraries resolve Redis, Sentinels and MySQL within the steps of a process.
    socket.getaddrinfo = Resolver(_RESOLVE_SECONDS)
    first, *others = loops = [_Loop(config, kind, counted / f"{name}.json") for name, kind in kinds.items()]
    deadline, collect_at = float("inf"), 0.0

    def stop(count: int) -> None:
        nonlocal deadline
        for loop in loops:
            loop.delivery.stop()
        # The second signal means "at once": jobs that are not done return to their queue when the connection
        # closes.
        deadline = time.monotonic() + (config.worker.shutdown_timeout if count == 1 else 0.0)

    threads = [
        threading.Thread(target=loop.run, args=(lambda: deadline, lambda: None), name="direct", daemon=True)
        for loop in others
    ]

    def after() -> None:
        nonlocal collect_at
        progress.value = min(loop.stepped for loop in loops)
        if time.monotonic() >= collect_at:
            # Errors form cycles of some kilobytes with their frames, and the collector runs seldom where
            # changes are few.
            gc.collect(1)
            collect_at = time.monotonic() + _SAVE_SECONDS
        if not all(thread.is_alive() or loop.delivery.stopped for thread, loop in zip(threads, others)):
            raise RuntimeError("the thread of direct delivery has ended")

    with stop_signals(stop):
        for thread in threads:
            thread.start()
        first.run(lambda: deadline, after)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    for loop in loops:
        loop.close()
    log.info("stopped after %s", merged(loop.counted for loop in loops), extra={"action": "stopped"})


class _Child:
    """One process of the service and when it last made progress."""

    def __init__(self, name: str, run: Callable[[Any], None]) -> None:
        """``run`` is called in the process, with the shared double that takes the time of each step; it can
        be pickled.
        """
        self.name = name
        self._run = run
        self.progress = multiprocessing.get_context("fork").Value("d", lock=False)
        self.restart_at = 0.0
        # fork is safe: nothing was opened and no thread was started before. It shares what is imported.
        self.process: BaseProcess = self._start("fork")

    def _start(self, method: str) -> BaseProcess:
        self.progress.value = time.monotonic()
        context: Any = multiprocessing.get_context(method)
        process: BaseProcess = context.Process(target=self._run, args=(self.progress,), daemon=True)
        process.start()
        return process

    def revive(self, now: float) -> bool:
        """Start the process again when it died, a second after it did; whether it was started."""
        if self.process.is_alive():
            return False
        if self.restart_at == 0.0:
            log.error(
                "process %s (%s) died with status %s",
                self.process.pid,
                self.name,
                self.process.exitcode,
                extra={"action": "process_died"},
            )
            self.restart_at = now + _RESTART_SECONDS
            return False
        if now < self.restart_at:
            return False
        self.restart_at = 0.0
        # The exporter has threads by now, and a fork can copy a lock that one of them holds.
        self.process = self._start("spawn")
        return True

    def signal(self, number: int) -> None:
        if self.process.is_alive() and self.process.pid:
            os.kill(self.process.pid, number)


def processes_of(config: Config) -> dict[str, dict[str, Kind]]:
    """The loops of each process that writes to Redis. Pure."""
    drains = {f"drain-{number}": drain for number in range(config.worker.drainers if config.mysql else 0)}
    processes: dict[str, dict[str, Kind]] = {name: {name: kind} for name, kind in drains.items()}
    if drains and config.worker.processes == 1 and config.tables == config.durable_tables != []:
        # Hardly any job comes, and a process takes seven megabytes.
        processes["drain-0"]["direct-0"] = direct
        return processes
    names = [f"direct-{number}" for number in range(config.worker.processes)]
    return {**{name: {name: direct} for name in names}, **processes}


def _workers(config: Config, counted: pathlib.Path) -> list[_Child]:
    """The processes that write to Redis."""
    return [
        _Child(name, functools.partial(work, config, kinds, counted))
        for name, kinds in processes_of(config).items()
    ]


def supervise(config: Config) -> int:
    """Run the service until a signal stops it; the exit status."""
    with tempfile.TemporaryDirectory(prefix="gearsync-") as directory:
        return _run(config, pathlib.Path(directory))


def _export(config: Config, counted: pathlib.Path, workers: Sequence[_Child], stuck: float) -> None:
    """Serve the metrics in a thread, where they are on: a process of its own takes nine megabytes."""
    if config.worker.metrics_listen is None:
        return
    steps = {child.name: child.progress for child in workers}

    def serve() -> None:
        try:
            importlib.import_module(_EXPORTER).serve(config, counted, steps, stuck)
        except Exception:  # whatever it is, the service still does its work
            log.exception("metrics are not served any more", extra={"action": "metrics_failed"})

    threading.Thread(target=serve, name="exporter", daemon=True).start()


def _run(config: Config, counted: pathlib.Path) -> int:
    notifier = sdnotify.SystemdNotifier()
    stops = 0

    def stop(count: int) -> None:
        nonlocal stops
        stops = count

    # The processes share the memory of what was imported before, as long as no collector writes to it.
    for module in _LATE_IMPORTS:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with stop_signals(stop):
        workers = _workers(config, counted)
        stuck = max(_STUCK_SECONDS, _STUCK_ANSWERS * config.worker.io_timeout)
        _export(config, counted, workers, stuck)
        # Ready means configured and running: the service waits for servers that are down, and must not fail
        # to start.
        notifier.notify("READY=1")
        log.info(
            "%d processes for %d tables, job servers %s",
            len(workers),
            len(config.tables),
            ", ".join(config.job_servers),
            extra={"action": "started"},
        )
        restarts = Tally()
        while not stops:
            now = time.monotonic()
            for child in workers:
                if child.revive(now):
                    restarts.count(RESTARTS, child.name)
                    tallies.save(counted / "restarts.json", restarts)
            if all(now - worker.progress.value < stuck for worker in workers):
                notifier.notify("WATCHDOG=1")
            time.sleep(_STEP_SECONDS)

        notifier.notify("STOPPING=1")
        _terminate(workers, lambda: stops, config.worker.shutdown_timeout + 1.0)
    return 0


def _terminate(children: Sequence[_Child], stops: Callable[[], int], seconds: float) -> None:
    """Send SIGTERM to the processes, again for each further signal to the service, and SIGKILL to those that
    have not ended after ``seconds``.
    """
    deadline = time.monotonic() + seconds
    sent = 0
    while any(child.process.is_alive() for child in children) and time.monotonic() < deadline:
        if sent < stops():
            sent = stops()
            for child in children:
                child.signal(signal.SIGTERM)
        time.sleep(0.02)
    for child in children:
        child.signal(signal.SIGKILL)
        child.process.join()
    sys.stderr.flush()
