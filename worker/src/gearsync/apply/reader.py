"""Which changes of the outbox may be applied now: looked for, read, decoded; those that must wait are put aside."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Optional

from gearsync.apply.work import Usable, Work, work_of
from gearsync.declare.configuration import WorkerSettings
from gearsync.outbox.changes import Batch, Entry, Look
from gearsync.outbox.declarations import Declarations, number_of
from gearsync.outbox.reload_rows import Reloaded, RowsDenied
from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox
from gearsync.values import Malformed

log = logging.getLogger(__name__)

#: A batch with reloads is read so much further: what follows in it must not show an earlier state than the row that was read.
_RELOAD_FACTOR = 10
_MOST_AHEAD = 10_000
#: Seconds until a table whose changes could not be applied is tried again.
_HELD = 2.0
#: Ranges of ids of one look: more of them are more work for the server than the rows between them.
_MOST_RANGES = 500
#: From so many ranges on of ids that did not come it is asked whether they may still come, and from so many on all is looked for again.
_FEW_RANGES, _TOO_MANY_RANGES = 10, 20_000


class _Aside:
    """The changes of a table that cannot be applied now, and when to try again."""

    def __init__(self, retry_at: float) -> None:
        self.retry_at = retry_at
        self.ids = Spans()


class Reader:
    """Reads the outbox. Every method that reads raises DatabaseUnavailable."""

    def __init__(self, outbox: Outbox, declarations: Declarations, settings: WorkerSettings) -> None:
        self._outbox = outbox
        self._declarations = declarations
        self._settings = settings
        #: Ids that are not looked for: applied, on their way, or put aside.
        self.seen = Spans()
        self._aside: dict[str, _Aside] = {}
        #: Tables with changes that wait for a worker with another configuration.
        self._behind: set[str] = set()
        #: Shards of changes that were met, and that no process has a lease of.
        self.unleased: set[int] = set()
        #: All transactions that have written up to this id have ended.
        self._decided = 0
        #: Tables that were said to wait for a while.
        self._said: set[str] = set()

    @property
    def unfit(self) -> str:
        """The tables that other processes know better, as a reason to leave the work to them; empty when there are none."""
        return f"its configuration is older than the triggers of {', '.join(sorted(self._behind))}" if self._behind else ""

    def refresh(self) -> None:
        """Learn of new declarations."""
        if self._declarations.renewed():
            self._behind.clear()
            for aside in self._aside.values():
                aside.retry_at = 0.0

    def forget(self, behind: Spans) -> None:
        """Look for everything again but for what is ``behind``: other shards are ours."""
        self.seen = Spans(behind)
        self._aside.clear()
        self._decided = 0

    @property
    def has_gaps(self) -> bool:
        """Whether looks would be cheaper if ids that did not come were known not to come any more."""
        return self.seen.ranges > _FEW_RANGES or 1 not in self.seen

    @property
    def met(self) -> Spans:
        """The ids from the first on, as long as each was met or does not come any more, but for those that are put aside."""
        found = Spans([(0, self.seen.first_absent - 1)])
        for first, last in itertools.chain(*(aside.ids for aside in self._aside.values())):
            found.remove_span(first, last)
        return found

    def decide(self, last: int) -> None:
        """No id up to ``last`` comes any more that is not there now: the transactions have ended that could bring it."""
        self._decided = max(self._decided, last)

    def compact(self, behind: Iterable[tuple[int, int]]) -> None:
        """Keep ``seen`` small while a transaction stays open: the rows of all but ``behind`` and what is put aside are deleted."""
        if self.seen.ranges > _TOO_MANY_RANGES:
            self.seen = Spans(itertools.chain(behind, *(aside.ids for aside in self._aside.values())))

    def hold(self, table: str, ids: Sequence[int], words: str) -> None:
        """Put changes of ``table`` aside for a while, and all that come after them; other tables go on. ``words`` say why."""
        if table not in self._said:
            log.warning("changes of %s wait: %s", table, words, extra={"action": "table_held", "table": table})
            self._said.add(table)
        self._aside.setdefault(table, _Aside(0.0))
        self._aside[table].retry_at = time.monotonic() + _HELD
        self._put_aside(table, ids)

    def applied(self, entries: Sequence[Entry]) -> None:
        """These changes are in Redis."""
        if self._said:
            for table in sorted(self._said & {entry.table for entry in entries}):
                log.info("changes of %s are applied again", table, extra={"action": "table_back", "table": table})
                self._said.remove(table)

    def _put_aside(self, table: str, ids: Sequence[int]) -> None:
        self._aside[table].ids.add(ids)
        self.seen.add(ids)

    def read(self, held: Collection[int], leased: Collection[int]) -> Work:
        """The oldest changes of the shards that are ``held`` that are not ``seen`` and may be applied; they are ``seen`` then.

        ``leased``: all shards that have a lease. The others' changes are met as well, since an id that is another's is none that may still come.
        """
        shards = None if len(held) == len(leased) else sorted(held)
        self._take_up()
        limit, decided = self._settings.batch * max(1, len(leased) // max(1, len(held))), self._decided
        while True:
            batch = self._outbox.look(self._what(shards, limit))
            reloaded, wrong = dict[int, Reloaded](), dict[int, Malformed]()
            if any(entry.operation == "reload" and entry.table not in self._aside for entry in batch.entries):
                ahead = max(limit, min(limit * _RELOAD_FACTOR, _MOST_AHEAD))
                try:
                    batch, reloaded, wrong = self._outbox.look_with_rows(self._what(shards, ahead), self._settings.lease / 3)
                except RowsDenied as denied:
                    # Somebody can give that right.
                    self.hold(denied.table, [], f"its rows may not be read: {denied}")
                    continue
            work = self._usable(batch, held, leased, reloaded, wrong)
            if decided and not self.unleased and (not batch.more or batch.last >= decided):
                # Whatever is there up to this id was met by this look, or before.
                self.seen.add_span(0, decided)
                self._decided = 0
            return work

    def _what(self, shards: Optional[Sequence[int]], limit: int) -> Look:
        ranges, seen = self.seen.gaps(_MOST_RANGES)
        # What was seen already is met again, and must not take the place of what is new.
        return Look(ranges, shards, limit + seen, sorted(self._aside))

    def _take_up(self) -> None:
        """What was put aside for a while and is due is looked for again."""
        now = time.monotonic()
        for table in [table for table, aside in self._aside.items() if aside.retry_at <= now]:
            for first, last in self._aside.pop(table).ids:
                self.seen.remove_span(first, last)

    def _usable(
        self, batch: Batch, held: Collection[int], leased: Collection[int], reloaded: dict[int, Reloaded], wrong: dict[int, Malformed]
    ) -> Work:
        entries, waiting, known = [], dict[str, list[int]](), dict[tuple[str, int], Usable]()
        self.unleased = set(batch.others).difference(leased)
        met = len(self.seen)
        for shard in batch.others.keys() & set(leased):
            self.seen.add(batch.others[shard])
        for entry in batch.entries:
            if entry.shard not in held:
                self.unleased.add(entry.shard)
                continue
            if entry.id in self.seen:
                # A range of the look held more than what was looked for.
                continue
            if entry.table in self._aside or not self._learn(entry, reloaded, wrong, known):
                waiting.setdefault(entry.table, []).append(entry.id)
            else:
                entries.append(entry)
        for table, ids in waiting.items():
            self._put_aside(table, ids)
        self.seen.add([entry.id for entry in entries])
        steps, dead = work_of(entries, known, reloaded, wrong)
        # What is met again is no work.
        return Work(entries, steps, dead, batch.more and len(self.seen) > met)

    def _learn(
        self, entry: Entry, reloaded: Mapping[int, Reloaded], wrong: Mapping[int, Malformed], known: dict[tuple[str, int], Usable]
    ) -> bool:
        """Add to ``known`` the declarations that a change needs. False when it cannot be applied now; then its table is put aside."""
        numbers = [number_of(entry.payload)]
        if entry.operation == "reload" and entry.id not in wrong:
            numbers.append(reloaded[entry.id].number if entry.id in reloaded else -1)
        for number in numbers:
            if (entry.table, number) in known:
                continue
            found = self._declarations.find(entry.table, number)
            if found is None:
                self.hold(entry.table, [], "a declaration that its triggers are made of is not in the database, or of a later release")
                return False
            if found.writer is None:
                self._wait(entry.table, number)
                return False
            known[entry.table, number] = Usable(found.layout, found.writer)
        return True

    def _wait(self, table: str, number: int) -> None:
        """Put a table aside until there are other declarations."""
        self._aside[table] = _Aside(float("inf"))
        if number:
            # Others may know it.
            self._behind.add(table)
        words, action = (
            ("its triggers are made for a later transform than ours", "outdated_table") if self._declarations.has(table)
            else ("this worker's configuration does not declare it", "undeclared_table"))
        log.warning("changes of %s wait in the outbox: %s", table, words, extra={"action": action})
