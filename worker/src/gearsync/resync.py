"""Load a table, or load it again: its rows go through the outbox, piece by piece, while the application writes.

A piece's rows are locked for reading until its copies stand in the outbox, so that each copy has its right place among the changes of its row.
The lock is never waited for with others in hand, so that no writer can be the victim of a deadlock with a resync.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Optional

import msgspec

from gearsync.database import Database, DatabaseUnavailable
from gearsync.source import Entry, Position, Source, chunk_sql, entries, text_literal

#: What a piece's INSERT may hold at most, bytes; far below every sensible max_allowed_packet.
_PACKET = 1 << 20
#: Seconds between two looks at a lock or at a limit.
_PAUSE = 0.05


class Progress(msgspec.Struct):
    """How far a table is."""

    table: str
    rows: int
    estimate: int
    """The table's number of rows as the server guesses it."""
    done: bool
    waiting: str
    """What is waited for; empty when nothing is."""
    position: Optional[Position]


class Limits(msgspec.Struct):
    """What a resync holds itself to."""

    chunk: int = 1000
    rate: float = 0.0
    """Rows per second; 0 is without a limit."""
    depth: int = 20_000
    """It waits while the outbox holds more rows than this."""
    lag: Callable[[], float] = lambda: 0.0
    """Seconds that the slowest watched replica is behind."""
    max_lag: float = 0.0


class Store:
    """What gearsync.resync remembers, so that an interrupted run goes on where it stopped."""

    def __init__(self, database: Database, source: Source, where: str) -> None:
        self.database = database
        self.source = source
        self.where = where

    def _interrupted(self) -> Optional[tuple[Optional[Position], int]]:
        found = self.database.rows(
            "SELECT position, rows_done FROM gearsync.resync"
            " WHERE table_name = %s AND condition_hash = SHA2(%s, 256) AND row_sql = %s AND finished_at IS NULL",
            (self.source.table, self.where, self.source.row_sql),
        )
        return ((msgspec.json.decode(found[0][0], type=Optional[list[str]]) if found[0][0] else None), int(found[0][1])) if found else None

    def rows_done(self) -> int:
        """How many rows an interrupted run of the same kind has loaded."""
        return (self._interrupted() or (None, 0))[1]

    def start(self, again: bool) -> tuple[Optional[Position], int]:
        """Where an earlier run of the same kind was interrupted and after how many rows; ``again`` forgets it."""
        found = self._interrupted()
        if found is not None and not again:
            return found
        self.database.run(
            "REPLACE INTO gearsync.resync (table_name, condition_hash, condition_sql, row_sql, position, rows_done, started_at, finished_at)"
            " VALUES (%s, SHA2(%s, 256), %s, %s, NULL, 0, CURRENT_TIMESTAMP(6), NULL)",
            (self.source.table, self.where, self.where, self.source.row_sql),
        )
        return None, 0

    def save(self, position: Optional[Position], rows: int, done: bool) -> None:
        """Note how far it is, in the caller's transaction. That some rows were loaded need not be known afterwards."""
        run = "table_name = %s AND condition_hash = SHA2(%s, 256)"
        if done and self.where:
            self.database.run(f"DELETE FROM gearsync.resync WHERE {run}", (self.source.table, self.where))
            return
        self.database.run(
            f"UPDATE gearsync.resync SET position = %s, rows_done = %s, finished_at = IF(%s, CURRENT_TIMESTAMP(6), NULL) WHERE {run}",
            (msgspec.json.encode(position), rows, done, self.source.table, self.where),
        )


def estimate(database: Database, source: Source) -> int:
    """The table's number of rows as information_schema guesses it."""
    found = database.rows("SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s", (source.schema, source.name))
    return int(found[0][0] or 0) if found else 0


def depth(database: Database, limit: int) -> int:
    """Rows of the outbox, counted up to ``limit`` + 1."""
    ((number,),) = database.rows("SELECT COUNT(*) FROM (SELECT 1 FROM gearsync.outbox LIMIT %s) AS few", (limit + 1,))
    return int(number)


def lock_clause(database: Database) -> str:
    """The server's words for a read lock; NOWAIT is added where nothing may be waited for."""
    ((version,),) = database.rows("SELECT VERSION()")
    return "LOCK IN SHARE MODE" if b"MariaDB" in version else "FOR SHARE"


