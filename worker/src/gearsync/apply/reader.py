# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the changes that may be applied now; those that must wait are held, by table."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Optional

from gearsync.apply.work import Usable, Work, work_of
from gearsync.contract import SCHEMA
from gearsync.declare.configuration import WorkerSettings
from gearsync.outbox.changes import Batch, Entry, Look
from gearsync.outbox.declarations import Declarations, number_of
from gearsync.outbox.reload_rows import Reloaded, RowsDenied
from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox
from gearsync.values import Malformed

log = logging.getLogger(__name__)

#: A batch with reloads is so many times larger: later changes in it must not show an earlier state than the
#: row that was read.
_RELOAD_FACTOR = 10
_MOST_AHEAD = 10_000
#: Seconds until a table whose changes could not be applied is tried again.
_HOLD = 2.0
#: Ranges of ids of one look: more of them cost the server more than the rows between them.
_MOST_RANGES = 500
#: With so many ranges of seen ids it is worth knowing which ids cannot appear any more; with so many all
#: changes are looked for again.
_FEW_RANGES, _TOO_MANY_RANGES = 10, 20_000


class _Held:
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
        #: Ids that are not looked for: applied, being written, or held.
        self.seen = Spans()
        self._held: dict[str, _Held] = {}
        #: Tables with changes that wait for a worker with another configuration.
        self._outdated: set[str] = set()
        #: Shards without a lease, of which a change was read.
        self.unleased: set[int] = set()
        #: No id up to this one appears any more.
        self._settled = 0
        #: Tables of which it is logged that their changes wait.
        self._logged: set[str] = set()

    @property
    def outdated(self) -> str:
        """Why other processes should do the work: the tables whose declarations are newer than the
        configuration; empty when there are none.
        """
        return (
            f"its configuration is older than the triggers of {', '.join(sorted(self._outdated))}"
            if self._outdated
            else ""
        )

    def refresh(self) -> None:
        """Use new declarations."""
        if self._declarations.renewed():
            self._outdated.clear()
            for held in self._held.values():
                held.retry_at = 0.0

    def forget(self, applied: Spans) -> None:
        """Look for all changes again, except those that are ``applied``."""
        self.seen = Spans(applied)
        self._held.clear()
        self._settled = 0

    @property
    def has_gaps(self) -> bool:
        """Whether looks would be cheaper if it were known which ids cannot appear any more."""
        return self.seen.ranges > _FEW_RANGES or 1 not in self.seen

    @property
    def seen_from_first(self) -> Spans:
        """The ids from the first up to the first unseen one, without those that are held."""
        ids = Spans([(0, self.seen.first_absent - 1)])
        for first, last in itertools.chain(*(held.ids for held in self._held.values())):
            ids.remove_span(first, last)
        return ids

    def settle(self, last: int) -> None:
        """No id up to ``last`` appears any more: the transactions that could insert one have ended."""
        self._settled = max(self._settled, last)

    def compact(self, applied: Iterable[tuple[int, int]]) -> None:
        """Keep ``seen`` small while a transaction stays open: all rows but those of ``applied`` and held
        changes are deleted.
        """
        if self.seen.ranges > _TOO_MANY_RANGES:
            self.seen = Spans(itertools.chain(applied, *(held.ids for held in self._held.values())))

    def hold(self, table: str, ids: Sequence[int], reason: str) -> None:
        """Hold changes of ``table`` for a while, and all later ones of it; other tables go on."""
        if table not in self._logged:
            log.warning(
                "changes of %s wait: %s", table, reason, extra={"action": "table_held", "table": table}
            )
            self._logged.add(table)
        self._held.setdefault(table, _Held(0.0))
        self._held[table].retry_at = time.monotonic() + _HOLD
        self._add_held(table, ids)

    def applied(self, entries: Sequence[Entry]) -> None:
        """Log the tables of which changes are applied again."""
        if self._logged:
            for table in sorted(self._logged & {entry.table for entry in entries}):
                log.info(
                    "changes of %s are applied again", table, extra={"action": "table_back", "table": table}
                )
                self._logged.remove(table)

    def _add_held(self, table: str, ids: Sequence[int]) -> None:
        self._held[table].ids.add(ids)
        self.seen.add(ids)

    def read(self, held: Collection[int], leased: Collection[int]) -> Work:
        """The oldest changes of the ``held`` shards that are not ``seen`` and may be applied; they are
        ``seen`` then.

        ``leased``: all shards that have a lease. Changes of other processes' shards are seen as well: their
        ids are not gaps.
        """
        shards = None if len(held) == len(leased) else sorted(held)
        self._release_due()
        limit, settled = self._settings.batch * max(1, len(leased) // max(1, len(held))), self._settled
        while True:
            batch = self._outbox.look(self._look(shards, limit))
            reloaded, wrong = dict[int, Reloaded](), dict[int, Malformed]()
            if any(entry.operation == "reload" and entry.table not in self._held for entry in batch.entries):
                ahead = max(limit, min(limit * _RELOAD_FACTOR, _MOST_AHEAD))
                try:
                    batch, reloaded, wrong = self._outbox.look_with_rows(
                        self._look(shards, ahead), self._settings.lease / 3
                    )
                except RowsDenied as denied:
                    # An administrator can grant the privilege.
                    self.hold(denied.table, [], f"the worker's account may not read its rows: {denied}")
                    continue
            work = self._usable(batch, held, leased, reloaded, wrong)
            if settled and not self.unleased and (not batch.more or batch.last >= settled):
                # All rows up to this id were read by this look, or before.
                self.seen.add_span(0, settled)
                self._settled = 0
            return work

    def _look(self, shards: Optional[Sequence[int]], limit: int) -> Look:
        ranges, seen = self.seen.gaps(_MOST_RANGES)
        # Seen changes within the ranges are read again, and must not displace new ones.
        return Look(ranges, shards, limit + seen, sorted(self._held))

    def _release_due(self) -> None:
        """Look for held changes again that are due."""
        now = time.monotonic()
        for table in [table for table, held in self._held.items() if held.retry_at <= now]:
            for first, last in self._held.pop(table).ids:
                self.seen.remove_span(first, last)

    def _usable(
        self,
        batch: Batch,
        held: Collection[int],
        leased: Collection[int],
        reloaded: dict[int, Reloaded],
        wrong: dict[int, Malformed],
    ) -> Work:
        entries, owns, waiting = list[Entry](), list[Usable](), dict[str, list[int]]()
        known = dict[tuple[str, int], Usable]()
        self.unleased = set(batch.others).difference(leased)
        seen_before = len(self.seen)
        for shard in batch.others.keys() & set(leased):
            self.seen.add(batch.others[shard])
        for entry in batch.entries:
            if entry.shard not in held:
                self.unleased.add(entry.shard)
                continue
            if entry.id in self.seen:
                # The ranges of a look may contain seen ids.
                continue
            own = (
                None if entry.table in self._held else self._find_declarations(entry, reloaded, wrong, known)
            )
            if own is None:
                waiting.setdefault(entry.table, []).append(entry.id)
            else:
                entries.append(entry)
                owns.append(own)
        for table, ids in waiting.items():
            self._add_held(table, ids)
        self.seen.add([entry.id for entry in entries])
        steps, dead = work_of(entries, owns, known, reloaded, wrong)
        # A look that has read only seen changes is no reason for another one.
        return Work(entries, steps, dead, batch.more and len(self.seen) > seen_before)

    def _find_declarations(
        self,
        entry: Entry,
        reloaded: Mapping[int, Reloaded],
        wrong: Mapping[int, Malformed],
        known: dict[tuple[str, int], Usable],
    ) -> Optional[Usable]:
        """The declaration of a change; that of its reloaded row is added to ``known``. None when the change
        cannot be applied now; then its table is held.
        """
        own = self._find_declaration(entry.table, number_of(entry.payload), known)
        if own is not None and entry.operation == "reload" and entry.id not in wrong:
            under = reloaded[entry.id].number if entry.id in reloaded else -1
            if self._find_declaration(entry.table, under, known) is None:
                return None
        return own

    def _find_declaration(
        self, table: str, number: int, known: dict[tuple[str, int], Usable]
    ) -> Optional[Usable]:
        """The declaration of a table with this number, which is added to ``known``. Without one that can be
        used, the table is held.
        """
        usable = known.get((table, number))
        if usable is not None:
            return usable
        declaration = self._declarations.find(table, number)
        if declaration is None:
            self.hold(
                table,
                [],
                f"a declaration of its triggers is not in {SCHEMA}.numbered_declaration, or was written "
                "by a later release;"
                " upgrade this worker, or declare the table again",
            )
            return None
        if declaration.writer is None:
            self._hold_until_declared(table, number)
            return None
        usable = known[table, number] = Usable(declaration.layout, declaration.writer)
        return usable

    def _hold_until_declared(self, table: str, number: int) -> None:
        """Hold a table until the declarations change."""
        self._held[table] = _Held(float("inf"))
        if number:
            # Other processes may have its declaration.
            self._outdated.add(table)
        reason, action = (
            ("its triggers need a later transform than this worker's configuration names", "outdated_table")
            if self._declarations.has(table)
            else ("this worker's configuration does not declare it", "undeclared_table")
        )
        log.warning("changes of %s wait in the outbox: %s", table, reason, extra={"action": action})
