# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the rows of a synced table as they are written: through the table's transform, each with what
identifies it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

from gearsync.operate.verify.report import Report
from gearsync.outbox import walk
from gearsync.outbox.synced_table import Position, SyncedTable, identity, identity_bytes
from gearsync.project.transform import Transform, transformed
from gearsync.servers.mysql import Database
from gearsync.values import Malformed, Row

#: A row's key as Redis sees it: its columns' values as bytes.
Identity = tuple[bytes, ...]


class TableRow(NamedTuple):
    """One row of MySQL."""

    identity: Identity
    key_columns: Row
    row: Optional[Row]
    """The values that are written; None when the transform leaves the row out."""
    problem: str
    """Why it is unknown what is written; empty when it is known."""


class TableRows:
    """The rows of one table. A row that cannot be read counts as unsettled in the report."""

    def __init__(
        self, database: Database, synced: SyncedTable, transform: Optional[Transform], report: Report
    ) -> None:
        self._database = database
        self._synced = synced
        self._transform = transform
        self._report = report

    def identity(self, row: Row) -> Identity:
        return identity_bytes(self._synced.key, row)

    def of_entries(self, entries: Sequence[walk.Entry]) -> list[TableRow]:
        """The rows of a walk's entries."""
        return list(self._readable((entry.position, entry.row) for entry in entries))

    def fetch(self, key_columns: Sequence[Row], sql: str = "") -> Iterator[TableRow]:
        """The rows with these keys as they are now; those that are gone are left out."""
        positions = [identity(self._synced, row) for row in key_columns]
        for group in walk.fetch(self._database, self._synced, positions, sql):
            yield from self._readable(group)

    def _readable(self, rows: Iterable[tuple[Position, Optional[bytes]]]) -> Iterator[TableRow]:
        for position, content in rows:
            try:
                row = self._read(position, content)
            except Malformed as error:
                self._report.unsettle(str(error))
                continue
            if row is not None:
                yield row

    def _read(self, position: Position, content: Optional[bytes]) -> Optional[TableRow]:
        """A row; None when it is gone. ``content`` is None for a row that is too large for JSON: it is
        read by itself. Raises Malformed.
        """
        row = (
            self._synced.row(content)
            if content is not None
            else walk.large_row(self._database, self._synced, position)
        )
        return None if row is None else self._as_written(row)

    def _as_written(self, row: Row) -> TableRow:
        """Raises Malformed for a row whose identity is unknown."""
        try:
            key_columns = {column.declared: row[column.declared] for column in self._synced.key}
        except KeyError as error:
            raise Malformed(f"column {error} of the key is not in the row: run site.yml") from None
        identity = self.identity(key_columns)
        try:
            written = (
                row if self._transform is None else transformed(self._transform, row, self._synced.table)
            )
        except Malformed as error:
            return TableRow(identity, key_columns, None, str(error))
        return TableRow(identity, key_columns, written, "")
