"""Read your writes: answers when everything that was committed at the time of the question is in Redis."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Optional

from gearsync.database import SCHEMA, Database, DatabaseUnavailable
from gearsync.outbox import Outbox
from gearsync.source import text_literal

FUNCTION = "gearsync.barrier"
#: Seconds until the answer is what is missing; the job's caller waits for 30.
TIMEOUT = 10.0
_SLOWEST = 0.02
#: Rows of each shard that are looked at for the names of the tables that hold it up.
_NAMES = 20_000


class Barrier:
    """One question. ``look`` until there is an answer."""

    def __init__(self, outbox: Outbox, timeout: float = TIMEOUT) -> None:
        self._outbox = outbox
        self._started = time.monotonic()
        self._timeout = timeout
        self._noted: Optional[dict[int, tuple[int, int]]] = None
        self._missing: dict[int, int] = {}
        #: Dead letters of the noted ids that were there before.
        self._dead_before = 0
        self._gap = 0.001
        self.next_look = self._started

    def look(self) -> Optional[dict[str, Any]]:
        """The answer when there is one: nothing is missing any more, or the time is over. Raises DatabaseUnavailable."""
        if self._noted is None:
            with self._outbox.database.snapshot():
                noted = self._outbox.spans()
                self._dead_before = self._outbox.dead(noted)
            self._noted, self._missing = noted, {shard: last for shard, (_first, last) in noted.items()}
        self._missing = {shard: number for shard, number in self._missing.items() if self._outbox.waits(shard, number)}
        if self._missing and not self._is_over:
            self._wait()
            return None
        # What could not be applied is not in Redis, though nobody waits for it any more.
        dead = self._outbox.dead(self._noted) - self._dead_before
        answer: dict[str, Any] = {"ok": not self._missing and dead <= 0}
        if self._missing:
            answer["missing"] = {str(shard): self._outbox.count(shard, number) for shard, number in self._missing.items()}
            answer["tables"] = waiting_tables(self._outbox.database, self._missing)
        if dead > 0:
            answer["dead"] = dead
        return self._answer(answer)

    def failed(self, error: Optional[DatabaseUnavailable]) -> Optional[dict[str, Any]]:
        """The answer while the database is away: none until the time is over."""
        if self._is_over:
            return self._answer({"ok": False, "error": f"the database does not answer: {error}"})
        self._wait()
        return None

    @property
    def _is_over(self) -> bool:
        return time.monotonic() - self._started >= self._timeout

    def _wait(self) -> None:
        self.next_look, self._gap = time.monotonic() + self._gap, min(self._gap * 1.5, _SLOWEST)

    def _answer(self, words: dict[str, Any]) -> dict[str, Any]:
        return {**words, "seconds": round(time.monotonic() - self._started, 6)}


def wait(outbox: Outbox, timeout: float) -> dict[str, Any]:
    """The answer of a barrier, waited for."""
    barrier = Barrier(outbox, timeout)
    while True:
        try:
            answer = barrier.look()
        except DatabaseUnavailable as error:
            answer = barrier.failed(error)
        if answer is not None:
            return answer
        time.sleep(max(0.0, barrier.next_look - time.monotonic()))


def waiting_tables(database: Database, missing: dict[int, int]) -> list[str]:
    """The tables that have changes among the oldest that wait in these shards. Raises DatabaseUnavailable."""
    looks = " UNION ALL ".join(
        f"(SELECT table_name FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY) WHERE shard = {shard} AND id <= {number} ORDER BY id LIMIT {_NAMES})"
        for shard, number in missing.items())
    return sorted(name.decode() for (name,) in database.rows(f"SELECT DISTINCT table_name FROM ({looks}) AS looked_at")) if missing else []


def wait_for_tables(database: Database, tables: Iterable[str], timeout: float) -> bool:
    """Wait until what is committed now of these tables alone is in Redis; whether it is. Raises DatabaseUnavailable.

    Changes of a table that no worker declares wait for ever, and are nothing to those who ask about another one.
    """
    names = ", ".join(text_literal(table.encode()).decode() for table in sorted(set(tables)))
    waits = f"FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY) WHERE table_name IN ({names}) AND shard"
    missing: dict[int, int] = {}
    for shard in Outbox(database).shards():
        rows = database.rows(f"SELECT id {waits} = {shard} ORDER BY id DESC LIMIT 1")
        if rows:
            missing[shard] = int(rows[0][0])
    started, gap = time.monotonic(), 0.001
    while missing := {shard: number for shard, number in missing.items() if database.rows(f"SELECT 1 {waits} = {shard} AND id <= {number} LIMIT 1")}:
        if time.monotonic() - started >= timeout:
            return False
        time.sleep(gap)
        gap = min(gap * 1.5, _SLOWEST)
    return True
