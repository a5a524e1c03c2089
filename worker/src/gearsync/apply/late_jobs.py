"""Jobs of direct delivery that come for a table which is durable by now: older than what was written since, so that their rows are looked at again."""

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

#: Seconds for which it is believed that a table has triggers for durable delivery. That it has none is believed for one batch only.
_VALID = 1.0


def rows(found: SyncedTable, change: Change) -> Iterator[Row]:
    """What the change tells of its row before and after it, where that tells which row it is. Pure."""
    for row in (change.old, change.new):
        if row is not None and found.key and all(row.get(column.declared) is not None for column in found.key):
            yield row


class LateJobs:
    """Puts such changes into the outbox, as requests to read their rows."""

    def __init__(self, database: Database, tables: Collection[str]) -> None:
        """``tables``: those that the configuration declares as durable."""
        self._database = database
        self._tables = frozenset(tables)
        self._synced: dict[str, SyncedTable] = {}
        self._valid_until = float("-inf")
        self._asked = False

    def begin(self) -> None:
        """A batch begins: what was not durable before may be so by now."""
        self._asked = False
        self._database.drop_closed()

    def concern(self, table: str) -> bool:
        """Whether changes of ``table`` come through the outbox. Raises DatabaseUnavailable."""
        if table not in self._tables:
            return False
        if not self._asked and (table not in self._synced or time.monotonic() >= self._valid_until):
            try:
                self._synced = synced_table.load(self._database)
            except SchemaAbsent:
                # The workers get their configuration before the schema is made.
                self._synced = {}
            self._asked, self._valid_until = True, time.monotonic() + _VALID
        return table in self._synced

    def put(self, changes: Sequence[Change]) -> None:
        """Raises DatabaseUnavailable; then none of them is there."""
        if not changes:
            return
        with self._database.transaction():
            for change in changes:
                found = self._synced[str(change.table)]
                known = list(rows(found, change))
                for row in known:
                    try:
                        reloads.put_reload(self._database, found, row)
                    except ValueError:
                        known = []
                if not known:
                    log.warning(
                        "a job of %s is not written: the table is durable by now, and the job does not tell which row it is of", change.table,
                        extra={"action": "late_job"})

    def close(self) -> None:
        self._database.close()
