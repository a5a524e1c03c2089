"""Load a table, or load it again: its rows go through the outbox, piece by piece, while the application writes.

A piece is one statement, a transaction by itself: it locks its rows for reading until their copies stand in the outbox, so that each copy has its right
place among the changes of its row, and no lock ever waits for this process. How far the run is, is noted behind it: after a crash in between, a piece is done
once more, which is harmless. No lock is waited for with others in hand, so that no writer can be the victim of a deadlock with a resync.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, Optional

import msgspec

from gearsync.contract import resync_key
from gearsync.declare.declaration import Table
from gearsync.outbox.copy_rows import copy_sql, reach
from gearsync.outbox.sql import text_literal
from gearsync.outbox.synced_table import Position, SyncedTable
from gearsync.outbox.walk import SPARSE, PieceSize
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import RowsLocked
from gearsync.servers.redis_errors import Unavailable, text, words_of
from gearsync.servers.target import Target

#: Seconds between two looks at a lock or at a limit.
_PAUSE = 0.05
#: The longest sleep between two pieces, in seconds: a session that says nothing for long is ended.
_LONGEST_SLEEP = 5.0
#: Seconds between two looks whether workers take what waits.
_LOOK_AGAIN = 30.0
#: Seconds that a run's mark stays in Redis when nobody goes on with the run.
_MARK_SECONDS = 30 * 86400
#: Seconds to wait for another run of the same table: a process that was killed leaves its lock a moment later.
_LOCK_SECONDS = 3


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

    chunk: int = 250
    rate: float = 0.0
    """Rows per second; 0 is without a limit."""
    nice_ratio: float = 2.0
    """After each piece it sleeps this many times as long as the piece took, so that it takes least of a server that is busy."""
    depth: int = 20_000
    """It waits while the outbox holds more rows than this."""
    patience: float = 300.0
    """Seconds for which the outbox may hold more without one of its rows being taken."""
    tables: list[str] = msgspec.field(default_factory=list)
    """The declared tables, whose rows are counted; those of others may wait for ever."""
    lag: Callable[[], float] = lambda: 0.0
    """Seconds that the slowest watched replica is behind."""
    max_lag: float = 0.0


class Busy(Exception):
    """Another resync of the table is running; the message says so."""


class LostMeanwhile(Exception):
    """What a run has loaded is gone before its end; it is to begin anew."""


class Stuck(Exception):
    """No worker takes what waits; the message says of which tables."""


class Redeclared(Exception):
    """The table was declared anew while it was loaded; the run is to go on by the new declaration, or to begin anew."""


def shape(table: Table, synced: SyncedTable) -> str:
    """What a load of a table is of: a hash of its columns and how they are read, its writes, its key and its transform. Pure."""
    parts = [table.fields, msgspec.to_builtins(table.write), msgspec.to_builtins(synced.key), table.transform, synced.json_sql]
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


class Mark:
    """A run's mark in Redis. When it is gone, so is what the run has loaded."""

    def __init__(self, target: Target, name: str, table: str, where: str) -> None:
        """``name`` is the pipeline's source."""
        self.target = target
        self.key = resync_key(name, table, [hashlib.sha256(where.encode()).hexdigest()[:16]] if where else [])

    def _ask(self, *command: Any) -> Any:
        (answer,) = self.target.ask([command])
        if isinstance(answer, Exception):
            raise Unavailable(f"{command[0]} {self.key}: {words_of(answer)}")
        return answer

    def set(self, run: str) -> None:
        """Raises Unavailable."""
        self._ask("SET", self.key, run, "EX", _MARK_SECONDS)

    def is_of(self, run: str) -> bool:
        """Whether Redis has lost nothing since the run began. Raises Unavailable."""
        answer = self._ask("GET", self.key)
        return answer is not None and text(answer) == run

    def remove(self) -> None:
        """Raises Unavailable."""
        self._ask("DEL", self.key)


class Run(NamedTuple):
    """A run that was interrupted, or begins."""

    id: str
    position: Optional[Position]
    rows: int
    started: str
    """When, in UTC."""
    words: str
    """Why it goes on, or why it does not; empty when there was no other."""


