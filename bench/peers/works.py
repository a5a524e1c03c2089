# SPDX-License-Identifier: GPL-3.0-or-later
"""What each peer has to do, on servers of its own: every work returns figures by the keys of figures.py,
and series for the plots.
"""

from __future__ import annotations

import fcntl
import os
import random
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any

from servers import Pipeline

from peers.gearsync import Gearsync
from peers.peer import PASSWORD, TABLES, USER, Failed, Peer, wait
from peers.processes import FORK, Children, answer, cpu, pss
from peers.views import PATIENCE, Streams
from peers.writers import WRITTEN, pace, update_evenly, write_mix

Figures = dict[str, float]
Changes = list[tuple[int, int]]
#: As the tables of the peers, but carried by no peer and without triggers.
BARE = "bare"
#: Rows of bench.latency.
ROWS = 1000
#: Ids of rows that are written last; so many that each of our shards has some.
LAST = range(900_000_001, 900_000_065)
KILLS = 5
#: Of what is compared in turn.
ROUNDS = 5
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

    # -- what the works share

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

    # -- the works

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
        before = self._cpu()
        pipes = start(writable)
        meanwhile()
        commits: dict[int, float] = {}
        for pipe in pipes:
            commits.update(answer(pipe, seconds * 4 + 60))
        os.close(writable)
        seen = answer(watcher, PATIENCE * 2)
        os.close(readable)
        used = {name: now - before[name] for name, now in self._cpu().items()}
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

    def _cpu(self) -> Figures:
        return {
            "peer": cpu(self.peer.pids()),
            "database": cpu([self.database.process.pid]),
            "redis": cpu([self.servers.redis.process.pid]),
        }

    def latency(self) -> Figures:
        changes, used = self.evenly(1, 500, self.seconds)
        delays = sorted(delay * 1000 for _when, delay in changes)
        self.series["latency"] = [
            (percentile(delays, percent / 10), percent / 10) for percent in range(0, 1001, 5)
        ]
        scale = 30 / self.seconds
        return {
            "latency_p50": percentile(delays, 50),
            "latency_p99": percentile(delays, 99),
            "cpu_peer": used["peer"] * scale,
            "cpu_database": used["database"] * scale,
            "memory": pss(self.peer.pids()),
        }

    def burst(self) -> Figures:
        changes, _used = self.evenly(4, 2000, self.seconds * 2 / 3)
        delays = sorted(delay * 1000 for _when, delay in changes)
        return {
            "burst_rate": (len(changes) - 1) / (changes[-1][0] - changes[0][0]),
            "burst_p99": percentile(delays, 99),
        }

    def quiet(self) -> Figures:
        """What wakes are for, and what is left without them."""
        found = {}
        for name in ("quiet_p99", "no_wakes_p99"):
            if name == "no_wakes_p99":
                self.servers.gearmand.stop()
                time.sleep(1)
            changes, _used = self.evenly(1, 4, self.seconds)
            found[name] = percentile(sorted(delay * 1000 for _when, delay in changes), 99)
        self.servers.gearmand.start()
        # Until it is connected again, it looks more often than it would.
        self.until(
            lambda: self.servers.gearmand.queue("gearsync.barrier")[2] > 0, "the worker at the job server"
        )
        return found

    def idle(self) -> Figures:
        """Percent of a core that the peer, MariaDB and Redis take while nothing is written."""
        time.sleep(self.seconds / 6)
        before, seconds = self._cpu(), self.seconds / 2
        time.sleep(seconds)
        return {"idle": sum(now - before[name] for name, now in self._cpu().items()) / seconds * 100}

    def backlog(self) -> Figures:
        share = min(1.0, self.seconds / 30)
        rows, single = int(300_000 * share) // BLOCK * BLOCK, int(50_000 * share)
        self.peer.stop()
        mark, first = self.view.mark("bulk"), self.values(rows)
        with self.database.connect() as connection, connection.cursor() as cursor:
            for start in range(1, rows + 1, BLOCK):
                cursor.execute(
                    f"INSERT INTO bench.bulk SELECT seq, {first} + seq - 1, CONCAT('name ', seq) FROM "
                    f"bench.seq_{start}_to_{start + BLOCK - 1}"
                )
        found, used = self.drain([(row, first + row - 1) for row in range(1, rows + 1)], mark, "backlog")
        figures = {"backlog_multi": found, **{f"backlog_{name}": cores for name, cores in used.items()}}
        self.peer.stop()
        mark, first = self.view.mark("bulk"), self.values(single)
        # How they are written is not measured, and the logs have the same in them when they are not synced
        # one by one.
        self.database.execute("SET GLOBAL sync_binlog = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        with self.database.connect() as connection, connection.cursor() as cursor:
            for row in range(1, single + 1):
                cursor.execute(f"UPDATE bench.bulk SET value = {first + row - 1} WHERE id = {row}")
        self.database.execute("SET GLOBAL sync_binlog = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
        figures["backlog_single"], _used = self.drain(
            [(row, first + row - 1) for row in range(1, single + 1)], mark
        )
        return figures

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
        used = self._cpu()
        waiting, points = changes[-64:], [(0.0, 0.0), (first - began, 0.0)]

        def shown() -> bool:
            if time.perf_counter() - began > points[-1][0] + 0.1:
                points.append(
                    (time.perf_counter() - began, min(self.view.length("bulk") - before, len(changes)))
                )
            return self.view.shown("bulk", waiting)

        last = self.until(shown, "the last of the backlog", 600, 0.002)
        cores = {name: (now - used[name]) / (last - first) for name, now in self._cpu().items()}
        if series:
            self.series[series] = [*points, (last - began, len(changes))]
        state = self.view.state("bulk", mark)
        if missing := sum(1 for row, value in changes if state.get(row) != value):
            raise Failed(f"{missing} rows of the backlog do not show")
        return len(changes) / (last - first), cores

    def _mixed(self, table: str, writers: int, running: Event, rate: float = 0) -> list[Any]:
        first = self.values(writers * 1_000_000)
        running.set()
        return [
            self.children.run(
                write_mix,
                self.database,
                table,
                number,
                writers,
                first + number * 1_000_000,
                running,
                rate / writers,
            )
            for number in range(writers)
        ]

    def _written(self, pipes: list[Any], running: Event) -> int:
        running.clear()
        count = sum(int(answer(pipe, 60)) for pipe in pipes)
        self.children.end()
        return count

    def _rate(self, table: str, seconds: float) -> float:
        running = FORK.Event()
        began = time.perf_counter()
        pipes = self._mixed(table, 8, running)
        time.sleep(seconds)
        return self._written(pipes, running) / (time.perf_counter() - began)

    def writers(self) -> Figures:
        """8 writers as fast as they go, between two measurements of the same without the peer."""
        self.peer.stop()
        before = self._rate(BARE, self.seconds / 3)
        self.peer.start()
        self.written_last("writers")
        self.database.execute(f"DELETE FROM bench.writers WHERE id >= {LAST[0]}")
        rate = self._rate("writers", self.seconds * 2 / 3)
        self.written_last("writers")
        lost = self.different("writers")
        self.peer.stop()
        # The rows that the first one has left are not those that it found.
        self.database.execute(
            f"TRUNCATE bench.{BARE}",
            f"INSERT INTO bench.{BARE} SELECT seq, 0, 'row' FROM bench.seq_1_to_{WRITTEN}",
        )
        after = self._rate(BARE, self.seconds / 3)
        self.peer.start()
        if lost:
            raise Failed(f"{lost} rows differ after 8 writers")
        return {"writers_share": rate / statistics.mean([before, after])}

    def _insert(self, table: str, statements: int, rows: int) -> float:
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

    def cost(self) -> Figures:
        """What an INSERT costs beside one into a table without triggers, in rounds of both; and what it
        adds to the binary log.
        """
        found = {}
        for state in ("stopped", "running"):
            if state == "stopped":
                self.peer.stop()
            else:
                self.peer.start()
                self.written_last("cost")
            for name, statements, rows in (
                ("multi", max(5, int(self.seconds * 2)), BLOCK),
                ("single", max(50, int(self.seconds * 20)), 1),
            ):
                bare, carried = [], []
                for _round in range(ROUNDS):
                    bare.append(self._insert(BARE, statements, rows))
                    carried.append(self._insert("cost", statements, rows))
                ratio = statistics.median(carried) / statistics.median(bare)
                found[f"{name}_{state}"] = ratio if name == "single" else 1 / ratio
        self._settle("cost")
        sizes = [self.database.binary_log()]
        for table in (BARE, "cost"):
            self._insert(table, int(self.seconds * 30), 1)
            if table == "cost":
                self._settle(table)
            sizes.append(self.database.binary_log())
        found["binary_log"] = (sizes[2] - sizes[1]) / (sizes[1] - sizes[0])
        return found

    def _settle(self, table: str) -> None:
        first = self._next_id - 1
        self.until(
            lambda: self.view.shown(table, [(first, self._value - 1)]) and self.peer.settled(),
            "the end of the changes",
        )

    def lag(self) -> Figures:
        """The lag of each change while the peer is killed once, for the plot."""
        killed = 0.0

        def meanwhile() -> None:
            nonlocal killed
            time.sleep(self.seconds / 6)
            killed = time.perf_counter()
            self.peer.kill()
            self.peer.start()

        changes, _used = self.evenly(1, 500, self.seconds * 2 / 3, meanwhile)
        points: dict[float, float] = {}
        for when, delay in changes:
            place = (when - killed) * 10 // 1 / 10
            points[place] = max(points.get(place, 0.0), delay)
        self.series["lag"] = list(points.items())
        return {}

    def crash(self) -> Figures:
        """800 changes a second by four writers, and five times SIGKILL, each after the change that
        follows the last one has shown.
        """
        chance, running = random.Random(11), FORK.Event()
        began, recoveries = time.perf_counter(), []
        pipes = self._mixed("crash", 4, running, 800)
        for number in range(KILLS):
            time.sleep(chance.uniform(0.02, 0.06) * self.seconds)
            self.peer.kill()
            row, value, killed = LAST[-1] + 1 + number, self.values(1), time.perf_counter()
            mark = self.view.mark("crash")
            self.peer.start()
            self.database.execute(f"INSERT INTO bench.crash VALUES ({row}, {value}, 'after a kill')")
            shown = wait(lambda: self._probe_shows(row, value, mark), PATIENCE, 0.01, "a change after a kill")  # noqa: B023  # it ends before the next turn
            recoveries.append(shown - killed)
        time.sleep(max(0.0, began + self.seconds * 2 - time.perf_counter()))
        changes = self._written(pipes, running)
        self.written_last("crash")
        found = {
            "recovery": statistics.median(recoveries),
            "crash_changes": changes,
            "lost": self.different("crash"),
        }
        return {**found, "repeated": self.view.repeated("crash")} if isinstance(self.view, Streams) else found

    def _probe_shows(self, row: int, value: int, mark: Any) -> bool:
        # As a supervisor would, after a second.
        if not self.peer.running:
            time.sleep(1)
            self.peer.start()
        if isinstance(self.view, Streams):
            return any(change.id == row for change in self.view.entries("crash", mark))
        return self.view.value("crash", row) >= value


#: In this order: crashes are last, and memory is that after some minutes of even work.
WORKS = ("latency", "burst", "quiet", "idle", "backlog", "writers", "cost", "lag", "crash")
OURS_ONLY = ("quiet",)


def run(peer: Peer, seconds: float, works: list[str], report: Callable[[str], None]) -> dict[str, Any]:
    """All works of a peer: its figures, series and failures."""
    figures: Figures = {}
    failures: list[str] = []
    with Session(peer, Pipeline(), seconds) as session:
        versions = session.servers.versions
        try:
            session.make_tables()
            session.first_start()
        except Failed as error:
            failures.append(str(error))
            works = []
        for work in (
            works if isinstance(peer, Gearsync) else [work for work in works if work not in OURS_ONLY]
        ):
            began = time.perf_counter()
            try:
                found = getattr(session, work)()
                figures.update(found)
                report(
                    f"{peer.title}: {work} in {time.perf_counter() - began:.0f} s: "
                    + ", ".join(f"{name} {value:,.2f}" for name, value in found.items())
                )
            except (Failed, OSError, EOFError, LookupError, ValueError) as error:
                failures.append(f"{work}: {error}")
                session.children.end()
            if not peer.running:
                peer.start()
    for failure in failures:
        report(f"{peer.title} failed: {failure}")
    return {
        "title": peer.title,
        "version": peer.version(),
        "servers": versions,
        "figures": figures,
        "series": session.series,
        "failures": failures,
    }
