# SPDX-License-Identifier: GPL-3.0-or-later
"""How a resync limits its load: on the server, on the outbox and on the replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

import msgspec

from gearsync.operate.resync.errors import Stuck
from gearsync.outbox.sql import text_list
from gearsync.servers.mysql import Database

#: The longest sleep between two pieces, in seconds: the server ends a session that is idle for long.
LONGEST_SLEEP = 5.0
#: Seconds between two checks whether workers take what waits.
_CHECK_AGAIN = 30.0


class Limits(msgspec.Struct):
    """The limits of a resync."""

    chunk: int = 250
    rate: float = 0.0
    """Rows per second; 0 for no limit."""
    nice_ratio: float = 2.0
    """After each piece it sleeps this many times as long as the piece took, so that a busy server is
    loaded less.
    """
    depth: int = 20_000
    """It waits while the outbox holds more rows."""
    patience: float = 300.0
    """Seconds for which the outbox may hold more rows while no worker takes one of them."""
    tables: list[str] = msgspec.field(default_factory=list)
    """The declared tables, whose rows in the outbox are counted; those of other tables may wait for ever."""
    lag: Callable[[], float] = lambda: 0.0
    """Seconds that the slowest watched replica is behind."""
    max_lag: float = 0.0


def pause(limits: Limits, number: int, copying: float, turn: float) -> float:
    """Seconds to sleep after ``number`` rows whose transaction took ``copying`` seconds, and their whole
    turn ``turn`` seconds. Pure.
    """
    nice = min(LONGEST_SLEEP, limits.nice_ratio * copying)
    return max(nice, number / limits.rate - turn) if limits.rate else nice


def outbox_depth(database: Database, limit: int, tables: Collection[str]) -> int:
    """Rows of the outbox, counted up to ``limit`` + 1. When there are more, only those of ``tables``
    count: others may wait for ever.
    """
    count = "SELECT COUNT(*) FROM (SELECT 1 FROM gearsync.outbox{} LIMIT %s) AS counted"
    ((number,),) = database.rows(count.format(""), (limit + 1,))
    if int(number) > limit:
        names = text_list(tables).replace("%", "%%")
        ((number,),) = database.rows(count.format(f" WHERE table_name IN ({names})"), (limit + 1,))
    return int(number)


def replica_lag(database: Database) -> float:
    """Seconds that a replica reports to be behind; infinite when it does not replicate.

    The account needs REPLICATION CLIENT there, on MariaDB SLAVE MONITOR.
    """
    ((version,),) = database.rows("SELECT VERSION()")
    statement, column = (
        ("SHOW SLAVE STATUS", b"Seconds_Behind_Master")
        if b"MariaDB" in version
        else ("SHOW REPLICA STATUS", b"Seconds_Behind_Source")
    )
    values = [row.get(column) for row in database.named_rows(statement)]
    return max((float("inf") if value is None else float(value) for value in values), default=float("inf"))


class StallDetector:
    """Detects that no worker takes the changes of some tables that wait in the outbox."""

    def __init__(self, database: Database, tables: Collection[str]) -> None:
        self._database = database
        self._tables = tables
        self._next = self._since = 0.0
        #: The greatest id at the first check, and how many changes up to it remained at the last one; 0
        #: before.
        self._last = self._remaining = 0

    def check(self, patience: float) -> None:
        """Raises Stuck when no change was taken for ``patience`` seconds."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + min(_CHECK_AGAIN, patience)
        waiting = self._database.rows(
            f"SELECT table_name, COUNT(*) FROM gearsync.outbox WHERE id <= {self._last} AND table_name IN "
            f"({text_list(self._tables)}) GROUP BY table_name"
        )
        remaining = sum(int(number) for _name, number in waiting)
        if not remaining:
            ((last,),) = self._database.rows("SELECT COALESCE(MAX(id), 0) FROM gearsync.outbox")
            self._last, self._remaining = int(last), 0
        elif not self._remaining or remaining < self._remaining:
            self._remaining, self._since = remaining, now
        elif now - self._since >= patience:
            names = ", ".join(sorted(name.decode() for name, _number in waiting))
            raise Stuck(
                f"for {patience:g} s no worker has applied one of the {remaining:,} changes of {names} that "
                "wait in the outbox"
            )
