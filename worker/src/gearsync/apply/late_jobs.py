# SPDX-License-Identifier: GPL-3.0-or-later
"""Late jobs: jobs of direct delivery for a table that has durable delivery by now. Later changes may be
written, so their rows are reloaded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Sequence

from gearsync.outbox import reloads, synced_table
from gearsync.outbox.synced_table import SyncedTable
from gearsync.project.payload import Change
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import SchemaAbsent
from gearsync.values import Row

log = logging.getLogger(__name__)

#: Seconds for which it is known that a table has triggers for durable delivery. That it has none is known for
#: one batch only.
_VALID = 1.0


def rows(synced: SyncedTable, change: Change) -> Iterator[Row]:
    """The change's old and new row, as far as they contain the key. Pure."""
    for row in (change.old, change.new):
        if (
            row is not None
            and synced.key
            and all(row.get(column.declared) is not None for column in synced.key)
        ):
            yield row


class LateJobs:
    """Enqueues reloads of the rows of late jobs."""

    def __init__(self, database: Database, tables: Collection[str]) -> None:
        """``tables``: the tables that the configuration declares as durable."""
        self._database = database
        self._tables = frozenset(tables)
        self._synced: dict[str, SyncedTable] = {}
        self._valid_until = float("-inf")
        self._asked = False

    def begin(self) -> None:
        """Begin a batch: a table that was not durable before may be durable now."""
        self._asked = False
        self._database.drop_closed()

    def is_durable(self, table: str) -> bool:
        """Whether the triggers of ``table`` write to the outbox. Raises DatabaseUnavailable."""
        if table not in self._tables:
            return False
        if not self._asked and (table not in self._synced or time.monotonic() >= self._valid_until):
            try:
                self._synced = synced_table.load(self._database)
            except SchemaAbsent:
                # The workers get their configuration before the schema is created.
                self._synced = {}
            self._asked, self._valid_until = True, time.monotonic() + _VALID
        return table in self._synced

    def put(self, changes: Sequence[Change]) -> None:
        """Enqueue the reloads for these changes. Raises DatabaseUnavailable; then none is enqueued."""
        if not changes:
            return
        with self._database.transaction():
            for change in changes:
                synced = self._synced[str(change.table)]
                identified = list(rows(synced, change))
                for row in identified:
                    try:
                        reloads.put_reload(self._database, synced, row)
                    except ValueError:
                        identified = []
                if not identified:
                    log.warning(
                        "a job of %s is not written: the table has durable delivery by now, and the job "
                        "does not contain its row's key",
                        change.table,
                        extra={"action": "late_job"},
                    )

    def close(self) -> None:
        self._database.close()