def insert_statements(source: Source, found: list[Entry]) -> Iterator[bytes]:
    """The INSERTs that put a piece's rows into the outbox, each within the packet's bounds. Raises ValueError for a row without words."""
    head = b"INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES "
    table = text_literal(source.table.encode())
    values: list[bytes] = []
    size = 0
    for entry in found:
        if entry.row is None:
            # Too large to be put into words: the worker reads it itself.
            operation, payload = b"reload", _reload_payload(source, entry)
        else:
            operation, payload = b"refresh", b'{"new":' + entry.row + b"}"
        value = b"(%d,%s,'%s',%s)" % (entry.shard, table, operation, text_literal(payload))
        if values and size + len(value) > _PACKET:
            yield head + b",".join(values)
            values, size = [], 0
        values.append(value)
        size += len(value) + 1
    if values:
        yield head + b",".join(values)


def _reload_payload(source: Source, entry: Entry) -> bytes:
    key = {column.declared: _value(column.kind, text) for column, text in zip(source.key, entry.position)}
    return msgspec.json.encode({"key": key, "old": key})


def _value(kind: str, text: str) -> Any:
    """A literal of a position as payloads have values."""
    if text.startswith("x'"):
        return {"$hex": text[2:-1]}
    if text.startswith("'"):
        return text[1:-1].replace("''", "'").replace("\\\\", "\\")
    return int(text) if kind in ("integer", "bit") else {"$num": text}


class Resync:
    """One table's run."""

    def __init__(self, database: Database, source: Source, limits: Limits, where: str = "", again: bool = False) -> None:
        """``where`` is SQL that the rows must meet; ``again`` forgets an interrupted run. Raises DatabaseUnavailable."""
        self.database = database
        self.source = source
        self.limits = limits
        self.store = Store(database, source, where)
        self._lock = lock_clause(database)
        position, rows = self.store.start(again)
        self.progress = Progress(source.table, rows, estimate(database, source), False, "", position)

    def run(self) -> Iterator[Progress]:
        """One Progress after each piece and each wait, until the table is done."""
        progress, size = self.progress, self.limits.chunk
        while not progress.done:
            began = time.monotonic()
            yield from self._hold_back()
            try:
                number = self._piece(size)
            except DatabaseUnavailable as error:
                if not error.locked:
                    raise
                progress.waiting = "a row that a transaction has locked"
                yield progress
                # A smaller piece passes what is in the way, up to the row itself.
                size = max(1, size // 4)
                time.sleep(_PAUSE)
                continue
            progress.waiting = ""
            yield progress
            # Halfway back to the full size with every piece that went well.
            size = min(self.limits.chunk, size * 2)
            if self.limits.rate:
                time.sleep(max(0.0, number / self.limits.rate - (time.monotonic() - began)))

    def _hold_back(self) -> Iterator[Progress]:
        while True:
            if depth(self.database, self.limits.depth) > self.limits.depth:
                self.progress.waiting = f"the outbox, which holds more than {self.limits.depth} rows"
            elif self.limits.max_lag and self.limits.lag() > self.limits.max_lag:
                self.progress.waiting = f"a replica that is more than {self.limits.max_lag:g} s behind"
            else:
                return
            yield self.progress
            time.sleep(_PAUSE)

    def _piece(self, size: int) -> int:
        """Copy the next ``size`` rows in one transaction; how many there were."""
        progress = self.progress
        # One row alone may be waited for: no other lock is held meanwhile.
        lock = self._lock if size == 1 else f"{self._lock} NOWAIT"
        with self.database.transaction():
            found = entries(self.source, self.database.rows(chunk_sql(self.source, progress.position, size, self.store.where, lock)))
            for statement in insert_statements(self.source, found):
                self.database.run(statement)
            position = found[-1].position if found else progress.position
            rows, done = progress.rows + len(found), len(found) < size
            self.store.save(position, rows, done)
        progress.position, progress.rows, progress.done = position, rows, done
        return len(found)


def never_loaded(database: Database, sources: list[Source]) -> list[Source]:
    """Those of ``sources`` that were never loaded as a whole, as they are declared now."""
    found = database.rows("SELECT table_name, row_sql FROM gearsync.resync WHERE condition_sql = '' AND finished_at IS NOT NULL")
    loaded = {(name.decode(), sql.decode()) for name, sql in found}
    return [source for source in sources if (source.table, source.row_sql) not in loaded]


def replica_lag(database: Database) -> float:
    """Seconds that a replica is behind by its own word; infinite when it does not replicate.

    The account needs REPLICATION CLIENT there, on MariaDB SLAVE MONITOR.
    """
    ((version,),) = database.rows("SELECT VERSION()")
    statement, column = ("SHOW SLAVE STATUS", b"Seconds_Behind_Master") if b"MariaDB" in version else ("SHOW REPLICA STATUS", b"Seconds_Behind_Source")
    behind = database.named_rows(statement)
    values = [row.get(column) for row in behind]
    return max((float("inf") if value is None else float(value) for value in values), default=float("inf"))
