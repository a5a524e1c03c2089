# SPDX-License-Identifier: GPL-3.0-or-later
"""Durable delivery: read changes, write them to Redis in fenced batches, have them deleted afterwards."""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from typing import Optional

import msgspec

from gearsync.apply.agreed_term import AgreedTerm, FormerPrimary
from gearsync.apply.applied_batches import AppliedBatches
from gearsync.apply.applier import Applier
from gearsync.apply.barrier_desk import Answer, BarrierDesk
from gearsync.apply.deleter import Deleter
from gearsync.apply.drain_servers import Servers
from gearsync.apply.fence import FenceMoved, FenceRefused
from gearsync.apply.fences import Fences
from gearsync.apply.pace import LAST_GAP, Pace
from gearsync.apply.reader import Reader
from gearsync.apply.redis_reach import RedisReach
from gearsync.apply.source_session import SourceSession
from gearsync.apply.stalled_slots import StalledSlots
from gearsync.apply.upstream import Upstream
from gearsync.apply.wakes import Wakes
from gearsync.apply.work import Work
from gearsync.contract import drain_function, whole_key
from gearsync.declare.configuration import Config
from gearsync.outbox.applied import owners, publish_command, read
from gearsync.outbox.barrier import Barrier
from gearsync.outbox.declarations import Declarations
from gearsync.outbox.lease import Leases
from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox
from gearsync.project.transform import Transform
from gearsync.servers.mysql_errors import DatabaseUnavailable, RowsLocked, SchemaAbsent
from gearsync.servers.outage import Outage
from gearsync.servers.redis_errors import Denied, Unavailable
from gearsync.telemetry.metrics import ERRORS, Tally, Window

log = logging.getLogger(__name__)

#: Seconds between two refreshes of the leases; a third of a lease if that is less.
_REFRESH = 1.0
#: Seconds between two reports for `gearsync status`.
_REPORT = 5.0
#: Seconds between two checks for a primary, while there is none.
_PRIMARY = 0.05
#: Seconds between two checks that Redis still has the applied batches.
_CONFIRM = 0.1
#: Seconds for which batches of a backlog are written one after the other, before jobs are taken again: for
#: less, a share of the batches would be read while Redis waits.
_BURST = 0.5