class Store:
    """What gearsync.resync remembers, so that an interrupted run goes on where it stopped."""

    def __init__(self, database: Database, synced: SyncedTable, shape: str, where: str, mark: Mark) -> None:
        self.database = database
        self.synced = synced
        self.shape = shape
        self.where = where
        self.mark = mark

    def interrupted(self) -> Optional[Run]:
        """The run that would be gone on with, or begun anew for a reason; None when none was interrupted. Raises DatabaseUnavailable and Unavailable."""
        found = self.database.rows(
            "SELECT run, position, rows_done, started_at, shape FROM gearsync.resync"
            " WHERE table_name = %s AND condition_hash = SHA2(%s, 256) AND finished_at IS NULL", (self.synced.table, self.where))
        if not found:
            return None
        run, position, rows, began, shape = found[0]
        words = f"{int(rows):,} rows of the run of {began.decode()[:19]} UTC"
        if shape.decode() != self.shape:
            return Run("", None, 0, "", f"begins anew in place of going on after {words}: the declaration has changed since")
        if not self.mark.is_of(run.decode()):
            return Run("", None, 0, "", f"begins anew in place of going on after {words}: Redis has lost its data since")
        where = msgspec.json.decode(position, type=Optional[list[str]]) if position else None
        return Run(run.decode(), where, int(rows), began.decode(), f"goes on after {words}; --restart begins anew" if rows else "")

    def start(self, again: bool) -> Run:
        """Where an earlier run of the same kind was interrupted and after how many rows; ``again`` forgets it."""
        found = None if again else self.interrupted()
        if found is not None and found.id:
            return found
        run = uuid.uuid4().hex
        # Before the database knows of the run: without its mark it would begin anew.
        self.mark.set(run)
        self.database.run(
            "REPLACE INTO gearsync.resync (table_name, condition_hash, condition_sql, shape, run, position, rows_done, started_at, finished_at)"
            " VALUES (%s, SHA2(%s, 256), %s, %s, %s, NULL, 0, CURRENT_TIMESTAMP(6), NULL)",
            (self.synced.table, self.where, self.where, self.shape, run),
        )
        ((began,),) = self.database.rows("SELECT started_at FROM gearsync.resync WHERE run = %s", (run,))
        return Run(run, None, 0, began.decode(), found.words if found else "")

    def save(self, run: str, position: Optional[Position], rows: int) -> bool:
        """Note how far it is; False when the table was declared anew, so that the last piece may have been left out."""
        return bool(self.database.run(
            "UPDATE gearsync.resync SET position = %s, rows_done = %s WHERE table_name = %s AND condition_hash = SHA2(%s, 256) AND run = %s"
            " AND EXISTS (SELECT 1 FROM gearsync.synced_table WHERE synced_table.table_name = %s AND changed_at = %s)",
            (msgspec.json.encode(position), rows, self.synced.table, self.where, run, self.synced.table, self.synced.version)))

    def finish(self, run: str) -> bool:
        """Note that all is loaded; False when Redis has lost its data meanwhile. That some rows were loaded need not be known afterwards."""
        if not self.mark.is_of(run):
            return False
        of = "WHERE table_name = %s AND condition_hash = SHA2(%s, 256)"
        done = f"DELETE FROM gearsync.resync {of}" if self.where else f"UPDATE gearsync.resync SET finished_at = CURRENT_TIMESTAMP(6) {of}"
        self.database.run(done, (self.synced.table, self.where))
        self.mark.remove()
        return True


def estimate(database: Database, synced: SyncedTable) -> int:
    """The table's number of rows as information_schema guesses it."""
    found = database.rows("SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s", (synced.schema, synced.name))
    return int(found[0][0] or 0) if found else 0


def _names(tables: Collection[str]) -> str:
    return ", ".join(text_literal(table.encode()).decode() for table in sorted(tables))


def depth(database: Database, limit: int, tables: Collection[str]) -> int:
    """Rows of the outbox, counted up to ``limit`` + 1; only those of ``tables`` when there are more: the others may wait for ever."""
    few = "SELECT COUNT(*) FROM (SELECT 1 FROM gearsync.outbox{} LIMIT %s) AS few"
    ((number,),) = database.rows(few.format(""), (limit + 1,))
    if int(number) > limit:
        names = _names(tables).replace("%", "%%")
        ((number,),) = database.rows(few.format(f" WHERE table_name IN ({names})"), (limit + 1,))
    return int(number)


def pause(limits: Limits, number: int, copying: float, turn: float) -> float:
    """Seconds to sleep after ``number`` rows whose transaction took ``copying`` seconds, and all of their turn ``turn`` seconds. Pure."""
    nice = min(_LONGEST_SLEEP, limits.nice_ratio * copying)
    return max(nice, number / limits.rate - turn) if limits.rate else nice


