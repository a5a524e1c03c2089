# SPDX-License-Identifier: GPL-3.0-or-later
"""Direct delivery: take a batch of jobs, write it to Redis in one round trip, complete it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Optional

from gearsync.apply.late_jobs import LateJobs
from gearsync.apply.reverse import NAME as REVERSE
from gearsync.apply.reverse import reverse
from gearsync.apply.router import Router
from gearsync.declare.configuration import Config
from gearsync.project.payload import Change
from gearsync.servers.gearman import Job, JobServers
from gearsync.servers.mysql_errors import DatabaseUnavailable
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target
from gearsync.shapes.shape import Command
from gearsync.telemetry.metrics import COMMANDS, ERRORS, JOBS, Tally
from gearsync.values import Malformed

log = logging.getLogger(__name__)

_DONE = b"done"
#: Job handles in one log message.
_HANDLES = 5


class DirectDelivery:
    """One process's loop: ``step`` until ``stopped``."""

    def __init__(
        self,
        config: Config,
        servers: JobServers,
        target: Target,
        router: Router,
        tally: Tally,
        *,
        late: Optional[LateJobs] = None,
    ) -> None:
        """``late`` takes jobs for durable tables; without it they are written like others."""
        self.servers = servers
        self.target = target
        self.router = router
        self.tally = tally
        self._late = late
        self._late_changes: list[Change] = []
        #: The server that jobs wait for: the first part of the log's action.
        self._waits_for = ""
        self._reconnect_max = config.worker.reconnect_max
        self._failures = 0
        self._retry_at = 0.0

    @property
    def stopped(self) -> bool:
        """Whether a stop was requested and no job is left."""
        return self.servers.stopping and not self.servers.batch

    def stop(self) -> None:
        """Take no more jobs; those that were taken are still written."""
        self.servers.stop()

    def close(self) -> None:
        """Close the connection to MySQL. Jobs that are not completed return to their queues."""
        if self._late is not None:
            self._late.close()

    def step(self, seconds: float) -> None:
        """Wait up to ``seconds`` for jobs, and write those that came."""
        wait = seconds
        if self._failures:
            wait = min(seconds, max(0.0, self._retry_at - time.monotonic()))
        self.servers.poll(0.0 if self.servers.batch and not self._failures else wait)
        if self.servers.batch and time.monotonic() >= self._retry_at:
            self._write(self.servers.batch)

    def _write(self, jobs: list[Job]) -> None:
        commands: list[Command] = []
        spans: list[tuple[Job, int, int]] = []
        self._late_changes = []
        if self._late is not None:
            self._late.begin()
        malformed: list[tuple[Job, str]] = []
        try:
            for job in jobs:
                first = len(commands)
                try:
                    commands += self._commands(job)
                except Malformed as error:
                    malformed.append((job, f"payload of {len(job.data)} bytes: {error}"))
                spans.append((job, first, len(commands)))
            if self._late is not None:
                self._late.put(self._late_changes)
            errors = self.target.apply(commands)
        except Unavailable as error:
            self._wait("redis", f"Redis {self.target.name} accepts no writes", error)
            return
        except DatabaseUnavailable as error:
            self._wait("mysql", "MySQL cannot be asked which tables have durable delivery", error)
            return
        if self._failures:
            log.info("jobs are written again", extra={"action": f"{self._waits_for}_back"})
        self._failures, self._retry_at = 0, 0.0
        self._log_lost(malformed, "malformed", "cannot be applied")
        refused = [
            (job, next((error for error in errors[first:last] if error), None)) for job, first, last in spans
        ]
        self._log_lost([(job, error) for job, error in refused if error], "refused", "were refused by Redis")
        for job, _first, _last in spans:
            if job.function == REVERSE:
                self.servers.answer(job, job.data, reverse(job.data))
            else:
                self.servers.answer(job, b"", _DONE)
        for function, number in Counter(job.function for job in jobs).items():
            self.tally.count(JOBS, function, number)
        self.tally.count(COMMANDS, "direct", len(commands))
        log.debug("wrote %d commands for %d jobs", len(commands), len(jobs), extra={"action": "batch"})
        self.servers.finish_batch()

    def _commands(self, job: Job) -> list[Command]:
        """Raises Malformed and DatabaseUnavailable."""
        if job.function == REVERSE:
            return []
        try:
            return self.router.commands(job.function, job.data, self._is_late)
        except (DatabaseUnavailable, Malformed):
            raise
        except Exception as error:  # noqa: BLE001  # one job must not stop the process again and again
            raise Malformed(f"applying it raised {type(error).__name__}") from None

    def _is_late(self, change: Change) -> bool:
        if self._late is None or not self._late.is_durable(str(change.table)):
            return False
        self._late_changes.append(change)
        return True

    def _log_lost(self, lost: list[tuple[Job, str]], kind: str, outcome: str) -> None:
        """Log one message for each function of a batch, whatever the number of its jobs."""
        if lost:
            self.tally.count(ERRORS, kind, len(lost))
        for function in sorted({job.function for job, _reason in lost}):
            of_function = [
                (job.handle.decode(errors="replace"), reason)
                for job, reason in lost
                if job.function == function
            ]
            handles = [handle for handle, _reason in of_function[:_HANDLES]]
            log.error(
                "%d jobs of %s %s, the first are %s: %s",
                len(of_function),
                function,
                outcome,
                ", ".join(handles),
                of_function[0][1],
                extra={"action": kind, "count": len(of_function), "ids": handles},
            )

    def _wait(self, action: str, message: str, error: Exception) -> None:
        if self._failures == 0 or self._waits_for != action:
            log.warning(
                "%s; holding jobs and retrying indefinitely: %s",
                message,
                error,
                extra={"action": f"{action}_lost"},
            )
        self._waits_for = action
        self.tally.count(ERRORS, f"{action}_lost")
        self._retry_at = time.monotonic() + min(0.05 * 2 ** min(self._failures, 16), self._reconnect_max, 2.0)
        self._failures += 1
