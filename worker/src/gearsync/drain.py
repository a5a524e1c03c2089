"""Durable delivery: read a shard's changes, write them to Redis in one fenced step, delete what was read."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Sequence
from typing import NamedTuple, Optional

import msgspec

from gearsync import barrier
from gearsync.change import Malformed
from gearsync.commands import Writer
from gearsync.config import Config
from gearsync.database import Database, DatabaseUnavailable
from gearsync.declaration import LOGS, fingerprint
from gearsync.job_server import Job, JobServers
from gearsync.lease import Leases
from gearsync.metrics import BATCHES, CHANGES, COMMANDS, ERRORS, STEPS, Tally, Window
from gearsync.outbox import Entry, Outbox, layout, summary
from gearsync.ready import Reader, Ready, Work
from gearsync.target import Applied, Fence, Refused, Target, Unavailable, append_ids
from gearsync.transform import Transform

log = logging.getLogger(__name__)

DRAIN = "gearsync.drain"
_DONE = b"done"
#: Seconds between two looks at the leases; a third of a lease when that is less.
_REFRESH = 1.0
#: Seconds between two reports of what was done.
_REPORT = 5.0
#: Seconds between two looks after a wake: it comes before its commit. The first and the longest.
_FIRST_GAP, _LAST_GAP = 0.0005, 0.005
#: What waits for another count's shard is looked at again after so many seconds.
_TURN = 0.02
#: Changes of several shards that are written in one transaction.
_FEW = 200
#: Changes that a line of the log names.
_NAMED = 5
_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0


class _LeaseLost(Exception):
    """The lease is another's by now; raised to roll back."""


class _DeadLetters(Exception):
    """Redis has refused commands, whose changes are to be kept before they are deleted; raised to roll back."""


class _Shard:
    """What this process knows of a shard whose lease it holds."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.due = 0.0
        self.gap = _FIRST_GAP
        self.linger_until = 0.0
        #: Whether the next look is at this shard alone.
        self.by_itself = False
        #: Whether Redis has taken a batch of this lease.
        self.written = False
        #: Whether what the fence keeps was compared with the outbox.
        self.compared = False
        #: Appended ids that are deleted from the outbox, and that the fence may forget.
        self.deleted: list[str] = []
        #: The next batch: read while Redis did the last one, or together with other shards'.
        self.ahead: Optional[Ready] = None


class _Batch(NamedTuple):
    """A shard's changes on their way."""

    shard: int
    state: _Shard
    ready: Ready
    ids: list[int]
    #: For each step the id under which it is appended.
    appended: list[str]
    fence: Fence


class _Outage:
    """A server that does not do its work: logged when it begins and when it ends, tried again with a growing pause."""

    def __init__(self, name: str, action: str, longest: float, tally: Tally) -> None:
        self.name = name
        self.action = action
        self._tally = tally
        self.failures = 0
        self.since = 0.0
        self.retry_at = 0.0
        self._longest = min(longest, _LAST_PAUSE)
        self._said: set[str] = set()

    def begin(self, words: str) -> None:
        if words not in self._said:
            log.warning("%s, trying again for ever: %s", self.name, words, extra={"action": f"{self.action}_lost"})
        self._said.add(words)
        self._tally.count(ERRORS, f"{self.action}_lost")
        now = time.monotonic()
        self.since = self.since if self.failures else now
        self.retry_at = now + min(_FIRST_PAUSE * 2 ** min(self.failures, 16), self._longest)
        self.failures += 1

    def end(self) -> None:
        if self.failures:
            log.info("%s: over", self.name, extra={"action": f"{self.action}_back"})
        self.failures, self.retry_at = 0, 0.0
        self._said.clear()


class _Question(NamedTuple):
    """A barrier's job and what is to be answered to it."""

    job: Job
    barrier: barrier.Barrier


def say_dead(shard: int, entries: Sequence[Entry], dead: dict[int, Malformed]) -> None:
    """One line for each table, whatever the number of its changes."""
    lost: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.id in dead:
            lost.setdefault(entry.table, []).append(entry)
    for table, found in sorted(lost.items()):
        ids = [entry.id for entry in found[:_NAMED]]
        log.error(
            "%d changes of %s cannot be applied and are in dead_letter, the first of them %s: %s", len(found), table, ", ".join(map(str, ids)), dead[ids[0]],
            extra={"action": "dead_letter", "table": table, "shard": shard, "count": len(found), "ids": ids})


