# SPDX-License-Identifier: GPL-3.0-or-later
"""What the database has lost and Redis has: changes that were applied from a primary, and that the server
which is the primary now never got, or does not have any more after a backup was restored.
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Optional

from gearsync.contract import SCHEMA
from gearsync.outbox.lease import Leases
from gearsync.outbox.lost_tables import mark
from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target
from gearsync.telemetry.metrics import ERRORS, Tally

log = logging.getLogger(__name__)


class Made(NamedTuple):
    """Changes that are applied, of one shard and table."""

    shard: int
    table: str
    ids: Sequence[int]
    digests: bytes
    """Packed, in the order of the ids."""


class Kept(NamedTuple):
    """Changes that were in the outbox when the last session ended, or may have been."""

    made: Made
    is_given: bool
    """Whether they may be deleted."""


class Upstream:
    """Notices what the database has lost: reports it in the log, and marks the tables in Redis.

    Whoever has applied changes knows those of the last second, and when the server last got its heartbeat;
    others know what the fences record.
    """

    def __init__(
        self, outbox: Outbox, target: Target, source: str, tables: Collection[str], tally: Tally
    ) -> None:
        """``tables``: those with durable delivery."""
        self._outbox = outbox
        self._target = target
        self._source = source
        self._tables = sorted(tables)
        self._tally = tally
        #: When changes of a table were last applied, by the monotonic clock.
        self._applied_at: dict[str, float] = {}
        #: Ids that need not be compared in this session, and whether all tables are reported in it.
        self._compared = Spans()
        self._has_reported_all = False
        #: What is not marked in Redis yet.
        self._unmarked: Counter[tuple[int, str]] = Counter()

    def applied(self, made: Iterable[Made]) -> None:
        """Changes were applied."""
        now = time.monotonic()
        for each in made:
            self._applied_at[each.table] = now

    def begin_session(self, leases: Leases, kept: Sequence[Kept]) -> None:
        """Compare what was applied in former sessions with the server of a new one. Raises
        DatabaseUnavailable.
        """
        self._compared, self._has_reported_all = Spans(), False
        epochs = {
            int(shard): int(epoch)
            for shard, epoch in self._outbox.database.rows(f"SELECT shard, epoch FROM {SCHEMA}.lease")
        }
        # Where another process has taken over, it has deleted what was applied.
        ours = {shard for shard, epoch in leases.held.items() if epochs.get(shard, 0) <= epoch}
        if not ours:
            return
        kept = [each for each in kept if each.made.shard in ours]
        lost = self._lost(kept)
        seconds = leases.seconds_behind()
        if seconds is None and any(epochs.get(shard, 0) < leases.held[shard] for shard in ours):
            seconds = math.inf
        if seconds is not None:
            began = leases.renewed_at - seconds
            for table, applied_at in self._applied_at.items():
                if applied_at >= began:
                    lost[min(ours), table] += 0
        self._report(lost, seconds)

    def _lost(self, kept: Iterable[Kept]) -> Counter[tuple[int, str]]:
        """The number of changes that the server does not have, by shard and table. Raises
        DatabaseUnavailable.
        """
        kept = list(kept)
        ids = Spans.of(sorted({number for each in kept for number in each.made.ids}))
        present, last = self._outbox.present(ids), self._outbox.last_id() if ids else 0
        lost: Counter[tuple[int, str]] = Counter()
        for made, is_given in kept:
            for number, its in zip(made.ids, struct.unpack(f">{len(made.ids)}I", made.digests)):
                row = present.get(number)
                # One that is absent may be deleted.
                if row != its and (row is not None or not is_given or number > last):
                    lost[made.shard, made.table] += 1
        for first, final in ids:
            self._compared.add_span(first, final)
        return lost

    def compare_fence(self, shard: int, others: Spans, absent: Spans) -> None:
        """Compare what a fence records with the server: ids that are ``others``' in the outbox, and those
        that are ``absent`` there. Raises DatabaseUnavailable.
        """
        for first, last in self._compared:
            others.remove_span(first, last)
            absent.remove_span(first, last)
        if absent:
            absent.remove_span(0, self._outbox.last_id())
        if number := len(others) + len(absent):
            for first, last in (*others, *absent):
                self._compared.add_span(first, last)
            # The fence does not record their tables.
            self._report_all(shard, number)

    def epoch_went_back(self, shard: int) -> None:
        """The database is older than Redis."""
        self._report_all(shard, 0)

    def _report_all(self, shard: int, number: int) -> None:
        lost: Counter[tuple[int, str]] = Counter(dict.fromkeys(((shard, each) for each in self._tables), 0))
        if number or not self._has_reported_all:
            self._has_reported_all = True
            self._report(lost, None, number)

    def _report(self, lost: Counter[tuple[int, str]], seconds: Optional[float], unknown: int = 0) -> None:
        """``seconds``: how far the server is behind the last heartbeat; ``unknown``: lost changes whose
        tables are not known.
        """
        if not lost:
            return
        tables = sorted({table for _shard, table in lost})
        number = sum(lost.values()) + unknown
        behind = (
            f" It lacks about the last {seconds:.1f} s before the failover."
            if seconds is not None and math.isfinite(seconds)
            else ""
        )
        log.error(
            "the database %s has lost %s that Redis has.%s Run gearsync verify --repair --prune%s",
            self._outbox.database.member.name,
            f"{number} changes" if number else "changes",
            behind,
            "".join(f" --table {table}" for table in tables),
            extra={"action": "lost_upstream", "count": number, "tables": tables},
        )
        self._tally.count(ERRORS, "lost_upstream", max(1, number))
        self._unmarked.update(lost)
        for key in lost:
            self._unmarked[key] += 0
        self.mark()

    def mark(self) -> None:
        """Mark in Redis what is not marked yet; the next call does it when Redis is away."""
        if self._unmarked:
            with contextlib.suppress(Unavailable):
                mark(self._target, self._source, self._unmarked, time.time())
                self._unmarked.clear()
