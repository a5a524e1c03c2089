# SPDX-License-Identifier: GPL-3.0-or-later
"""The counters of a worker process: changes, jobs, errors, and the lag of changes. Pure; cli.supervise
saves them, operate.exporter serves them.
"""

from __future__ import annotations

import bisect
import copy
from collections.abc import Iterable
from typing import Optional

import msgspec

#: Upper bounds of the lag histogram, in seconds; one more bucket counts what is above the last one.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

CHANGES, BATCHES, STEPS, JOBS, COMMANDS, ERRORS, RESTARTS = (
    "changes",
    "batches",
    "steps",
    "jobs",
    "commands",
    "errors",
    "restarts",
)
#: All kinds of errors: a counter that appears with its first error would hide that error from a rate.
ERROR_KINDS = (
    "malformed",
    "refused",
    "dead_letter",
    "stale_batch",
    "mysql_lost",
    "split_brain",
    "former_primary",
    "redis_lost",
    "lease_lost",
    "redis_stepped_back",
    "redis_lost_data",
    "lost_upstream",
)


class Histogram(msgspec.Struct):
    """The number of observations in each bucket, the last of which is above all bounds, and their sum in
    seconds.
    """

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    def add(self, seconds: float, number: int = 1) -> None:
        self.counts[bisect.bisect_left(BUCKETS, seconds)] += number
        self.total += seconds * number

    def percentile(self, share: float) -> Optional[float]:
        """The value below which ``share`` (0 to 1) of the observations lie, interpolated within its bucket;
        None when there are none.

        Above the last bound only that bound is known: it is returned.
        """
        rank = share * sum(self.counts)
        if not rank:
            return None
        below = 0
        for number, (low, high) in enumerate(zip((0.0, *BUCKETS), BUCKETS)):
            count = self.counts[number]
            if count and below + count >= rank:
                return low + (high - low) * (rank - below) / count
            below += count
        return BUCKETS[-1]


class Tally(msgspec.Struct):
    """The counters of one process, by metric and label value, and the lags by table."""

    counters: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    lags: dict[str, Histogram] = msgspec.field(default_factory=dict)

    def count(self, metric: str, label: str = "", number: int = 1) -> None:
        labels = self.counters.setdefault(metric, {})
        labels[label] = labels.get(label, 0) + number

    def lag(self, table: str, seconds: float, number: int = 1) -> None:
        self.lags.setdefault(table, Histogram()).add(max(seconds, 0.0), number)

    def total(self, metric: str) -> int:
        return sum(self.counters.get(metric, {}).values())

    def add(self, other: Tally) -> None:
        for metric, labels in other.counters.items():
            for label, number in labels.items():
                self.count(metric, label, number)
        for table, lag in other.lags.items():
            mine = self.lags.setdefault(table, Histogram())
            mine.counts = [one + another for one, another in zip(mine.counts, lag.counts)]
            mine.total += lag.total

    def since(self, former: Tally) -> Tally:
        """What was counted since ``former``, an earlier state of the same tally."""
        since = Tally()
        for metric, labels in self.counters.items():
            for label, number in labels.items():
                if more := number - former.counters.get(metric, {}).get(label, 0):
                    since.count(metric, label, more)
        for table, lag in self.lags.items():
            before = former.lags.get(table, Histogram())
            counts = [one - another for one, another in zip(lag.counts, before.counts)]
            if any(counts):
                since.lags[table] = Histogram(counts, lag.total - before.total)
        return since

    def __str__(self) -> str:
        """The totals, for a log line."""
        return ", ".join(f"{self.total(metric)} {metric}" for metric in self.counters) or "nothing"


def merged(tallies: Iterable[Tally]) -> Tally:
    """The sum of all tallies."""
    total = Tally()
    for tally in tallies:
        total.add(tally)
    return total


class Report(msgspec.Struct):
    """What a process has counted in the last ``seconds``; it passes this to the commands through the
    database.
    """

    seconds: float
    tally: Tally


class Window:
    """The last minute of a tally."""

    def __init__(self, seconds: float = 60.0, pieces: int = 12) -> None:
        self._states: list[tuple[float, Tally]] = []
        self._gap = seconds / pieces
        self._pieces = pieces

    def report(self, tally: Tally, now: float) -> Report:
        """What was counted since the window began; ``now`` is the time of a monotonic clock in seconds."""
        if not self._states or now - self._states[-1][0] >= self._gap:
            self._states = [*self._states[-self._pieces :], (now, copy.deepcopy(tally))]
        began, former = self._states[0]
        return Report(now - began, tally.since(former))