class _Stall:
    """Whether workers take what waits in the outbox of some tables."""

    def __init__(self, database: Database, tables: Collection[str]) -> None:
        self._database = database
        self._tables = tables
        self._next = self._since = 0.0
        #: The greatest id at the first look, and how many changes up to it were left at the last one; 0 before.
        self._last = self._left = 0

    def look(self, patience: float) -> None:
        """Raises Stuck when none was taken for ``patience`` seconds."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + min(_LOOK_AGAIN, patience)
        waiting = self._database.rows(
            f"SELECT table_name, COUNT(*) FROM gearsync.outbox WHERE id <= {self._last} AND table_name IN ({_names(self._tables)}) GROUP BY table_name")
        left = sum(int(number) for _name, number in waiting)
        if not left:
            ((last,),) = self._database.rows("SELECT COALESCE(MAX(id), 0) FROM gearsync.outbox")
            self._last, self._left = int(last), 0
        elif not self._left or left < self._left:
            self._left, self._since = left, now
        elif now - self._since >= patience:
            names = ", ".join(sorted(name.decode() for name, _number in waiting))
            raise Stuck(f"for {patience:g} s no worker has taken one of the {left:,} changes of {names} that wait in the outbox")


class Resync:
    """One table's run."""

    def __init__(self, database: Database, store: Store, limits: Limits, again: bool = False) -> None:
        """``again`` forgets an interrupted run. Raises DatabaseUnavailable, Unavailable, and Busy while another run of the table has its lock."""
        self.database = database
        self.synced = store.synced
        self.limits = limits
        self.store = store
        ((version,),) = database.rows("SELECT VERSION()")
        self._mariadb = b"MariaDB" in version
        # The session's: it ends with it.
        self._name = f"gearsync.resync.{hashlib.sha256(self.synced.table.encode()).hexdigest()[:32]}"
        ((taken,),) = database.rows("SELECT GET_LOCK(%s, %s)", (self._name, _LOCK_SECONDS))
        if not int(taken or 0):
            ((holder,),) = database.rows("SELECT IS_USED_LOCK(%s)", (self._name,))
            raise Busy(f"another resync of {self.synced.table} is running, on MySQL's connection {int(holder or 0)}; let it end, or kill it")
        self.begun = store.start(again)
        self.progress = Progress(self.synced.table, self.begun.rows, estimate(database, self.synced), False, "", self.begun.position)

    def run(self) -> Iterator[Progress]:
        """One Progress after each piece and each wait, until the table is done. Raises LostMeanwhile and Redeclared."""
        progress = self.progress
        most = min(self.limits.chunk, max(1, int(self.limits.rate * _LONGEST_SLEEP))) if self.limits.rate else self.limits.chunk
        pace = PieceSize(most)
        while not progress.done:
            began = time.monotonic()
            yield from self._hold_back()
            asked = time.monotonic()
            try:
                number = self._piece(pace)
            except RowsLocked:
                progress.waiting = "a row that a transaction has locked"
                yield progress
                pace.shrink()
                time.sleep(_PAUSE)
                continue
            progress.waiting = ""
            copied = time.monotonic()
            yield progress
            if not progress.done:
                time.sleep(pause(self.limits, number, copied - asked, time.monotonic() - began))
        # A run that began anew has it several times.
        self.database.run("DO RELEASE_ALL_LOCKS()")

    def _hold_back(self) -> Iterator[Progress]:
        """Raises Stuck."""
        tables = self.limits.tables or [self.synced.table]
        stall = _Stall(self.database, tables)
        while True:
            if depth(self.database, self.limits.depth, tables) > self.limits.depth:
                self.progress.waiting = f"the outbox, which holds more than {self.limits.depth} rows"
                stall.look(self.limits.patience)
            elif self.limits.max_lag and self.limits.lag() > self.limits.max_lag:
                self.progress.waiting = f"a replica that is more than {self.limits.max_lag:g} s behind"
            else:
                return
            yield self.progress
            time.sleep(_PAUSE)

    def _piece(self, pace: PieceSize) -> int:
        """Copy the next rows; how many there were."""
        progress, where = self.progress, self.store.where
        # With a condition a piece is a range of the key: however few rows it has, no statement looks for long.
        alone = pace.size == 1
        found = reach(self.database, self.synced, progress.position, pace.size * SPARSE if where and not alone else pace.size)
        number = 0
        if found.rows and found.last is not None:
            number = self.database.run(copy_sql(self.synced, progress.position, found.last, where, alone=alone, mariadb=self._mariadb))
        rows = progress.rows + number
        if not self.store.save(self.begun.id, found.last, rows):
            raise Redeclared(f"{self.synced.table} was declared anew while it was loaded")
        progress.position, progress.rows = found.last, rows
        pace.adapt(found.rows, found.size)
        if found.done:
            if not self.store.finish(self.begun.id):
                raise LostMeanwhile(f"Redis has lost its data while {self.synced.table} was loaded")
            progress.done = True
        return number


def letters_since(database: Database, table: str, moment: str) -> int:
    """How many changes of a table became dead letters since a moment in UTC, and still are."""
    ((number,),) = database.rows("SELECT COUNT(*) FROM gearsync.dead_letter WHERE table_name = %s AND failed_at >= %s", (table, moment))
    return int(number)


def never_loaded(database: Database, shapes: dict[str, str]) -> list[str]:
    """Those tables that were never loaded as a whole as they are declared now; ``shapes`` are these declarations, by the tables' names."""
    found = database.rows("SELECT table_name, shape FROM gearsync.resync WHERE condition_sql = '' AND finished_at IS NOT NULL")
    loaded = {name.decode(): shape.decode() for name, shape in found}
    return [name for name, wanted in shapes.items() if loaded.get(name) != wanted]


def replica_lag(database: Database) -> float:
    """Seconds that a replica is behind by its own word; infinite when it does not replicate.

    The account needs REPLICATION CLIENT there, on MariaDB SLAVE MONITOR.
    """
    ((version,),) = database.rows("SELECT VERSION()")
    statement, column = ("SHOW SLAVE STATUS", b"Seconds_Behind_Master") if b"MariaDB" in version else ("SHOW REPLICA STATUS", b"Seconds_Behind_Source")
    behind = database.named_rows(statement)
    values = [row.get(column) for row in behind]
    return max((float("inf") if value is None else float(value) for value in values), default=float("inf"))
