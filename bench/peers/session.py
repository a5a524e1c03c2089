# SPDX-License-Identifier: GPL-3.0-or-later
"""A peer at work on servers of its own: its tables, its changes, and when they show."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from servers import Pipeline

from peers.peer import PASSWORD, TABLES, USER, Failed, Peer, wait
from peers.processes import Children, answer, cpu
from peers.views import PATIENCE
from peers.writers import WRITTEN, pace, update_evenly

Figures = dict[str, float]
Changes = list[tuple[int, int]]
#: As the tables of the peers, but carried by no peer and without triggers.
BARE = "bare"
#: Rows of bench.latency.
ROWS = 1000
#: Ids of rows that are written last; so many that each of our shards has some.
LAST = range(900_000_001, 900_000_065)
#: Rows of a large transaction.
BLOCK = 1000


def percentile(ordered: list[float], percent: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Session:
    """A peer at work; a ``with`` ends it. ``seconds``: of 500 commits a second; the other works keep
    their proportion to it.
    """

    def __init__(self, peer: Peer, servers: Pipeline, seconds: float) -> None:
        self.peer, self.servers, self.seconds, self.database = peer, servers, seconds, servers.database
        peer.use(servers)
        self.view = peer.view
        self.series: dict[str, list[tuple[float, float]]] = {}
        self.children = Children()
        self._value = 1
        self._next_id = 10_000_000

    def values(self, count: int) -> int:
        """The first of so many values that no change has had."""
        first, self._value = self._value, self._value + count
        return first

    def until(
        self, what: Callable[[], bool], doing: str, seconds: float = PATIENCE, every: float = 0.005
    ) -> float:
        try:
            return wait(what, seconds, every, doing, self.peer.check)
        except Failed as error:
            raise Failed(f"{error}; {self.peer.log()}") from None

    def written_last(self, table: str) -> None:
        """Write what comes last, and wait until it shows."""
        first = self.values(len(LAST))
        self.database.execute(
            f"INSERT INTO bench.{table} SELECT seq, {first} + seq - {LAST[0]}, 'last' FROM "
            f"bench.seq_{LAST[0]}_to_{LAST[-1]}"
        )
        changes = [(row, first + place) for place, row in enumerate(LAST)]
        self.until(lambda: self.view.shown(table, changes), "the last change")

    def different(self, table: str) -> int:
        """How many rows are missing, stale or too many; looked at until none is, or for 30 s."""
        deadline = time.perf_counter() + 30
        while True:
            rows = {
                int(row): int(value)
                for row, value in self.database.execute(f"SELECT id, value FROM bench.{table}")
            }
            found = {row for row, _value in rows.items() ^ self.view.state(table, b"0-0").items()}
            if not found or time.perf_counter() > deadline:
                return len(found)
            time.sleep(1)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_error: object) -> None:
        """End everything, and remove the servers' data."""
        self.children.end()
        self.peer.kill()
        for server in (self.database, self.servers.redis, self.servers.gearmand):
            server.remove()

    def make_tables(self) -> None:
        self.database.execute(
            f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON *.* TO {USER}@'127.0.0.1'",
        )
        for table in (*TABLES, BARE):
            self.database.execute(
                f"CREATE TABLE bench.`{table}` (id INT PRIMARY KEY, value BIGINT NOT NULL, name VARCHAR(64) "
                "NOT NULL) ENGINE=InnoDB"
            )
        self.database.execute(f"INSERT INTO bench.{BARE} SELECT seq, 0, 'row' FROM bench.seq_1_to_{WRITTEN}")

    def first_start(self) -> None:
        """Start the peer, and give it 2,000 changes to warm up."""
        self.peer.prepare()
        self.peer.start()
        self.database.execute(f"INSERT INTO bench.latency SELECT seq, 0, 'row' FROM bench.seq_1_to_{ROWS}")
        tried: Changes = []

        def shows() -> bool:
            # One that starts at the end of the log does not show what was written before.
            tried.append((1 + len(tried) % ROWS, self.values(1)))
            self.database.execute(
                f"UPDATE bench.latency SET value = {tried[-1][1]} WHERE id = {tried[-1][0]}"
            )
            time.sleep(0.2)
            return any(self.view.shown("latency", [change]) for change in tried[-8:])

        self.until(shows, "the first change", 120)
        for table in ("writers", "crash"):
            self.database.execute(
                f"INSERT INTO bench.{table} SELECT seq, {self.values(WRITTEN)} + seq - 1, 'row' FROM "
                f"bench.seq_1_to_{WRITTEN}"
            )
        began = time.perf_counter()
        with self.database.connect() as connection, connection.cursor() as cursor:
            for number in range(2000):
                pace(began, number, 400)
                cursor.execute(
                    f"UPDATE bench.latency SET value = {self.values(1)} WHERE id = {number % ROWS + 1}"
                )
        self.written_last("latency")

    def watched(
        self,
        start: Callable[[int], list[Connection]],
        count: int,
        seconds: float,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> tuple[list[tuple[float, float]], Figures]:
        """Watch ``count`` changes of bench.latency: (time of the commit, seconds until it shows) of each, by
        the commit, and the CPU that it took.

        ``start`` starts the writers, which write into the pipe that it gets and take so many seconds.
        """
        readable, writable = os.pipe()
        fcntl.fcntl(writable, fcntl.F_SETPIPE_SZ, 1 << 20)
        watcher = self.children.run(self._watch, writable, readable, count, self.view.mark("latency"))
        time.sleep(0.3)
        before = self.cpu()
        pipes = start(writable)
        meanwhile()
        commits: dict[int, float] = {}
        for pipe in pipes:
            commits.update(answer(pipe, seconds * 4 + 60))
        os.close(writable)
        seen = answer(watcher, PATIENCE * 2)
        os.close(readable)
        used = {name: now - before[name] for name, now in self.cpu().items()}
        self.children.end()
        self.peer.check()
        if missing := len(commits.keys() - seen.keys()):
            raise Failed(f"{missing} of {len(commits)} changes do not show; {self.peer.log()}")
        # What shows before the commit has returned took no time.
        return sorted((when, max(0.0, seen[number] - when)) for number, when in commits.items()), used

    def evenly(
        self, connections: int, rate: int, seconds: float, meanwhile: Callable[[], None] = lambda: None
    ) -> tuple[list[tuple[float, float]], Figures]:
        """Commit UPDATEs at an even rate over all connections, and watch them."""
        count, part = int(rate * seconds) // connections, ROWS // connections
        first = self.values(count * connections)
        return self.watched(
            lambda writable: [
                self.children.run(
                    update_evenly,
                    self.database,
                    rate / connections,
                    count,
                    range(number * part + 1, (number + 1) * part + 1),
                    first + number,
                    connections,
                    writable,
                )
                for number in range(connections)
            ],
            count * connections,
            seconds,
            meanwhile,
        )

    def _watch(self, writable: int, readable: int, count: int, mark: Any, answers: Any) -> None:
        # Its own copy, which would keep the pipe from ending.
        os.close(writable)
        self.view.watch("latency", readable, count, mark, answers)

    def cpu(self) -> Figures:
        return {
            "peer": cpu(self.peer.pids()),
            "database": cpu([self.database.process.pid]),
            "redis": cpu([self.servers.redis.process.pid]),
        }

    def drain(self, changes: Changes, mark: Any, series: str = "") -> tuple[float, Figures]:
        """Start the peer: rows a second from the first that shows to the last, and the cores that it
        takes.
        """
        before = self.view.length("bulk")
        began = time.perf_counter()
        self.peer.start()
        first = self.until(
            lambda: self.view.begun("bulk", changes[:8], mark), "the first of the backlog", 120, 0.002
        )
        used = self.cpu()
        waiting, points = changes[-64:], [(0.0, 0.0), (first - began, 0.0)]

        def shown() -> bool:
            if time.perf_counter() - began > points[-1][0] + 0.1:
                points.append(
                    (time.perf_counter() - began, min(self.view.length("bulk") - before, len(changes)))
                )
            return self.view.shown("bulk", waiting)

        last = self.until(shown, "the last of the backlog", 600, 0.002)
        cores = {name: (now - used[name]) / (last - first) for name, now in self.cpu().items()}
        if series:
            self.series[series] = [*points, (last - began, len(changes))]
        state = self.view.state("bulk", mark)
        if missing := sum(1 for row, value in changes if state.get(row) != value):
            raise Failed(f"{missing} rows of the backlog do not show")
        return len(changes) / (last - first), cores

    def insert(self, table: str, statements: int, rows: int) -> float:
        """Seconds of INSERTs of so many rows each."""
        first, value = self._next_id, self.values(statements * rows)
        self._next_id += statements * rows
        with self.database.connect() as connection, connection.cursor() as cursor:
            began = time.perf_counter()
            for start in range(first, first + statements * rows, rows):
                those = f"bench.seq_{start}_to_{start + rows - 1}"
                cursor.execute(
                    f"INSERT INTO bench.{table} SELECT seq, {value} + seq - {first}, CONCAT('name ', seq) "
                    f"FROM {those}"
                )
            return time.perf_counter() - began

    def settle(self, table: str) -> None:
        """Wait until the last row of ``insert`` shows, and the peer is done with it."""
        last = (self._next_id - 1, self._value - 1)
        self.until(lambda: self.view.shown(table, [last]) and self.peer.settled(), "the end of the changes")
