# SPDX-License-Identifier: GPL-3.0-or-later
"""How far a resync is: kept in the database and marked in Redis, so that an interrupted run continues
where it stopped.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, NamedTuple, Optional

import msgspec

from gearsync.contract import resync_key
from gearsync.declare.declaration import Table
from gearsync.outbox.synced_table import Position, SyncedTable
from gearsync.servers.mysql import Database
from gearsync.servers.redis_errors import Unavailable, message_of, text
from gearsync.servers.target import Target

#: Seconds that the marker of a run that is never continued stays in Redis.
_MARKER_SECONDS = 30 * 86400


def load_hash(declared: Table, synced: SyncedTable) -> str:
    """A hash of what decides what a load writes: the columns and how they are read, the writes, the key
    and the transform. Pure.
    """
    parts = [
        declared.fields,
        msgspec.to_builtins(declared.write),
        msgspec.to_builtins(synced.key),
        declared.transform,
        synced.json_sql,
    ]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


class RunMarker:
    """A key in Redis that is set when a run starts. When it is gone, so is what the run has loaded."""

    def __init__(self, target: Target, source: str, table: str, where: str) -> None:
        self._target = target
        self._key = resync_key(
            source, table, [hashlib.sha256(where.encode()).hexdigest()[:16]] if where else []
        )

    def set(self, run: str) -> None:
        """Raises Unavailable."""
        self._ask("SET", self._key, run, "EX", _MARKER_SECONDS)

    def is_of(self, run: str) -> bool:
        """Whether Redis has lost nothing since the run started. Raises Unavailable."""
        answer = self._ask("GET", self._key)
        return answer is not None and text(answer) == run

    def remove(self) -> None:
        """Raises Unavailable."""
        self._ask("DEL", self._key)

    def _ask(self, *command: Any) -> Any:
        (answer,) = self._target.ask([command])
        if isinstance(answer, Exception):
            raise Unavailable(f"{command[0]} {self._key}: {message_of(answer)}")
        return answer


class Run(NamedTuple):
    """A run that starts or continues."""

    id: str
    position: Optional[Position]
    rows: int
    started: str
    """The time in UTC."""
    reason: str
    """Why it continues, or why it does not; empty when no run was interrupted."""


class RunStore:
    """The runs of one table in gearsync.resync."""

    def __init__(
        self, database: Database, synced: SyncedTable, load_hash: str, where: str, marker: RunMarker
    ) -> None:
        self.database = database
        self.synced = synced
        self.load_hash = load_hash
        self.where = where
        self._marker = marker

    def interrupted(self) -> Optional[Run]:
        """The run that would be continued, or started over for a reason; None when none was interrupted.
        Raises DatabaseUnavailable and Unavailable.
        """
        rows = self.database.rows(
            "SELECT run, position, rows_done, started_at, shape FROM gearsync.resync"
            " WHERE table_name = %s AND condition_hash = SHA2(%s, 256) AND finished_at IS NULL",
            (self.synced.table, self.where),
        )
        if not rows:
            return None
        run, position, done, started, load_hash = rows[0]
        progress = f"{int(done):,} rows of the run of {started.decode()[:19]} UTC"
        if load_hash.decode() != self.load_hash:
            return Run(
                "",
                None,
                0,
                "",
                f"starts over instead of continuing after {progress}: the declaration has changed since",
            )
        if not self._marker.is_of(run.decode()):
            return Run(
                "",
                None,
                0,
                "",
                f"starts over instead of continuing after {progress}: Redis has lost its data since",
            )
        reached = msgspec.json.decode(position, type=Optional[list[str]]) if position else None
        return Run(
            run.decode(),
            reached,
            int(done),
            started.decode(),
            f"continues after {progress}; --restart starts over" if done else "",
        )

    def start(self, restart: bool) -> Run:
        """The interrupted run, or a new one; ``restart`` forgets an interrupted one."""
        interrupted = None if restart else self.interrupted()
        if interrupted is not None and interrupted.id:
            return interrupted
        run = uuid.uuid4().hex
        # Before the database knows the run: a run without its marker would start over.
        self._marker.set(run)
        self.database.run(
            "REPLACE INTO gearsync.resync (table_name, condition_hash, condition_sql, shape, run, position, "
            "rows_done, started_at, finished_at)"
            " VALUES (%s, SHA2(%s, 256), %s, %s, %s, NULL, 0, CURRENT_TIMESTAMP(6), NULL)",
            (self.synced.table, self.where, self.where, self.load_hash, run),
        )
        ((started,),) = self.database.rows("SELECT started_at FROM gearsync.resync WHERE run = %s", (run,))
        return Run(run, None, 0, started.decode(), interrupted.reason if interrupted else "")

    def save(self, run: str, position: Optional[Position], rows: int) -> bool:
        """Store how far it is; False when the table was deployed with another declaration, so that the
        last piece may have been left out.
        """
        return bool(
            self.database.run(
                "UPDATE gearsync.resync SET position = %s, rows_done = %s WHERE table_name = %s AND "
                "condition_hash = SHA2(%s, 256) AND run = %s"
                " AND EXISTS (SELECT 1 FROM gearsync.synced_table WHERE synced_table.table_name = %s AND "
                "changed_at = %s)",
                (
                    msgspec.json.encode(position),
                    rows,
                    self.synced.table,
                    self.where,
                    run,
                    self.synced.table,
                    self.synced.version,
                ),
            )
        )

    def finish(self, run: str) -> bool:
        """Store that all rows are loaded; False when Redis has lost its data meanwhile. A load with a
        condition is not kept.
        """
        if not self._marker.is_of(run):
            return False
        of = "WHERE table_name = %s AND condition_hash = SHA2(%s, 256)"
        done = (
            f"DELETE FROM gearsync.resync {of}"
            if self.where
            else f"UPDATE gearsync.resync SET finished_at = CURRENT_TIMESTAMP(6) {of}"
        )
        self.database.run(done, (self.synced.table, self.where))
        self._marker.remove()
        return True


def never_loaded(database: Database, load_hashes: dict[str, str]) -> list[str]:
    """Those tables that were never loaded as a whole as they are declared now; ``load_hashes`` are by the
    tables' names.
    """
    rows = database.rows(
        "SELECT table_name, shape FROM gearsync.resync WHERE condition_sql = '' AND finished_at IS NOT NULL"
    )
    loaded = {name.decode(): load_hash.decode() for name, load_hash in rows}
    return [name for name, load_hash in load_hashes.items() if loaded.get(name) != load_hash]


def letters_since(database: Database, table: str, moment: str) -> int:
    """How many changes of a table became dead letters since a time in UTC, and still are."""
    ((number,),) = database.rows(
        "SELECT COUNT(*) FROM gearsync.dead_letter WHERE table_name = %s AND failed_at >= %s", (table, moment)
    )
    return int(number)
