# SPDX-License-Identifier: GPL-3.0-or-later
"""The resync of one table.

A piece is one statement, a transaction by itself: it locks its rows for reading until their copies are in the
outbox, so that each copy has its right place among the changes of its row, and no lock ever waits for this
process. How far the run is, is stored afterwards: after a crash in between, a piece is copied again, which is
harmless. It never waits for a lock while it holds others: no writer can be the victim of a deadlock with a
resync.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Optional

import msgspec

from gearsync.operate.resync.errors import Busy, LostMeanwhile, Redeclared
from gearsync.operate.resync.limits import LONGEST_SLEEP, Limits, StallDetector, outbox_depth, pause
from gearsync.operate.resync.run_store import RunStore
from gearsync.operate.table_size import estimated_rows
from gearsync.outbox.copy_rows import copy_sql, reach
from gearsync.outbox.synced_table import Position
from gearsync.outbox.walk import SPARSE, PieceSize
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import RowsLocked

#: Seconds between two checks of a lock or of a limit.
_PAUSE = 0.05
#: Seconds to wait for another run of the same table: the lock of a process that was killed disappears a
#: moment later.
_LOCK_SECONDS = 3


class Progress(msgspec.Struct):
    """How far a table is."""

    table: str
    rows: int
    estimate: int
    """The table's number of rows as the server estimates it."""
    done: bool
    waiting: str
    """What is waited for; empty when nothing is."""
    position: Optional[Position]


class TableResync:
    """One table's run."""

    def __init__(self, database: Database, store: RunStore, limits: Limits, restart: bool = False) -> None:
        """``restart`` forgets an interrupted run. Raises DatabaseUnavailable, Unavailable, and Busy while
        another run of the table has its lock.
        """
        self.database = database
        self.synced = store.synced
        self._limits = limits
        self._store = store
        ((version,),) = database.rows("SELECT VERSION()")
        self._mariadb = b"MariaDB" in version
        # The lock belongs to the session, and ends with it.
        lock = f"gearsync.resync.{hashlib.sha256(self.synced.table.encode()).hexdigest()[:32]}"
        ((taken,),) = database.rows("SELECT GET_LOCK(%s, %s)", (lock, _LOCK_SECONDS))
        if not int(taken or 0):
            ((holder,),) = database.rows("SELECT IS_USED_LOCK(%s)", (lock,))
            raise Busy(
                f"another resync of {self.synced.table} is running, on MySQL's connection "
                f"{int(holder or 0)}: let it end, or end it with KILL"
            )
        self.begun = store.start(restart)
        self._progress = Progress(
            self.synced.table,
            self.begun.rows,
            estimated_rows(database, self.synced),
            False,
            "",
            self.begun.position,
        )

    def run(self) -> Iterator[Progress]:
        """One Progress after each piece and each wait, until the table is done. Raises LostMeanwhile and
        Redeclared.
        """
        progress = self._progress
        most = (
            min(self._limits.chunk, max(1, int(self._limits.rate * LONGEST_SLEEP)))
            if self._limits.rate
            else self._limits.chunk
        )
        piece_size = PieceSize(most)
        while not progress.done:
            began = time.monotonic()
            yield from self._hold_back()
            asked = time.monotonic()
            try:
                number = self._piece(piece_size)
            except RowsLocked:
                progress.waiting = "a row that a transaction has locked"
                yield progress
                piece_size.shrink()
                time.sleep(_PAUSE)
                continue
            progress.waiting = ""
            copied = time.monotonic()
            yield progress
            if not progress.done:
                time.sleep(pause(self._limits, number, copied - asked, time.monotonic() - began))
        # A run that started over has taken the lock several times.
        self.database.run("DO RELEASE_ALL_LOCKS()")

    def _hold_back(self) -> Iterator[Progress]:
        """Wait while a limit is exceeded. Raises Stuck."""
        tables = self._limits.tables or [self.synced.table]
        detector = StallDetector(self.database, tables)
        while True:
            if outbox_depth(self.database, self._limits.depth, tables) > self._limits.depth:
                self._progress.waiting = f"the outbox, which holds more than {self._limits.depth} rows"
                detector.check(self._limits.patience)
            elif self._limits.max_lag and self._limits.lag() > self._limits.max_lag:
                self._progress.waiting = f"a replica that is more than {self._limits.max_lag:g} s behind"
            else:
                return
            yield self._progress
            time.sleep(_PAUSE)

    def _piece(self, piece_size: PieceSize) -> int:
        """Copy the next rows; how many there were."""
        progress, where = self._progress, self._store.where
        # With a condition a piece is a range of the key: however few rows it has, no statement searches for
        # long.
        alone = piece_size.size == 1
        piece = reach(
            self.database,
            self.synced,
            progress.position,
            piece_size.size * SPARSE if where and not alone else piece_size.size,
        )
        number = 0
        if piece.rows and piece.last is not None:
            number = self.database.run(
                copy_sql(
                    self.synced, progress.position, piece.last, where, alone=alone, mariadb=self._mariadb
                )
            )
        rows = progress.rows + number
        if not self._store.save(self.begun.id, piece.last, rows):
            raise Redeclared(f"the declaration of {self.synced.table} has changed while it was loaded")
        progress.position, progress.rows = piece.last, rows
        piece_size.adapt(piece.rows, piece.size)
        if piece.done:
            if not self._store.finish(self.begun.id):
                raise LostMeanwhile(f"Redis has lost its data while {self.synced.table} was loaded")
            progress.done = True
        return number
