"""Durable delivery: look for changes, write them to Redis in one fenced step, have them deleted behind."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import logging
import time
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Optional

import msgspec

from gearsync.applied import owners, read, saying, whole_key
from gearsync.barrier import Barrier
from gearsync.barrier_desk import Answer, BarrierDesk
from gearsync.change import Malformed
from gearsync.commands import Step, coalesce
from gearsync.config import Config
from gearsync.database import Database, DatabaseUnavailable
from gearsync.declared import Declarations
from gearsync.deleter import Deleter, Deletion
from gearsync.fence import BATCH, batch, without_done
from gearsync.fences import Fences, Place
from gearsync.job_server import Job, JobServers
from gearsync.lease import Leases
from gearsync.metrics import BATCHES, CHANGES, COMMANDS, ERRORS, STEPS, Tally, Window
from gearsync.outage import Outage
from gearsync.outbox import CREATED, Entry, Outbox, summary
from gearsync.pace import LAST_GAP, Pace
from gearsync.reader import Reader, Work
from gearsync.spans import Spans
from gearsync.target import Denied, Moved, Refused, Stuck, Target, Unavailable, words_of
from gearsync.transform import Transform

log = logging.getLogger(__name__)

DRAIN = "gearsync.drain"
_DONE = b"done"
#: Seconds between two looks at the leases; a third of a lease when that is less.
_REFRESH = 1.0
#: Seconds between two reports of what was done.
_REPORT = 5.0
#: Seconds between two times that Redis is asked whether it has still what it has applied.
_CONFIRM = 0.1
#: When more changes are applied and not deleted, they are not kept any longer; when twice as many are, the drain waits for the deletions.
_MOST_APPLIED = 200_000
#: Seconds until slots that were out of reach are tried again: at least, for so many changes that wait one more, and at most.
_STALL, _STALLED_RATE, _LONGEST_STALL = 1.0, 5000, 30.0
#: Changes that a line of the log names.
_NAMED = 5
#: Seconds between two attempts to reach a Redis that is away, while the shards are another process's.
_PING = 2.0


class _Applied(NamedTuple):
    """A batch that Redis has taken and that is not deleted yet."""

    at: float
    ids: dict[int, list[int]]
    """By shard, sorted."""
    dead: dict[int, str]
    numbers: dict[Place, int]
    """Its number in each fence that knows it."""
    shared: frozenset[Place] = frozenset()
    """Fences that know by this number other changes, too, which are not applied in full: what they know is forgotten with those."""


def say_dead(entries: Sequence[Entry], dead: Mapping[int, Malformed]) -> None:
    """One line for each table, whatever the number of its changes."""
    lost: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.id in dead:
            lost.setdefault(entry.table, []).append(entry)
    for table, found in sorted(lost.items()):
        ids = [entry.id for entry in found[:_NAMED]]
        log.error(
            "%d changes of %s cannot be applied and are in dead_letter, the first of them %s: %s", len(found), table, ", ".join(map(str, ids)), dead[ids[0]],
            extra={"action": "dead_letter", "table": table, "count": len(found), "ids": ids})


class Servers(NamedTuple):
    """The edges of a drain."""

    jobs: JobServers
    target: Target
    database: Database
    #: A second connection, by which what was applied is deleted.
    behind: Database


class Drain:
    """One process's loop: ``step`` until ``stopped``."""

    def __init__(self, config: Config, servers: Servers, transforms: dict[str, Transform], tally: Tally) -> None:
        self.servers, self.target, database, behind = servers
        self.tally = tally
        self._source = config.source
        self._settings = config.worker
        self._database = database
        # All tables: changes of one that is delivered directly now may wait from before.
        declarations = Declarations(database, config.tables, transforms)
        self._outbox = Outbox(database, declarations)
        self._reader = Reader(self._outbox, declarations, config.worker)
        self._leases = Leases(database, config.worker.lease)
        self._fences = Fences(self.target, config.source)
        longest = config.worker.reconnect_max
        self._deleter = Deleter(Outbox(behind), Outage(f"MySQL {database.name} does not delete what is applied", "mysql", longest, tally))
        #: The epochs of the shards that are drained, as far as they are looked at.
        self._epochs: dict[int, int] = {}
        #: Batches that Redis has taken and that are not given to the deleter yet, and all that is applied and not deleted.
        self._applied: deque[_Applied] = deque()
        self._behind = Spans()
        #: Those of them that cannot be applied, until they are dead letters.
        self._dying = Spans()
        self._desk = BarrierDesk(config.source, self.servers, lambda: Barrier(self._outbox, self._known_applied))
        #: Redis' words that it has lost nothing, and whether they may be false.
        self._words = [whole_key(config.source, table.table) for table in config.tables]
        self._doubts_words = False
        self._window = Window()
        #: By how much the server's clock is before ours, in seconds.
        self._clock_ahead = 0.0
        self._session = 0
        self._pace = Pace(config.worker.linger, config.worker.sweep)
        #: Jobs that woke it, not answered yet.
        self._wakes: list[Job] = []
        self._refresh_at = self._report_at = self._ping_at = self._confirm_at = 0.0
        self._reaches_redis = True
        self._said_behind = False
        self._stopping = False
        #: Slots of a cluster that are out of reach, and the changes that wait for them.
        self._stalled: dict[int, Exception] = {}
        self._stalled_ids = Spans()
        self._stalled_until = 0.0
        self._stalled_outage = Outage(f"A part of Redis {self.target.name} takes no writes", "redis", longest, tally)
        self._database_outage = Outage(f"MySQL {database.name} is away or has no schema", "mysql", longest, tally)
        self._database_error: Optional[DatabaseUnavailable] = None
        self._redis_outage = Outage(f"Redis {self.target.name} takes no writes", "redis", longest, tally)
        self._offer()

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for; between two steps nothing is in hand."""
        return self._stopping

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = self.servers.stopping = True

    def step(self, seconds: float) -> None:
        """One look, and at most one batch; then wait up to ``seconds`` for jobs."""
        if time.monotonic() >= self._database_outage.retry_at:
            try:
                self._look()
                self._database_outage.end()
            except DatabaseUnavailable as error:
                self._begin_outage(error)
        self._desk.answer(self._look_for)
        self._release(time.monotonic())
        self.servers.poll(self._pause(seconds))
        self._take_jobs()

    def _begin_outage(self, error: DatabaseUnavailable) -> None:
        self._database_error = error
        self._database_outage.begin("the schema is not there yet" if error.schema_absent else str(error))

    def close(self) -> None:
        """Delete what was applied, and give the shards to others."""
        deadline = time.monotonic() + self._settings.keep + 1.0
        while self._applied and time.monotonic() < deadline and not self._redis_outage.failures:
            time.sleep(LAST_GAP)
            with contextlib.suppress(Unavailable, Refused, Denied, Moved, DatabaseUnavailable):
                self._confirm(time.monotonic())
        self._deleter.close(max(1.0, deadline - time.monotonic()))
        try:
            self._leases.close()
        except DatabaseUnavailable as error:
            log.warning("the leases were not given back and run out by themselves: %s", error, extra={"action": "leases_kept"})
        self._database.close()

    def _look(self) -> None:
        now = time.monotonic()
        if self._database.connection and (self._session != self._database.sessions or self._deleter.lost):
            self._start_over()
        if now >= self._refresh_at:
            self._reader.refresh()
            try:
                self._leases.refresh(self._unfit(now))
            except DatabaseUnavailable as error:
                # Another process is at these rows; there is time for several attempts before a lease runs out.
                if not error.locked:
                    raise
            self._refresh_at = now + min(_REFRESH, self._settings.lease / 3)
            self._tell(now)
        self._know_shards()
        self._note_deleted()
        if now < self._redis_outage.retry_at or not (self._leases.has_all or (self._epochs and not self._leases.is_mixed)):
            return
        try:
            if now >= self._confirm_at:
                self._confirm(now)
            if (now >= self._pace.due or (self._stalled and now >= self._stalled_until)) and len(self._behind) < 2 * _MOST_APPLIED:
                self._drain(now)
            if not self._stalled:
                self._stalled_outage.end()
            self._redis_outage.end()
        except (Unavailable, Denied) as error:
            self._redis_outage.begin(str(error))
        except Refused as refused:
            self._refused(refused)
        except Moved:
            self._pace.due = now + LAST_GAP

    def _start_over(self) -> None:
        """Believe only what Redis says: the server may be another one, on which the same ids are other changes'."""
        self._session = self._database.sessions
        self._deleter.forget()
        self._fences.drop(self._epochs)
        self._applied.clear()
        self._behind, self._dying = Spans(), Spans()
        self._epochs = {}

    def _tell(self, now: float) -> None:
        """Compare the clocks, and tell the other commands what was done."""
        before = time.time()
        server = self._database.now()
        self._clock_ahead = server - (before + time.time()) / 2
        if now >= self._report_at:
            self._leases.report(msgspec.json.encode(self._window.report(self.tally, now)))
            self._report_at = now + _REPORT

    def _unfit(self, now: float) -> str:
        """Why other processes should do the work, if there are any: empty when this one can do as well as they."""
        return self._reader.unfit or (f"Redis {self.target.name} is out of reach" if self._cut_off(now) else "")

    def _cut_off(self, now: float) -> bool:
        """Whether Redis has been out of this process's reach for longer than a lease."""
        outage = self._redis_outage
        if not outage.failures or now - outage.since < self._settings.lease:
            return False
        if now >= self._ping_at:
            self._ping_at = now + _PING
            try:
                self.target.ping()
                self._reaches_redis = True
            except Unavailable as error:
                self._reaches_redis = False
                outage.begin(str(error))
        if self._reaches_redis and self._leases.aside:
            outage.end()
        return not self._reaches_redis

    def _know_shards(self) -> None:
        """Follow the leases: of a shard that was taken everything is looked for, and its wakes are asked for."""
        held = self._leases.held
        if self._epochs == held:
            return
        gone = self._epochs.keys() - held.keys()
        self._fences.drop(gone)
        # Whoever has them now finds out by itself what is applied.
        for applied in self._applied:
            for shard in gone & applied.ids.keys():
                self._behind.remove(applied.ids.pop(shard))
        if held.keys() - self._epochs.keys():
            self._look_anew()
        self._epochs = dict(held)
        self._offer()

    def _look_anew(self) -> None:
        """Look for everything that is not applied."""
        self._reader.forget(self._behind)
        self._stalled, self._stalled_ids = {}, Spans()
        self._pace.due = 0.0

    def _offer(self) -> None:
        drains = [f"{DRAIN}.{self._source}.{shard}" for shard in sorted(self._epochs)]
        self.servers.offer([*drains, *self._desk.functions])

    def _pause(self, seconds: float) -> float:
        now = time.monotonic()
        moments = [now + seconds, *self._desk.looks]
        if self._database_outage.failures:
            moments.append(self._database_outage.retry_at)
        else:
            moments += [self._refresh_at, max(self._pace.due, self._redis_outage.retry_at)]
            moments += [max(self._stalled_until, self._redis_outage.retry_at)] if self._stalled else []
            moments += [max(self._confirm_at, self._redis_outage.retry_at)] if self._behind or self._said_behind else []
        return 0.0 if self._stopping else max(0.0, min(moments) - now)

    # One batch

    def _drain(self, now: float) -> None:
        """Read the oldest changes and write them. Raises DatabaseUnavailable, Unavailable, Denied and Refused."""
        if self._stalled and now >= self._stalled_until:
            # All at once, so that they come in their order.
            for first, last in self._stalled_ids:
                self._reader.seen.remove_span(first, last)
            self._stalled, self._stalled_ids = {}, Spans()
        self._reader.compact(itertools.chain(self._behind, self._stalled_ids))
        self._reader.decide(self._deleter.decided())
        work = self._reader.read(self._epochs.keys(), self._leases.shards)
        self._deleter.reached = self._reader.seen.last if self._reader.has_gaps else 0
        if self._reader.unleased:
            # Not before their turn.
            self._reader.seen.remove(work.ids)
            self._leases.add(self._reader.unleased)
            self._refresh_at = 0.0
        elif work.entries:
            try:
                self._apply(work)
            except BaseException:
                # It is looked for again; what of it Redis has taken, its fence says.
                self._reader.seen.remove(work.ids)
                raise
        elif self._redis_outage.failures:
            # Nothing to write is no sign that it takes writes.
            self.target.ping()
        took = time.monotonic() - now
        if work.entries or work.more:
            self._pace.found(now + took, took, work.more)
        else:
            self._pace.none(now + took, took, bool(self.servers.connected))

    def _apply(self, work: Work) -> None:
        """Write what was read: all of it, or, when the account may not write some table's keys, that of the others."""
        try:
            self._write(work)
        except Stuck as stuck:
            (table,) = (entry.table for entry in work.entries if entry.id == stuck.change)
            self._reader.hold(table, [], str(stuck))
            raise Moved from None
        except Denied as denied:
            tables = sorted({entry.table for entry in work.entries})
            if len(tables) == 1:
                self._reader.hold(tables[0], work.ids, str(denied))
                return
            for table in tables:
                self._apply(work.only(table))

    def _write(self, work: Work) -> None:
        """Raises DatabaseUnavailable, Unavailable, Denied and Refused."""
        steps, ids = self._by_slot(work)
        places = [(slot, shard) for slot, of_shards in ids.items() for shard in of_shards]
        failed = {slot: self._stalled[slot] for slot in steps if slot in self._stalled}
        if unclaimed := [place for place in self._fences.unclaimed(places, self._epochs) if place[0] not in failed]:
            failed.update(self._claim(unclaimed))
        created = max(entry.stamp for entry in work.entries)[:CREATED]
        dead = dict(work.dead)
        calls, sent, before = [], [], set[int]()
        for slot, of_slot in steps.items():
            if slot in failed:
                continue
            its = self._remaining(slot, of_slot, work.entries, dead, before)
            marks = [self._fences.at((slot, shard)).mark(numbers, created) for shard, numbers in ids[slot].items()]
            sent.append(its)
            calls.append((slot, batch(marks, its, work.ids)))
        try:
            answers = self.target.run(BATCH, calls)
        except BaseException:
            self._fences.doubt(places)
            raise
        found: dict[int, Malformed] = {}
        for (slot, _arguments), answer in zip(calls, answers):
            if isinstance(answer, Exception):
                failed[slot] = answer
                continue
            word, *rest = answer
            if word == b"ok":
                found.update({int(number): Malformed(words_of(error)) for number, error in zip(rest[::2], rest[1::2])})
                continue
            self._fences.doubt(places)
            if word == b"later":
                failed[slot] = Unavailable(words_of(rest[0]))
                continue
            if word == b"stuck":
                raise Stuck(int(rest[0]), words_of(rest[1]))
            raise Moved
        if failed and not self.target.is_parted:
            raise next(iter(failed.values()))
        places = [place for place in places if place[0] not in failed]
        for place in places:
            self._fences.at(place).took()
        dead.update(found)
        shared = frozenset(self._stall(work, steps, ids, failed)) if failed else frozenset[Place]()
        # What another slot did not know yet is done only now.
        before.difference_update([work.entries[step.change].id for its in sent for step in its])
        done = work.without(self._stalled_ids) if failed else work
        self._took(done, dead, {place: self._fences.at(place).number for place in places}, shared)
        self._count(done, dead, before, sum(map(len, sent)))

    def _stall(
        self, work: Work, steps: Mapping[int, Sequence[Step]], ids: Mapping[int, Mapping[int, Sequence[int]]], failed: Mapping[int, Exception]
    ) -> set[Place]:
        """Put aside what is not written in full, with the slots that failed, so that nothing that comes later overtakes it.

        Returns the fences that know some of these changes as applied: what they know, they tell when they are claimed again. Raises Denied.
        """
        stalled = {work.entries[step.change].id for slot in failed for step in steps[slot]}
        shared = {(slot, shard) for slot, of_shards in ids.items() for shard, its in of_shards.items() if slot not in failed and not stalled.isdisjoint(its)}
        self._fences.doubt(shared | {(slot, shard) for slot in failed for shard in ids[slot]})
        for error in failed.values():
            if isinstance(error, Denied):
                self._fences.doubt((slot, shard) for slot, of_shards in ids.items() for shard in of_shards)
                raise error
        if failed.keys() - self._stalled.keys():
            self._stalled_outage.begin(str(next(iter(failed.values()))))
            self._stalled_until = self._stalled_until if self._stalled else time.monotonic() + _STALL
            self._stalled.update(failed)
        # All of them are read again then.
        self._stalled_until = min(self._stalled_until + len(stalled) / _STALLED_RATE, time.monotonic() + _LONGEST_STALL)
        self._stalled_ids.add(sorted(stalled))
        return shared

    def _by_slot(self, work: Work) -> tuple[dict[int, list[Step]], dict[int, dict[int, list[int]]]]:
        """The steps of each slot, and the ids of each slot and shard that a fence is to know as applied."""
        steps = self.target.by_slot(work.steps)
        ids: dict[int, dict[int, list[int]]] = {}
        for slot, of_slot in steps.items():
            of_shards = ids[slot] = dict[int, list[int]]()
            for change in sorted({step.change for step in of_slot}):
                entry = work.entries[change]
                of_shards.setdefault(entry.shard, []).append(entry.id)
        return steps, ids

    def _claim(self, places: Sequence[Place]) -> dict[int, Exception]:
        """Claim these fences. Returns the errors of slots that are out of reach while others are not.

        Raises DatabaseUnavailable, Unavailable, Denied, Refused, and Moved when changes are to be applied again that come before all others.
        """
        lost, failed = self._claimed(places)
        if not lost:
            return failed
        # Who has lost one change may have lost others, in fences that nothing is written to.
        pending = {place for applied in self._applied for place in applied.numbers if place[1] in self._epochs}
        lost += self._claimed(sorted(pending.difference(places)))[0]
        log.warning("Redis has lost %d changes that it had taken; they are applied again", len(lost), extra={"action": "redis_stepped_back"})
        self.tally.count(ERRORS, "redis_stepped_back")
        self._doubts_words = True
        lost.sort()
        self._reader.seen.remove(lost)
        self._behind.remove(lost)
        raise Moved

    def _claimed(self, places: Sequence[Place]) -> tuple[list[int], dict[int, Exception]]:
        """Claim these fences. Returns the ids of what was applied, is lost by Redis, and is in the outbox still; and the errors of slots out of reach."""
        failed = self._fences.claim(places, self._epochs, self._outbox.present)
        places = [place for place in places if place[0] not in failed]
        for _slot, shard in sorted(place for place in places if self._fences.at(place).has_lost_for_good):
            log.error(
                "Redis has lost data of shard %d that is not in the outbox any more, see verify --repair", shard,
                extra={"action": "redis_lost_data", "shard": shard})
            self.tally.count(ERRORS, "redis_lost_data")
            self._doubts_words = True
        lost: list[int] = []
        for applied in self._applied:
            gone = [place for place in places if place in applied.numbers and applied.numbers[place] not in self._fences.at(place).batches]
            for shard in {shard for _slot, shard in gone} & applied.ids.keys():
                lost += applied.ids.pop(shard)
            if gone:
                # What else they know of these changes is to be asked for.
                self._fences.doubt(set(applied.numbers).difference(places))
            for place in gone:
                del applied.numbers[place]
        return lost, failed

    def _remaining(self, slot: int, steps: list[Step], entries: Sequence[Entry], dead: dict[int, Malformed], before: set[int]) -> list[Step]:
        """Those of a slot's steps that are not done, coalesced.

        The ids of changes that were applied before are added to ``before``, and what is known to be impossible to ``dead``.
        """
        fences = {shard: self._fences.at((slot, shard)) for shard in {entries[step.change].shard for step in steps}}
        if any(fence.applied or fence.dead or fence.appended for fence in fences.values()):
            left = []
            for step in steps:
                entry = entries[step.change]
                fence = fences[entry.shard]
                if entry.stamp[:CREATED] > fence.applied_created:
                    left.append(step)
                elif entry.id in fence.dead:
                    dead[entry.id] = Malformed(fence.dead[entry.id])
                elif entry.id in fence.applied:
                    before.add(entry.id)
                else:
                    left.append(step)
            appended = set().union(*(fence.appended for fence in fences.values()))
            steps = without_done(left, [entry.id for entry in entries], appended)
        return coalesce(steps)

    def _took(self, work: Work, dead: dict[int, Malformed], numbers: dict[Place, int], shared: frozenset[Place]) -> None:
        """Redis has taken a batch; ``numbers`` and ``shared`` are as in _Applied."""
        now = time.monotonic()
        ids: dict[int, list[int]] = {}
        for entry in work.entries:
            ids.setdefault(entry.shard, []).append(entry.id)
        letters = {entry.id: dead[entry.id].detail for entry in work.entries if entry.id in dead}
        self._applied.append(_Applied(now, ids, letters, numbers, shared))
        self._behind.add(work.ids)
        self._dying.add(sorted(letters))
        if not self._settings.keep:
            self._hand_over([self._applied.pop()])
        if dead:
            say_dead(work.entries, dead)
        self._reader.applied(work.entries)

    def _count(self, work: Work, dead: Collection[int], before: Collection[int], steps: int) -> None:
        """Count what a batch did: its changes but for those that a process before has applied and counted."""
        log.debug("wrote %d steps for %d changes", steps, len(work.entries), extra={"action": "batch", "count": len(work.entries)})
        self.tally.count(BATCHES)
        self.tally.count(STEPS, number=steps)
        self.tally.count(COMMANDS, "durable", sum([len(step.commands) for step in work.steps]))
        entries = work.entries
        if dead:
            self.tally.count(ERRORS, "dead_letter", len(dead))
        if dead or before:
            entries = [entry for entry in entries if entry.id not in dead and entry.id not in before]
        now = datetime.datetime.fromtimestamp(time.time() + self._clock_ahead, datetime.timezone.utc).replace(tzinfo=None)
        for applied in summary(entries):
            self.tally.count(CHANGES, applied.table, applied.number)
            # The rows of a resync are no changes: how long they wait says nothing about those.
            if applied.operation != "refresh":
                self.tally.lag(applied.table, (now - applied.created).total_seconds(), applied.number)

    # Behind

    def _confirm(self, now: float) -> None:
        """Have deleted what was applied ``keep`` ago, if Redis has it still. Raises DatabaseUnavailable, Unavailable, Denied and Refused."""
        self._confirm_at = now + _CONFIRM
        due = 0
        keep = self._settings.keep if len(self._behind) <= _MOST_APPLIED else 0.0
        while due < len(self._applied) and self._applied[due].at + keep <= now:
            due += 1
        if self._applied:
            # A Redis that went back to an earlier state has an earlier number, first of all in the fences of the last batch.
            asked = itertools.chain(itertools.islice(self._applied, due), (self._applied[-1],))
            places = sorted({place for applied in asked for place in applied.numbers if place[1] in self._epochs})
            away = self._fences.compare(places)
            if doubtful := [place for place in self._fences.unclaimed(places, self._epochs) if place not in away]:
                slots = self._claim(doubtful)
                away |= {place for place in doubtful if place[0] in slots}
            old = [self._applied.popleft() for _batch in range(due)]
            # What is on a node that is out of reach may be lost there.
            self._applied.extendleft(reversed([applied for applied in old if not away.isdisjoint(applied.numbers)]))
            self._hand_over([applied for applied in old if away.isdisjoint(applied.numbers)])
        self._forget()
        if self._doubts_words:
            self._doubts_words = any(isinstance(answer, Exception) for answer in self.target.ask([("DEL", word) for word in self._words]))
        if self._behind or self._said_behind:
            self.target.ask([saying(self._source, self._leases.owner, self._in_redis)])
            self._said_behind = bool(self._behind)

    def _hand_over(self, work: Sequence[_Applied]) -> None:
        for place, batch_number in itertools.chain(*(applied.numbers.items() for applied in work)):
            self._fences.let_go(place, batch_number)
        self._deleter.put([
            Deletion(applied.ids, applied.dead, {place: number for place, number in applied.numbers.items() if place not in applied.shared})
            for applied in work])

    def _note_deleted(self) -> None:
        for deletion in self._deleter.deleted():
            self._behind.remove(deletion.sorted_ids)
            self._dying.remove(deletion.sorted_ids)
            self._fences.deleted(deletion.ids)
            for place, number in deletion.numbers.items():
                self._fences.forget(place, number, deletion.dead)

    def _forget(self) -> None:
        """Let Redis forget what is deleted, in the fences that no batch comes by."""
        places = self._fences.forgetting
        if not places:
            return
        by_slot: dict[int, list[Place]] = {}
        for place in places:
            by_slot.setdefault(place[0], []).append(place)
        try:
            answers = self.target.run(BATCH, [(slot, batch([self._fences.at(place).mark([], b"") for place in its], [], [])) for slot, its in by_slot.items()])
        except BaseException:
            self._fences.doubt(places)
            raise
        for its, answer in zip(by_slot.values(), answers):
            if not isinstance(answer, Exception) and answer[0] == b"ok":
                for place in its:
                    self._fences.at(place).took()
            else:
                self._fences.doubt(its)

    def _refused(self, refused: Refused) -> None:
        log.warning("a stale batch of shard %d was refused: %s", refused.shard, refused, extra={"action": "stale_batch_refused"})
        self.tally.count(ERRORS, "stale_batch")
        if not self._leases.raise_above(refused.shard, refused.epoch):
            self._leases.lost(refused.shard)
            self.tally.count(ERRORS, "lease_lost")
            return
        # The database is older than Redis: it was restored, or another one has the same source's name.
        log.warning(
            "the lease of shard %d is ours all the same; its epoch is %d now", refused.shard, self._leases.held[refused.shard],
            extra={"action": "epoch_raised"})

    # Jobs

    def _take_jobs(self) -> None:
        jobs = self.servers.batch
        if not jobs:
            return
        now = time.monotonic()
        for job in jobs:
            if job.function.startswith(DRAIN):
                self._wakes.append(job)
                self._pace.woken(now)
            elif self._desk.ask(job):
                self._pace.due = 0.0
        self.servers.finish_batch()

    def _release(self, now: float) -> None:
        """Answer the wakes when no change has come for a while. Those of a process that stops or dies go back to the job server."""
        if self._wakes and not self._pace.holds(now):
            for job in self._wakes:
                self.servers.answer(job, b"", _DONE)
            self._wakes = []
            self._pace.released(now)

    def _known_applied(self) -> Spans:
        """What is in Redis and may still be in the outbox, of all processes. Raises DatabaseUnavailable and Unavailable."""
        if self._leases.has_all:
            return self._done if self._epochs == self._leases.held else self._in_redis
        others = [owner for owner in owners(self._database) if owner != self._leases.owner]
        return Spans(itertools.chain(self._in_redis, read(self.target, self._source, others)))

    @property
    def _done(self) -> Spans:
        """What need not be looked for when all shards are ours: what is in Redis, and of the first ids also those that are deleted or do not come any more."""
        found = self._reader.met
        for first, last in itertools.chain(self._stalled_ids, self._dying):
            found.remove_span(first, last)
        for first, last in self._in_redis:
            found.add_span(first, last)
        return found

    @property
    def _in_redis(self) -> Spans:
        """What is in Redis and not deleted yet. What cannot be applied is not: it waits until it is a dead letter, which is counted."""
        if not self._dying:
            return self._behind
        found = Spans(self._behind)
        for first, last in self._dying:
            found.remove_span(first, last)
        return found

    def _look_for(self, question: Barrier) -> Optional[Answer]:
        if time.monotonic() >= self._database_outage.retry_at:
            try:
                answer = question.look()
                # In a new session what is known of ids may be another server's.
                return answer if self._session == self._database.sessions else None
            except DatabaseUnavailable as error:
                # Many questions may be open: the others do not make an attempt of their own, each of which may take seconds.
                self._begin_outage(error)
            except Unavailable as error:
                return question.failed(error)
        return question.failed(self._database_error)
