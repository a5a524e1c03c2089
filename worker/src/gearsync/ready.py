"""Which changes of the outbox may be applied now: read, decoded, coalesced, and none before its turn."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple, Optional

from gearsync.change import Change, Malformed, decode_outbox
from gearsync.commands import Step, Writer, coalesce
from gearsync.config import WorkerSettings
from gearsync.outbox import Batch, Entry, Outbox, RowsDenied
from gearsync.transform import shown

log = logging.getLogger(__name__)

#: A batch with reloads is read so much further: what follows in it must not show an earlier state than the row that was read.
_RELOAD_FACTOR = 10
_MOST_AHEAD = 10_000
#: Seconds until a table whose rows may not be read is tried again, and for which it is believed that nothing of a table is in other shards.
_HELD = 2.0
_BELIEVED = 1.0


class Work(NamedTuple):
    """What a batch comes to."""

    steps: list[Step]
    #: Id and reason of each change that cannot be applied: for the log, and in full.
    dead: dict[int, Malformed]


class Ready(NamedTuple):
    """A batch that only has to be sent."""

    entries: list[Entry]
    work: Work
    #: Whether there may be more to be done at once.
    more: bool
    #: Whether changes must wait for those of another count of shards.
    waiting: bool


def work_of(entries: Sequence[Entry], writers: dict[str, Writer], reloaded: dict[int, Change], wrong: dict[int, Malformed]) -> Work:
    """The steps of a batch, coalesced. ``reloaded`` and ``wrong`` say what became of its reloads. Pure."""
    steps: list[Step] = []
    dead = dict(wrong)
    for number, (outbox_id, table, operation, payload, _created) in enumerate(entries):
        if outbox_id in wrong:
            continue
        try:
            change = reloaded[outbox_id] if operation == "reload" else decode_outbox(table, operation, payload)
            found = writers[table].steps(change)
            for step in found:
                step.change = number
            steps += found
        except Malformed as error:
            dead[outbox_id] = error
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # ours or a transform's: one change must not stop the process again and again
            words = f"applying it raised {type(error).__name__}"
            dead[outbox_id] = Malformed(words, f"{words}: {shown(error)}")
    return Work(coalesce(steps), dead)


class Reader:
    """Reads shards whose leases this process holds. Every method that reads raises DatabaseUnavailable."""

    def __init__(self, outbox: Outbox, writers: dict[str, Writer], fingerprints: dict[str, str], settings: WorkerSettings) -> None:
        """``fingerprints`` are those of the tables' declarations that ``writers`` are made of."""
        self._outbox = outbox
        self._writers = writers
        self._fingerprints = fingerprints
        self._settings = settings
        #: Tables whose changes wait: those that are not declared, those whose triggers are of a later declaration, and those whose rows may not be read,
        #: with the time of the next look.
        self._undeclared: set[str] = set()
        self._outdated: set[str] = set()
        self._held: dict[str, float] = {}
        #: Until when it is known that nothing of a table is in these shards.
        self._nothing_in: dict[tuple[str, tuple[int, ...]], float] = {}
        #: Whether a table was found since the last ``unfit`` whose changes others can apply and this process cannot.
        self.met_unknown = False

    def unfit(self) -> str:
        """The tables that other processes know better, if there are any, as a reason to leave the work to them; empty when there are none."""
        self.met_unknown = False
        known = self._outbox.fingerprints(self._undeclared | self._outdated)
        self._outdated &= self._older(known)
        # Of a table that is synced no more changes may be left, which nobody is to write.
        outdated = self._outdated | (self._undeclared & known.keys())
        return f"its configuration is older than the triggers of {', '.join(sorted(outdated))}" if outdated else ""

    def read(self, shard: int) -> Ready:
        """The shard's oldest changes that may be applied."""
        limit = self._settings.batch
        batch, reloaded, wrong = self._read_rows(shard, limit)
        declared, others = self._declared(shard, batch.entries)
        entries, waiting = self._in_turn(declared, others)
        if waiting and not entries and batch.more:
            batch = self._outbox.read(shard, limit, self._left_out() | waiting)
            found, others = self._declared(shard, batch.entries)
            declared = [entry for entry in found if entry.operation != "reload"]
            entries, _waiting = self._in_turn(declared, others)
        ids = {entry.id for entry in entries} if wrong else set()
        work = work_of(entries, self._writers, reloaded, {number: error for number, error in wrong.items() if number in ids})
        return Ready(entries, work, batch.more and bool(entries or len(declared) < len(batch.entries)), bool(waiting))

    def read_each(self, shards: Collection[int]) -> dict[int, Ready]:
        """The oldest changes of each of ``shards``, which are of one count, at the price of one; a shard that wants to be read by itself is left out."""
        batches = self._outbox.read_each(shards, self._settings.batch, self._left_out())
        plain = {shard: batch for shard, batch in batches.items() if self._is_plain(batch)}
        tables = {entry.table for batch in plain.values() for entry in batch.entries}
        if tables:
            known, others = self._outbox.after(min(plain), tables)
            if others or self._older(known):
                plain = {shard: batch for shard, batch in plain.items() if not batch.entries}
        return {shard: self._ready(batch) for shard, batch in plain.items()}

    def read_ahead(self, shard: int) -> Optional[Ready]:
        """Within the transaction that has deleted a batch: what comes after it, when there is nothing special about it."""
        batch = self._outbox.read(shard, self._settings.batch, self._left_out())
        if not batch.entries or not self._is_plain(batch):
            return None
        known, others = self._outbox.after(shard, {entry.table for entry in batch.entries})
        return None if others or self._older(known) else self._ready(batch)

    def _is_plain(self, batch: Batch) -> bool:
        return all(entry.operation != "reload" and entry.table in self._writers for entry in batch.entries)

    def _ready(self, batch: Batch) -> Ready:
        return Ready(batch.entries, work_of(batch.entries, self._writers, {}, {}), batch.more, False)

    def _older(self, known: dict[str, list[str]]) -> set[str]:
        """The tables of which triggers are made by a later declaration than ours; one that is not known yet is newer than all."""
        return {table for table, fingerprints in known.items() if self._fingerprints.get(table) in fingerprints[:-1]}

    def _left_out(self) -> set[str]:
        """The tables whose changes are not read now."""
        now = time.monotonic()
        return self._undeclared | self._outdated | {table for table, due in self._held.items() if now < due}

    def _read_rows(self, shard: int, limit: int) -> tuple[Batch, dict[int, Change], dict[int, Malformed]]:
        """The shard's oldest changes, and what its reloads come to."""
        while True:
            batch = self._outbox.read(shard, limit, self._left_out())
            if all(entry.operation != "reload" for entry in batch.entries):
                return batch, {}, {}
            try:
                # The lease is not renewed meanwhile.
                ahead = max(limit, min(limit * _RELOAD_FACTOR, _MOST_AHEAD))
                found = self._outbox.read_with_rows(shard, ahead, self._left_out(), self._settings.lease / 3)
            except RowsDenied as denied:
                # Somebody can give that right; until then the table's changes wait in their order, and hold up no other table.
                if denied.table not in self._held:
                    log.warning("changes of %s wait, because its rows may not be read: %s", denied.table, denied, extra={"action": "rows_denied"})
                self._held[denied.table] = time.monotonic() + _HELD
                continue
            for table in {entry.table for entry in found[0].entries if entry.operation == "reload"} & self._held.keys():
                del self._held[table]
                log.info("the rows of %s may be read again", table, extra={"action": "rows_readable"})
            return found

    def _declared(self, shard: int, entries: list[Entry]) -> tuple[list[Entry], list[int]]:
        """The changes of tables that this worker knows, by their newest declaration, and which shards of other counts have changes.

        The others' changes wait for a worker that knows them, and hold up nobody.
        """
        tables = {entry.table for entry in entries}
        unknown = tables - self._writers.keys()
        for table in sorted(unknown - self._undeclared):
            log.warning("changes of %s wait in the outbox, which this worker's configuration does not declare", table, extra={"action": "undeclared_table"})
        self._undeclared |= unknown
        # Asked after the changes were read: one that newer triggers have made is never taken for one of ours.
        known, others = self._outbox.after(shard, tables) if tables else ({}, [])
        outdated = self._older(known)
        for table in sorted(outdated - self._outdated):
            log.warning("changes of %s wait in the outbox: its triggers are of a later declaration than ours", table, extra={"action": "outdated_table"})
        self._outdated |= outdated
        if not unknown and not outdated:
            return entries, others
        self.met_unknown = True
        return [entry for entry in entries if entry.table not in unknown and entry.table not in outdated], others

    def _in_turn(self, entries: list[Entry], others: list[int]) -> tuple[list[Entry], set[str]]:
        """The changes that may be applied now, and the tables of those that must wait for an older change in a shard of another count."""
        if not others:
            return entries, set()
        first = {table: self._oldest(table, others) for table in {entry.table for entry in entries}}
        found, waiting = [], set()
        for entry in entries:
            before = first[entry.table]
            if before is None or entry.id < before:
                found.append(entry)
            else:
                waiting.add(entry.table)
        return found, waiting

    def _oldest(self, table: str, shards: list[int]) -> Optional[int]:
        """The smallest id of a table's changes in shards of another count, whose backlog is long when it is other tables'."""
        question, now = (table, tuple(shards)), time.monotonic()
        if now < self._nothing_in.get(question, now):
            return None
        found = self._outbox.oldest(table, shards)
        # While its triggers write to one place, none can come to be there that should be before those that are here.
        if found is None and self._outbox.is_settled(table):
            self._nothing_in = {key: until for key, until in self._nothing_in.items() if now < until} | {question: now + _BELIEVED}
        return found