class Drain:
    """One process's loop: ``step`` until ``stopped``."""

    def __init__(
        self, config: Config, servers: Servers, transforms: dict[str, Transform], tally: Tally
    ) -> None:
        self.servers, self.target, database, deleting, self._watch = servers
        self.tally = tally
        self._source = config.source
        self._settings = config.worker
        self._database = database
        # All tables: earlier changes of a table with direct delivery may still wait in the outbox.
        declarations = Declarations(database, config.tables, transforms)
        self._outbox = Outbox(database, declarations)
        self._reader = Reader(self._outbox, declarations, config.worker)
        self._leases = Leases(database, config.worker.lease)
        self._term = AgreedTerm(servers, config, self._leases.owner, tally) if self._watch else None
        self._fences = Fences(self.target, config.source, config.remember, self._term)
        mysql, redis = f"MySQL {database.name}", f"Redis {self.target.name}"
        self._deleter = Deleter(
            Outbox(deleting), self._outage(f"{mysql} does not delete applied changes", "mysql")
        )
        self._applied = AppliedBatches(self._fences, self._deleter, config.worker.keep)
        self._stalled = StalledSlots(self._outage(f"a part of {redis} accepts no writes", "redis"))
        durable = [table.table for table in config.durable_tables]
        self._upstream = Upstream(self._outbox, self.target, config.source, durable, tally)
        self._applier = self._new_applier()
        self._desk = BarrierDesk(
            config.source, self.servers, self._barrier, is_alone=not config.worker.shared_job_servers
        )
        #: The keys that exist as long as Redis has lost nothing of a table.
        self._whole_keys = [whole_key(config.source, table.table) for table in config.tables]
        self._window = Window()
        self._session = SourceSession(database, tally)
        self._has_no_primary = False
        self._pace = Pace(config.worker.linger, config.worker.sweep)
        self._wakes = Wakes(config.source, self.servers, self._pace)
        self._refresh_at = self._report_at = self._confirm_at = 0.0
        #: Whether other processes may read in Redis that changes are applied and not deleted.
        self._has_published = self._stopping = False
        self._database_outage = self._outage(f"{mysql} is unavailable or has no schema", "mysql")
        self._database_error: Optional[DatabaseUnavailable] = None
        self._redis_outage = self._outage(f"{redis} accepts no writes", "redis")
        self._reach = RedisReach(self.target, self._redis_outage, config.worker.lease)
        self._offer()

    def _new_applier(self) -> Applier:
        return Applier(
            self.target,
            self._outbox,
            self._reader,
            self.tally,
            fences=self._fences,
            applied=self._applied,
            stalled=self._stalled,
            upstream=self._upstream,
        )

    def _outage(self, problem: str, server: str) -> Outage:
        return Outage(problem, server, self._settings.reconnect_max, self.tally)

    @property
    def stopped(self) -> bool:
        """Whether a stop was requested; between two steps no batch is in progress."""
        return self._stopping

    def stop(self) -> None:
        """Begin no other batch."""
        self._stopping = True
        self.servers.stop()

    def step(self, seconds: float) -> None:
        """Read and write one batch at most, then wait up to ``seconds`` for jobs."""
        if time.monotonic() >= self._database_outage.retry_at or self._has_primary:
            self._has_no_primary = False
            try:
                self._look()
                self._database_outage.end()
            except DatabaseUnavailable as error:
                self._begin_outage(error)
        self._desk.answer(self._look_at)
        self._wakes.release(time.monotonic())
        self.servers.poll(self._pause(seconds))
        self._take_jobs()

    @property
    def _has_primary(self) -> bool:
        """Whether there is a primary by now, when there was none at the last attempt."""
        return self._has_no_primary and self._watch is not None and self._watch.is_known

    def _begin_outage(self, error: DatabaseUnavailable) -> None:
        self._database_error = error
        self._has_no_primary = self._session.failed(error)
        self._database_outage.begin(
            "the schema does not exist yet" if isinstance(error, SchemaAbsent) else str(error)
        )

    def close(self) -> None:
        """Delete what is applied, and release the shards."""
        deadline = time.monotonic() + self._settings.keep + 1.0
        while self._applied and time.monotonic() < deadline and not self._redis_outage.failures:
            time.sleep(LAST_GAP)
            with contextlib.suppress(Unavailable, FenceRefused, Denied, FenceMoved, DatabaseUnavailable):
                self._confirm(time.monotonic())
        self._deleter.close(max(1.0, deadline - time.monotonic()))
        try:
            if not (self._term and self._term.refusal):
                self._leases.close()
        except DatabaseUnavailable as error:
            log.warning(
                "the leases could not be released, and expire by themselves: %s",
                error,
                extra={"action": "leases_kept"},
            )
        self._database.close()

    def _look(self) -> None:
        if self._watch is not None:
            self._watch.require_alive()
        now = time.monotonic()
        if self._session.is_new or self._deleter.gave_up:
            self._start_over()
        if now >= self._refresh_at:
            # First: a server that is read-only by now, or a former primary, is not written to.
            self._applier.compare_clocks()
            if self._term and (refusal := self._term.check(now)):
                self._redis_outage.begin(refusal, quiet=True)
                self._refresh_at = self._redis_outage.retry_at
                return
            self._reader.refresh()
            # When another process has locked these rows, there is time for further attempts before a lease
            # expires.
            with contextlib.suppress(RowsLocked):
                self._leases.refresh(self._reason_to_yield(now))
            self._upstream.mark()
            self._refresh_at = now + min(_REFRESH, self._settings.lease / 3)
            self._report(now)
            self._pace.awake(now)
        self._follow_leases()
        self._applied.remove_deleted()
        if now < self._redis_outage.retry_at or not (
            self._leases.has_all or (self._fences.epochs and not self._leases.is_mixed)
        ):
            return
        try:
            if self._term:
                self._term.hold(now)
            if now >= self._confirm_at:
                self._confirm(now)
            if (now >= self._pace.due or self._stalled.due(now)) and not self._applied.is_full:
                self._drain(now)
            self._stalled.end()
            self._redis_outage.end()
        except (Unavailable, Denied) as error:
            self._redis_outage.begin(str(error), quiet=isinstance(error, FormerPrimary))
        except FenceRefused as refused:
            self._refused(refused)
        except FenceMoved:
            self._pace.due = now + LAST_GAP

    def _start_over(self) -> None:
        """Forget what is applied, and learn it from the fences: the server may be another one, on which
        the same ids are other changes.
        """
        if not self._session.is_current:
            self._upstream.begin_session(self._leases, self._applied.kept)
            self._session.begin()
        self._applied.clear(self._session.lock)
        self._fences.follow({})
        self._redis_outage.retry_at = self._refresh_at = 0.0

    def _report(self, now: float) -> None:
        """Store a report for `gearsync status`."""
        if now >= self._report_at:
            self._leases.report(msgspec.json.encode(self._window.report(self.tally, now)))
            self._report_at = now + _REPORT

    def _reason_to_yield(self, now: float) -> str:
        """Why other processes should drain instead of this one; empty when there is no reason."""
        if self._reader.outdated:
            return self._reader.outdated
        cut_off = self._reach.is_cut_off(now, has_yielded=self._leases.has_yielded)
        return f"Redis {self.target.name} is unreachable" if cut_off else ""

    def _follow_leases(self) -> None:
        """After a change of the leases: look for all changes of new shards, and take the wakes of all
        held ones.
        """
        held = self._leases.held
        if self._fences.epochs == held:
            return
        taken = held.keys() - self._fences.epochs.keys()
        gone = self._fences.follow(held)
        self._applied.drop(gone)
        if taken:
            self._start_looking_over()
        self._offer()
        if gone:
            # A busy process would keep the wakes of these shards from their new owner.
            self._wakes.answer()

    def _start_looking_over(self) -> None:
        """Look for all changes that are not applied."""
        self._reader.forget(self._applied.ids)
        self._stalled.forget()
        self._pace.due = 0.0

    def _offer(self) -> None:
        drains = [drain_function(self._source, shard) for shard in sorted(self._fences.epochs)]
        self.servers.offer([*drains, *self._desk.functions])

    def _pause(self, seconds: float) -> float:
        now = time.monotonic()
        moments = [now + seconds, *self._desk.looks]
        if self._database_outage.failures:
            moments.append(now + _PRIMARY if self._has_no_primary else self._database_outage.retry_at)
        else:
            moments += [self._refresh_at, max(self._pace.due, self._redis_outage.retry_at)]
            moments += (
                [max(self._stalled.retry_at, self._redis_outage.retry_at)] if self._stalled.slots else []
            )
            moments += (
                [max(self._confirm_at, self._redis_outage.retry_at)]
                if self._applied.ids or self._has_published
                else []
            )
        return 0.0 if self._stopping else max(0.0, min(moments) - now)

    def _drain(self, now: float) -> None:
        """Read the oldest changes and write them. Raises DatabaseUnavailable, Unavailable, Denied and
        FenceRefused.
        """
        if self._stalled.due(now):
            # All at once, so that they are applied in order.
            for first, last in self._stalled.forget():
                self._reader.seen.remove_span(first, last)
        self._reader.compact(itertools.chain(self._applied.ids, self._stalled.ids))
        work = self._read()
        if self._reader.unleased:
            # Changes of these shards may come first.
            self._reader.seen.remove(work.ids)
            self._leases.add(self._reader.unleased)
            self._refresh_at = 0.0
        elif work.entries:
            until = min(now + _BURST, self._refresh_at)
            while (following := self._apply(work, until)) is not None:
                now, work = time.monotonic(), following
        elif self._redis_outage.failures:
            # Without a write the end of an outage would not be noticed.
            self.target.ping()
        took = time.monotonic() - now
        if work.entries or work.more:
            self._pace.after_changes(now + took, took, work.more)
        else:
            self._pace.after_none(now + took, took, bool(self.servers.connected))

    def _read(self) -> Work:
        self._reader.settle(self._deleter.settled())
        work = self._reader.read(self._fences.epochs.keys(), self._leases.shards)
        self._deleter.reached = self._reader.seen.last if self._reader.has_gaps else 0
        return work

    def _apply(self, work: Work, until: float) -> Optional[Work]:
        """Write a batch. If more changes may wait, and the time is not past ``until``, the next batch is read
        while Redis executes this one.

        Returns the next batch if it can be written now. Raises DatabaseUnavailable, Unavailable, Denied,
        FenceRefused and FenceMoved.
        """
        ahead: list[Work] = []

        def read_ahead() -> None:
            ahead.append(self._read())

        goes_on = work.more and time.monotonic() < until and not (self._stopping or self._applied.is_full)
        try:
            is_complete = self._applier.apply(work, read_ahead if goes_on else None)
        except BaseException:
            # The batches are read again; the fences record what of the first one is applied.
            for each in (work, *ahead):
                self._reader.seen.remove(each.ids)
            raise
        for following in ahead:
            if is_complete and following.entries and not self._reader.unleased:
                return following
            # Changes that wait by now may come before these.
            self._reader.seen.remove(following.ids)
        return None

    def _confirm(self, now: float) -> None:
        """Have batches deleted that Redis still has, and publish what is applied.

        Raises DatabaseUnavailable, Unavailable, Denied, FenceRefused and FenceMoved.
        """
        self._confirm_at = now + _CONFIRM
        self._applied.confirm(now, self._applier.claim)
        if self._applier.has_stepped_back:
            answers = self.target.ask([("DEL", key) for key in self._whole_keys])
            self._applier.has_stepped_back = any(isinstance(answer, Exception) for answer in answers)
        if self._applied.ids or self._has_published:
            self.target.ask([publish_command(self._source, self._leases.owner, self._applied.in_redis)])
            self._has_published = bool(self._applied.ids)

    def _refused(self, refused: FenceRefused) -> None:
        log.warning(
            "Redis refused a stale batch of shard %d: %s",
            refused.shard,
            refused,
            extra={"action": "stale_batch_refused"},
        )
        self.tally.count(ERRORS, "stale_batch")
        if not self._leases.raise_above(refused.shard, refused.epoch):
            self._leases.lost(refused.shard)
            self.tally.count(ERRORS, "lease_lost")
            return
        # The fence is newer than the database: that was restored or has lost its last changes in a failover,
        # or another database uses the same source name.
        self._upstream.epoch_went_back(refused.shard)
        log.warning(
            "this process still holds the lease of shard %d; its epoch is raised to %d",
            refused.shard,
            self._leases.held[refused.shard],
            extra={"action": "epoch_raised"},
        )

    # Jobs

    def _take_jobs(self) -> None:
        jobs = self.servers.batch
        if not jobs:
            return
        now = time.monotonic()
        for job in jobs:
            if not self._wakes.take(job, now) and self._desk.ask(job):
                self._pace.due = 0.0
        self.servers.finish_batch()

    def _known_applied(self) -> Spans:
        """The ids that any process has applied and the outbox may still hold. Raises DatabaseUnavailable
        and Unavailable.
        """
        if self._leases.has_all:
            return self._all_applied if self._fences.epochs == self._leases.held else self._applied.in_redis
        others = [owner for owner in owners(self._database) if owner != self._leases.owner]
        return Spans(itertools.chain(self._applied.in_redis, read(self.target, self._source, others)))

    def _barrier(self) -> Barrier:
        return Barrier(self._outbox, self._known_applied)

    @property
    def _all_applied(self) -> Spans:
        """While this process holds all shards: the ids in Redis, and of the first ids also those that are
        deleted or cannot appear any more.
        """
        ids = self._reader.seen_from_first
        for first, last in itertools.chain(self._stalled.ids, self._applied.dying):
            ids.remove_span(first, last)
        for first, last in self._applied.in_redis:
            ids.add_span(first, last)
        return ids

    def _look_at(self, barrier: Barrier) -> Optional[Answer]:
        if time.monotonic() >= self._database_outage.retry_at:
            try:
                answer = barrier.look()
                # In a new session the server may be another one, with other ids.
                return answer if self._session.is_current else None
            except DatabaseUnavailable as error:
                # With many open barriers, one attempt is enough: each may take seconds.
                self._begin_outage(error)
            except Unavailable as error:
                return barrier.failed(error)
        return barrier.failed(self._database_error)
