# SPDX-License-Identifier: GPL-3.0-or-later
"""The jobs that wake a drain: they are held while changes come, so that Gearman merges others into them."""

from __future__ import annotations

from gearsync.apply.pace import Pace
from gearsync.contract import drain_prefix
from gearsync.servers.gearman import Job, JobServers

_DONE = b"done"


class Wakes:
    """The wakes that are not answered."""

    def __init__(self, source: str, servers: JobServers, pace: Pace) -> None:
        self._prefix = drain_prefix(source)
        self._servers = servers
        self._pace = pace
        self._held: list[Job] = []

    def take(self, job: Job, now: float) -> bool:
        """Hold a job that is a wake. Returns whether it is one."""
        if not job.function.startswith(self._prefix):
            return False
        self._held.append(job)
        self._pace.woken(now)
        return True

    def release(self, now: float) -> None:
        """Answer the wakes when no change has come for a while. Those of a process that ends return to
        the job server.
        """
        if self._held and not self._pace.holds(now):
            self.answer()
            self._pace.released(now)

    def answer(self) -> None:
        """Answer all of them."""
        for job in self._held:
            self._servers.answer(job, b"", _DONE)
        self._held = []
