# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify one table from MySQL to Redis, and have the worker repair what differs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from gearsync.declare.declaration import Table
from gearsync.operate.verify.comparison import Comparison
from gearsync.operate.verify.confirmation import Confirmation
from gearsync.operate.verify.report import Difference, Report
from gearsync.operate.verify.servers import Servers
from gearsync.operate.verify.table_rows import TableRows
from gearsync.outbox import reloads, walk
from gearsync.outbox.synced_table import SyncedTable
from gearsync.project.expectation import ABSENT, MISSING, Expectation
from gearsync.project.transform import Transform

#: Rows of one SELECT, and keys of one page of SCAN.
CHUNK = 1000
EXAMPLES = 10
#: Differences that are confirmed together: each look waits until all changes on their way have arrived.
_TOGETHER = 10_000

#: An absent key with a time to live proves nothing.
_LOST_OR_EXPIRED = "absent: expired, or lost by Redis; --repair or gearsync resync writes it again"


class TableVerifier:
    """One declared table."""

    def __init__(
        self,
        servers: Servers,
        declared: Table,
        synced: SyncedTable,
        transform: Optional[Transform] = None,
        examples: int = EXAMPLES,
    ) -> None:
        self.servers = servers
        self.synced = synced
        self.transform = transform
        self.expectation = Expectation(declared, [column.declared for column in synced.key])
        self.report = Report(
            declared.table, unverifiable=self.expectation.unverifiable, untraced=self.expectation.untraced
        )
        self.rows = TableRows(servers.mysql, synced, transform, self.report)
        self.comparison = Comparison(servers, self.expectation, self.report)
        self._confirmation = Confirmation(servers, self.rows, self.comparison, self.report)
        self._examples = examples

    def forward(self, sample: float) -> Iterator[list[Difference]]:
        """The differences of all rows, or of a random share of them, in pieces. Raises NoKey."""
        waiting: list[Difference] = []
        size = 0
        for piece in walk.walk(self.servers.mysql, self.synced, CHUNK, sample):
            for differences in self.compare(piece.entries):
                waiting += differences
            size += piece.size
            full = (
                len(waiting) >= _TOGETHER
                or size >= walk.BUDGET
                or any(entry.row is None for entry in piece.entries)
            )
            yield waiting if full or piece.done else []
            if full:
                waiting, size = [], 0

    def ends(self) -> Iterator[list[Difference]]:
        """The differences of the rows with the smallest and the greatest keys: for a large table as cheap
        as for a small one.
        """
        for piece in walk.ends(self.servers.mysql, self.synced, CHUNK):
            yield from self.compare(piece.entries)

    def compare(self, entries: Sequence[walk.Entry]) -> Iterator[list[Difference]]:
        """The differences of some rows of a walk."""
        self.report.rows += len(entries)
        # A row that is too large for JSON is larger than a piece: each by itself.
        for group in (
            [entry for entry in entries if entry.row is not None],
            *([entry] for entry in entries if entry.row is None),
        ):
            yield self.comparison.differences(self.rows.of_entries(group))

    def confirm(self, candidates: list[Difference], orphans: bool) -> list[Difference]:
        """Those of ``candidates`` that still differ when no change is on its way."""
        return self._confirmation.confirm(candidates, orphans)

    def count(self, differences: Sequence[Difference], repair: bool) -> list[Difference]:
        """Count confirmed differences in the report.

        An absent key with a time to live is a difference when it is to be written again; otherwise it counts
        as unsettled.
        """
        if repair:
            differences = [
                each._replace(kind=MISSING) if each.kind == ABSENT else each for each in differences
            ]
        unclear = sum(each.kind == ABSENT for each in differences)
        if unclear:
            self.report.unsettle(_LOST_OR_EXPIRED, unclear)
        differences = [each for each in differences if each.kind != ABSENT]
        for each in differences:
            self.report.different[each.kind] += 1
            if len(self.report.examples) < self._examples:
                self.report.examples.append(each)
        return differences

    def repair(self, differences: Sequence[Difference], orphans: bool) -> list[Difference]:
        """Have the worker write these rows again, and remove what no row asks for; those of
        ``differences`` that remain.
        """
        if not differences:
            return []
        reloads.enqueue_reload(self.servers.mysql, self.synced, [each.row for each in differences])
        self.servers.settle(self.synced.table)
        remaining = self.confirm(list(differences), orphans)
        return [each._replace(kind=MISSING) if each.kind == ABSENT else each for each in remaining]