class _Separately(Exception):
    """Something is the matter with a shard of several; raised to roll back, and to find it out shard by shard."""


class Servers(NamedTuple):
    """The edges of a drain."""

    jobs: JobServers
    target: Target
    database: Database


class Drain:
    """One process's loop: ``step`` until ``stopped``."""

    def __init__(self, config: Config, servers: Servers, transforms: dict[str, Transform], tally: Tally) -> None:
        self.servers, self.target, database = servers
        self.tally = tally
        self._source = config.source
        self._settings = config.worker
        self._appends = any(write.type in LOGS for table in config.tables for write in table.write)
        self._database = database
        self._outbox = Outbox(database)
        # All tables: changes of one that is delivered directly now may wait from before.
        writers = {table.table: Writer(table, transforms.get(table.table)) for table in config.tables}
        self._reader = Reader(self._outbox, writers, {table.table: fingerprint(table) for table in config.tables}, config.worker)
        self._leases = Leases(database, self._outbox, config.worker.lease)
        self._shards: dict[int, _Shard] = {}
        self._questions: list[_Question] = []
        self._window = Window()
        #: By how much the server's clock is before ours, in seconds.
        self._clock_ahead = 0.0
        self._refresh_at = self._sweep_at = self._report_at = self._ping_at = 0.0
        self._reaches_redis = True
        self._stopping = False
        longest = config.worker.reconnect_max
        self._database_outage = _Outage(f"MySQL {database.name} is away or has no schema", "mysql", longest, tally)
        self._database_error: Optional[DatabaseUnavailable] = None
        self._redis_outage = _Outage(f"Redis {self.target.name} takes no writes", "redis", longest, tally)
        self._offer()

    @property
    def stopped(self) -> bool:
        """Whether a stop was asked for; between two steps nothing is in hand."""
        return self._stopping

    def stop(self) -> None:
        """Begin nothing new."""
        self._stopping = self.servers.stopping = True

    def step(self, seconds: float) -> None:
        """One look at everything that is due, at most one batch; then wait up to ``seconds`` for jobs."""
        if time.monotonic() >= self._database_outage.retry_at:
            try:
                self._look()
                self._database_outage.end()
            except DatabaseUnavailable as error:
                self._begin_outage(error)
        self._answer()
        self.servers.poll(self._pause(seconds))
        self._take_jobs()

    def _begin_outage(self, error: DatabaseUnavailable) -> None:
        # What is in the outbox waits there; nobody knows whether a batch was deleted.
        for state in self._shards.values():
            state.compared, state.ahead = False, None
        self._database_error = error
        self._database_outage.begin("the schema is not there yet" if error.schema_absent else str(error))

    def close(self) -> None:
        """Give the shards to others."""
        try:
            self._leases.close()
        except DatabaseUnavailable as error:
            log.warning("the leases were not given back and run out by themselves: %s", error, extra={"action": "leases_kept"})
        self._database.close()

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._refresh_at:
            self._leases.refresh(self._unfit(now))
            self._refresh_at = now + min(_REFRESH, self._settings.lease / 3)
            self._tell(now)
        if now >= self._sweep_at:
            self._sweep_at = now + self._settings.sweep
            for shard in self._outbox.shards():
                if shard in self._shards:
                    self._shards[shard].due = min(self._shards[shard].due, now)
        self._know_shards()
        if now < self._redis_outage.retry_at:
            return
        shard = min(self._shards, key=lambda number: self._shards[number].due, default=-1)
        if shard < 0 or self._shards[shard].due > now:
            return
        try:
            together = [] if self._redis_outage.failures else self._read_together(shard, now)
            if len(together) > 1:
                self._write_together(together)
            else:
                self._drain(shard, self._shards[shard])
            self._redis_outage.end()
        except Unavailable as error:
            self._redis_outage.begin(str(error))
        except _LeaseLost:
            self._leases.lost(shard)
            self.tally.count(ERRORS, "lease_lost")
        self._leases.balance(shard)
        self._know_shards()

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
        return self._reader.unfit() or (f"Redis {self.target.name} is out of reach" if self._cut_off(now) else "")

    def _cut_off(self, now: float) -> bool:
        """Whether Redis has been out of this process's reach for longer than a lease."""
        outage = self._redis_outage
        if not outage.failures or now - outage.since < self._settings.lease:
            return False
        if now >= self._ping_at:
            self._ping_at = now + _LAST_PAUSE
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
        """Follow the leases: a shard that was taken is looked at, and its wakes are asked for."""
        held = self._leases.held
        if {shard: state.epoch for shard, state in self._shards.items()} == held:
            return
        for shard in [shard for shard, state in self._shards.items() if held.get(shard) != state.epoch]:
            del self._shards[shard]
        for shard, epoch in held.items():
            if shard not in self._shards:
                self._shards[shard] = _Shard(epoch)
        self._offer()

    def _offer(self) -> None:
        drains = [f"{DRAIN}.{self._source}.{shard}" for shard in sorted(self._shards)]
        self.servers.offer([*drains, barrier.FUNCTION, f"{barrier.FUNCTION}.{self._source}"])

    def _pause(self, seconds: float) -> float:
        now = time.monotonic()
        moments = [now + seconds, *(question.barrier.next_look for question in self._questions)]
        if self._database_outage.failures:
            moments.append(self._database_outage.retry_at)
        else:
            moments += [self._refresh_at, self._sweep_at]
            due = min((state.due for state in self._shards.values()), default=now + seconds)
            moments.append(max(due, self._redis_outage.retry_at))
        return 0.0 if self._stopping else max(0.0, min(moments) - now)

    # One batch

    def _read_together(self, first: int, now: float) -> list[int]:
        """Read what is looked at in this moment or the next: one look at all these shards costs hardly more than one at ``first``.

        Returns those whose changes can be written together.
        """
        # Those of which a batch is read already, or that want to be read by themselves, have their turn.
        together = [
            shard for shard, state in self._shards.items()
            if shard in layout(first) and state.ahead is None and not state.by_itself and (state.due <= now + _FIRST_GAP or now < state.linger_until)
        ]
        if first not in together or len(together) == 1:
            return []
        found = self._reader.read_each(together)
        for shard in together:
            state, ready = self._shards[shard], found.get(shard)
            if ready is None:
                state.by_itself, state.due = True, min(state.due, now)
            elif ready.entries or shard == first:
                state.ahead, state.due = ready, min(state.due, now)
            else:
                self._rest(state, ready)
        few = [shard for shard, ready in found.items() if ready.entries and not ready.more and not ready.work.dead]
        # The transaction is open, and its rows are locked, for as long as Redis takes for all of them.
        return few if self.target.is_one_server and sum([len(found[shard].entries) for shard in few]) <= _FEW else []

    def _write_together(self, shards: Sequence[int]) -> None:
        """Apply and delete the few changes of several shards, in one transaction. Raises DatabaseUnavailable and Unavailable."""
        batches = []
        for shard in shards:
            state = self._shards[shard]
            if state.ahead is not None:
                batches.append(self._batch(shard, state, state.ahead))
                # Whatever goes wrong now, the next attempt is shard by shard.
                state.ahead, state.by_itself = None, True
        statements = [words for batch in batches for words in (self._leases.renewal(batch.shard), self._outbox.deletion(batch.shard, batch.ids))]
        try:
            with self._database.transaction(*statements) as found:
                if 0 in found[::2]:
                    raise _Separately
                for batch in batches:
                    self._send(batch)
                    if self._receive(batch.shard, batch.state).errors:
                        raise _Separately
        except (_Separately, Refused):
            # What Redis has taken it takes once more, as after a crash.
            return
        for batch in batches:
            self._done(batch, {})
            self._rest(batch.state, batch.ready)

    def _drain(self, shard: int, state: _Shard) -> None:
        """Apply and delete the shard's oldest changes. Raises DatabaseUnavailable, Unavailable and _LeaseLost."""
        ready, state.ahead = state.ahead or self._reader.read(shard), None
        if self._reader.met_unknown:
            self._refresh_at = 0.0
        if not ready.entries and self._redis_outage.failures:
            # Nothing to write is no sign that it takes writes.
            self.target.ping()
        if ready.entries:
            try:
                self._write(shard, state, ready)
            except BaseException:
                state.ahead = None
                raise
        self._rest(state, ready)

    def _rest(self, state: _Shard, ready: Ready) -> None:
        """When to look the next time, after ``ready`` was all that was found."""
        now = time.monotonic()
        state.by_itself = ready.more or ready.waiting
        if ready.entries:
            state.linger_until, state.gap = now + self._settings.linger, _FIRST_GAP
        if ready.more:
            state.due = now
        elif ready.waiting:
            state.due = now + _TURN
        elif now < state.linger_until:
            state.due, state.gap = now + state.gap, min(state.gap * 1.5, _LAST_GAP)
        else:
            state.due = now + self._settings.sweep

    def _batch(self, shard: int, state: _Shard, ready: Ready) -> _Batch:
        """What is to be sent, when it is known what Redis may forget."""
        ids = [entry.id for entry in ready.entries]
        batch = _Batch(shard, state, ready, ids, append_ids(ready.work.steps, ids), Fence(self._source, shard, state.epoch))
        if not state.compared and self._appends:
            self._compare(state, batch.fence)
        return batch

    def _send(self, batch: _Batch) -> None:
        self.target.send(batch.fence, batch.ready.work.steps, batch.appended, batch.state.deleted)

    def _done(self, batch: _Batch, dead: dict[int, Malformed]) -> None:
        batch.state.deleted = [append_id for append_id in batch.appended if append_id]
        self._report(batch.shard, batch.ready.entries, batch.ready.work, dead)

    def _write(self, shard: int, state: _Shard, ready: Ready) -> None:
        batch = self._batch(shard, state, ready)
        ids, work = batch.ids, ready.work
        dead = dict(work.dead)
        self._send(batch)
        try:
            if not dead:
                try:
                    # While Redis works, the deletion and the next batch are prepared; the commit waits for what Redis says.
                    with self._database.transaction(self._leases.renewal(shard), self._outbox.deletion(shard, ids)) as (renewed, _deleted):
                        state.ahead = self._reader.read_ahead(shard) if ready.more and renewed else None
                        applied = self._receive(shard, state)
                        if not renewed:
                            raise _LeaseLost
                        if applied.errors:
                            raise _DeadLetters
                except _DeadLetters:
                    state.ahead = None
            else:
                applied = self._receive(shard, state)
        except Refused as refused:
            state.ahead = None
            self._refused(shard, state, refused)
            return
        finally:
            if self.target.answer_is_due:
                self._hear_out(shard, state)
        for step, error in applied.errors:
            dead.setdefault(ids[work.steps[step].change], Malformed(error))
        if dead:
            with self._database.transaction(self._leases.renewal(shard)) as (renewed,):
                if not renewed:
                    raise _LeaseLost
                self._outbox.keep(shard, {number: error.detail for number, error in dead.items()})
                self._database.run(self._outbox.deletion(shard, ids))
        self._done(batch, dead)

    def _report(self, shard: int, entries: list[Entry], work: Work, dead: dict[int, Malformed]) -> None:
        if dead:
            say_dead(shard, entries, dead)
        self._count(entries, work, dead)
        log.debug(
            "wrote %d steps for %d changes of shard %d", len(work.steps), len(entries), shard,
            extra={"action": "batch", "shard": shard, "count": len(entries)})

    def _count(self, entries: list[Entry], work: Work, dead: dict[int, Malformed]) -> None:
        self.tally.count(BATCHES)
        self.tally.count(STEPS, number=len(work.steps))
        self.tally.count(COMMANDS, "durable", sum([len(step.commands) for step in work.steps]))
        if dead:
            self.tally.count(ERRORS, "dead_letter", len(dead))
            entries = [entry for entry in entries if entry.id not in dead]
        now = datetime.datetime.fromtimestamp(time.time() + self._clock_ahead, datetime.timezone.utc).replace(tzinfo=None)
        for applied in summary(entries):
            self.tally.count(CHANGES, applied.table, applied.number)
            # The rows of a resync are no changes: how long they wait says nothing about those.
            if applied.operation != "refresh":
                self.tally.lag(applied.table, (now - applied.created).total_seconds(), applied.number)

    def _compare(self, state: _Shard, fence: Fence) -> None:
        """Let the fence forget what was deleted by a process before this one, or by a commit whose answer was lost."""
        kept = self.target.appended(fence)
        present = self._outbox.present(fence.shard, sorted({int(append_id.partition(".")[0]) for append_id in kept}))
        state.deleted = [append_id for append_id in kept if int(append_id.partition(".")[0]) not in present]
        state.compared = True

    def _receive(self, shard: int, state: _Shard) -> Applied:
        applied = self.target.receive()
        if applied.known is None and state.written:
            log.error(
                "Redis has lost data: its fence of shard %d is gone; what was in Redis before may be missing, see verify", shard,
                extra={"action": "redis_lost_data"})
            self.tally.count(ERRORS, "redis_lost_data")
        state.written = True
        state.deleted = []
        return applied

    def _hear_out(self, shard: int, state: _Shard) -> None:
        """The database has failed before Redis' answer was there: the batch comes again, whatever the answer is."""
        try:
            self.target.receive()
        except Refused as refused:
            self._say_refused(shard, state, refused)
        except Unavailable:
            log.debug("Redis did not answer either", extra={"action": "no_answer"})

    def _say_refused(self, shard: int, state: _Shard, refused: Refused) -> None:
        log.warning("a stale batch of shard %d with epoch %d was refused: %s", shard, state.epoch, refused, extra={"action": "stale_batch_refused"})
        self.tally.count(ERRORS, "stale_batch")

    def _refused(self, shard: int, state: _Shard, refused: Refused) -> None:
        self._say_refused(shard, state, refused)
        if not self._leases.raise_above(shard, refused.epoch):
            raise _LeaseLost
        # The database is older than Redis: it was restored, or another one has the same source's name. The batch is read again.
        state.epoch = self._leases.held[shard]
        log.warning("the lease of shard %d is ours all the same; its epoch is %d now", shard, state.epoch, extra={"action": "epoch_raised"})

    # Jobs

    def _take_jobs(self) -> None:
        jobs = self.servers.batch
        if not jobs:
            return
        now = time.monotonic()
        for job in jobs:
            if job.function.startswith(DRAIN):
                self.servers.answer(job, b"", _DONE)
                shard = job.function.rpartition(".")[2]
                state = self._shards.get(int(shard)) if shard.isdigit() else None
                if state is not None:
                    state.due, state.gap, state.linger_until = now, _FIRST_GAP, now + self._settings.linger
            else:
                self._ask(job)
        self.servers.finish_batch()

    def _ask(self, job: Job) -> None:
        wanted = job.data.decode(errors="replace")
        if wanted not in ("", self._source):
            self._reply(job, {"ok": False, "error": f"this worker's source is {self._source!r}, not {wanted!r}"})
            return
        self._questions.append(_Question(job, barrier.Barrier(self._outbox)))
        for state in self._shards.values():
            state.due = 0.0

    def _answer(self) -> None:
        """Answer the barriers that have an answer."""
        now = time.monotonic()
        open_questions = []
        for question in self._questions:
            answer = self._look_for(question.barrier, now) if now >= question.barrier.next_look else None
            if answer is None:
                open_questions.append(question)
            else:
                self._reply(question.job, answer)
        self._questions = open_questions

    def _look_for(self, question: barrier.Barrier, now: float) -> Optional[dict[str, object]]:
        outage = self._database_outage
        if now >= outage.retry_at:
            try:
                return question.look()
            except DatabaseUnavailable as error:
                # Many questions may be open: the others do not make an attempt of their own, each of which may take seconds.
                self._begin_outage(error)
        return question.failed(self._database_error)

    def _reply(self, job: Job, answer: dict[str, object]) -> None:
        self.servers.answer(job, b"", msgspec.json.encode(answer))
