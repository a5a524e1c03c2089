#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""First load and proof of equality of a large table, while writers write.

usage: bench/operate.py [--rows 1000000] [--writers 8] [--seconds 20]     with the environment of tests/setup
bench

Starts a database, gearmand, a worker and Redis. The writers insert, update and delete random rows as fast as
they can; the time of each write is measured without a resync and then while `gearsync resync` loads the whole
table. When they have stopped, `gearsync verify` must find the two sides equal. Then Redis is emptied, and a
second resync is killed ten times at random moments: it must go on where it was, and both sides be equal
again. Then verify is run while the writers write, when it must report nothing; after 1,000 differences were
planted, each of which it must report; and after Redis was emptied once more, which one command must mend.
Each bar is printed with its limit; the exit status is 1 when one was missed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pathlib
import random
import re
import statistics
import subprocess
import sys
import threading
import time
from typing import Any

from servers import Pipeline, Process, arguments, cleaned_up, machine, until

TABLE = {
    "table": "bench.account",
    "columns": ["id", "name", "balance"],
    "write": [{"type": "hash", "key": "account:{id}"}],
}
BARS = {"verify": 60.0, "memory": 100.0, "p99": 2.0}
PLANTED = {"missing": 250, "stale": 250, "orphaned": 250, "wrong_type": 250}


def write(servers: Pipeline, rows: int, seed: int, running: Any, times: Any) -> None:
    chance = random.Random(seed)
    found: list[float] = []
    deleted: list[int] = []
    with servers.database.connect() as connection, connection.cursor() as cursor:
        while running.is_set():
            row = chance.randrange(1, rows + 1)
            # What was deleted comes back as often: the table keeps its size.
            statement = chance.choices(
                [
                    (
                        f"UPDATE bench.account SET name = '{seed}-{len(found)}', balance = balance + 1 "
                        f"WHERE id = {row}"
                    ),
                    f"DELETE FROM bench.account WHERE id = {row}",
                    (
                        "INSERT IGNORE INTO bench.account VALUES "
                        f"({deleted.pop() if deleted else rows + row}, '{seed}-new', 0)"
                    ),
                ],
                [8, 1, 1],
            )[0]
            began = time.perf_counter()
            cursor.execute(statement)
            found.append(time.perf_counter() - began)
            if statement.startswith("DELETE"):
                deleted.append(row)
    times.put(found)


class Writers:
    """Writers at work for the length of a `with`; afterwards ``times`` are the seconds of all writes."""

    def __init__(self, servers: Pipeline, rows: int, number: int) -> None:
        self._context = multiprocessing.get_context("fork")
        self._running, self._queue = self._context.Event(), self._context.Queue()
        self._processes = [
            self._context.Process(
                target=write, args=(servers, rows, seed, self._running, self._queue), daemon=True
            )
            for seed in range(number)
        ]
        self.times: list[float] = []

    def __enter__(self) -> Writers:
        self._running.set()
        self._began = time.perf_counter()
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._running.clear()
        for _process in self._processes:
            self.times += self._queue.get()
        self.seconds = time.perf_counter() - self._began
        for process in self._processes:
            process.join()

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.times, n=100)[98] * 1000

    def words(self) -> str:
        return (
            f"{len(self.times) / self.seconds:,.0f} writes/s, p50 "
            f"{statistics.median(self.times) * 1000:.2f} ms, p99 {self.p99:.2f} ms"
        )


class Memory(threading.Thread):
    """Watches what a process holds at most. (Its ru_maxrss would count what this one held when it began
    it.)
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._status = pathlib.Path(f"/proc/{pid}/status")
        self.peak = 0.0
        """MiB."""
        self.start()

    def run(self) -> None:
        while found := re.search(r"^VmHWM:\s*(\d+) kB$", self._text(), re.MULTILINE):
            self.peak = int(found.group(1)) / 1024
            time.sleep(0.02)

    def _text(self) -> str:
        try:
            return self._status.read_text()
        except OSError:
            return ""


def command(servers: Pipeline, *words: str) -> tuple[int, str, float, float]:
    """Exit status, output, seconds and MiB of one `gearsync` command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gearsync",
            words[0],
            "--config",
            servers.directory / "worker.yml",
            *words[1:],
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    memory = Memory(process.pid)
    output, _none = process.communicate()
    memory.join()
    return process.returncode, output, time.perf_counter() - began, memory.peak


def killed(servers: Pipeline, seconds: float, times: int) -> str:
    """A resync that is killed so often within about ``seconds``, and then left alone: what went wrong, or
    nothing.
    """

    def progress() -> tuple[int, bool]:
        ((rows, finished),) = servers.database.execute(
            "SELECT rows_done, finished_at IS NOT NULL FROM gearsync.resync"
        )
        return int(rows), bool(finished)

    chance, last = random.Random(2), 0
    for number in range(times):
        # The first one begins anew: the load before it is done.
        words = ["--restart"] if number == 0 else []
        resync: list[str | os.PathLike[str]] = [
            sys.executable,
            "-m",
            "gearsync",
            "resync",
            "--config",
            servers.directory / "worker.yml",
            *words,
        ]
        process = Process("resync", resync, servers.directory / "resync.log")
        process.forget()
        until(lambda: (progress()[1] is False and progress()[0] > last) or not process.running)  # noqa: B023  # it ends before the next turn
        time.sleep(chance.uniform(0.1, 1.9) * 0.7 * seconds / (times + 1))
        process.kill()
        rows, finished = progress()
        print(f"killed after {rows:,} rows", flush=True)
        if rows < last:
            return f"began anew after {last:,} rows"
        if finished:
            return f"was done after {number} kills"
        last = rows
    status = command(servers, "resync", "--wait", "300")[0]
    return f"exit status {status}" if status else ""


def verify(servers: Pipeline, what: str, rows: int) -> tuple[dict[str, int], float, float]:
    status, output, seconds, memory = command(servers, "verify", "--json")
    found = json.loads(output)["tables"][0]
    print(
        f"verify of {rows:,} rows, {what}: {seconds:.1f} s, {memory:.0f} MiB, exit status {status}, "
        f"{found['different'] or 'equal'}",
        flush=True,
    )
    return found["different"], seconds, memory


def plant(servers: Pipeline) -> None:
    """Differences, and no others: rows that are there, and keys of none."""
    ids = [
        row
        for (row,) in servers.database.execute(
            f"SELECT id FROM bench.account ORDER BY RAND(1) LIMIT {sum(PLANTED.values())}"
        )
    ]
    ((last,),) = servers.database.execute("SELECT MAX(id) FROM bench.account")
    for _number in range(PLANTED["missing"]):
        servers.redis.client.delete(f"account:{ids.pop()}")
    for _number in range(PLANTED["stale"]):
        servers.redis.client.hset(f"account:{ids.pop()}", "name", "stale")
    for number in range(PLANTED["orphaned"]):
        servers.redis.client.hset(f"account:{last + 1 + number}", "name", "nobody")
    for _number in range(PLANTED["wrong_type"]):
        key = f"account:{ids.pop()}"
        servers.redis.client.delete(key)
        servers.redis.client.set(key, "text")


class Bars:
    """What must hold, printed as it is known."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def held(self, what: str, value: object, limit: str, holds: bool) -> None:
        print(f"bar: {what}: {value}, limit {limit}: {'held' if holds else 'missed'}", flush=True)
        if not holds:
            self.missed.append(what)

    def equal(self, what: str, different: dict[str, int], status: int = 0) -> None:
        """No differences, and exit status 0 of the command before."""
        self.held(what, different or "equal", "equal", not status and not different)


def prepare(servers: Pipeline, rows: int) -> None:
    """A table with so many rows and its triggers, and a worker."""
    servers.database.execute(
        "CREATE TABLE bench.account (id INT PRIMARY KEY, name VARCHAR(40), balance BIGINT NOT NULL) "
        "ENGINE=InnoDB",
        f"INSERT INTO bench.account SELECT seq, MD5(seq), 0 FROM bench.seq_1_to_{rows}",
    )
    servers.database.declare(TABLE)
    servers.worker([TABLE])
    command(servers, "barrier", "--timeout", "120")


def load(servers: Pipeline, options: argparse.Namespace, bars: Bars) -> float:
    """A resync beside writers, and a verify when they have stopped; the seconds of the resync."""
    rows = options.rows
    with Writers(servers, rows, options.writers) as alone:
        time.sleep(options.seconds)
    print(f"without a resync: {alone.words()}", flush=True)
    with Writers(servers, rows, options.writers) as beside:
        status, _output, loading, memory = command(servers, "resync", "--wait", "300")
    print(f"with it: {beside.words()}", flush=True)
    slower = beside.p99 / alone.p99
    bars.held(
        "p99 of the writers beside a resync, of that without",
        f"{slower:.2f}",
        f"{BARS['p99']:g}",
        slower <= BARS["p99"],
    )
    print(
        f"resync of {rows:,} rows: {loading:.1f} s, {rows / loading:,.0f} rows/s, {memory:.0f} MiB, "
        f"exit status {status}",
        flush=True,
    )
    command(servers, "barrier", "--timeout", "120")
    different, seconds, memory = verify(servers, "nobody writes", rows)
    bars.equal("resync under writers ends equal", different, status)
    bars.held("seconds of verify", f"{seconds:.1f}", f"{BARS['verify']:g}", seconds <= BARS["verify"])
    bars.held("MiB of verify", f"{memory:.0f}", f"{BARS['memory']:g}", memory <= BARS["memory"])
    return loading


def load_with_kills(servers: Pipeline, options: argparse.Namespace, bars: Bars, loading: float) -> None:
    """A resync into an empty Redis that is killed again and again. ``loading``: the seconds of one that is
    not.
    """
    servers.redis.client.flushall()
    with Writers(servers, options.rows, options.writers):
        wrong = killed(servers, loading, 10)
    command(servers, "barrier", "--timeout", "120")
    different, _seconds, _memory = verify(servers, "after a resync that was killed 10 times", options.rows)
    bars.held("resync that is killed goes on where it was", wrong or "each time", "each time", not wrong)
    bars.equal("resync that is killed ends equal", different)


def find_differences(servers: Pipeline, options: argparse.Namespace, bars: Bars) -> None:
    """verify beside writers, after differences were planted, and after Redis was emptied and loaded again."""
    rows = options.rows
    with Writers(servers, rows, options.writers) as beside:
        different, _seconds, _memory = verify(servers, f"{options.writers} writers at work", rows)
    print(f"while it ran: {beside.words()}")
    bars.equal("verify of an equal pair under writers", different)
    command(servers, "barrier", "--timeout", "120")
    plant(servers)
    different, _seconds, _memory = verify(servers, f"{sum(PLANTED.values()):,} differences planted", rows)
    bars.held("planted differences", different, str(PLANTED), different == PLANTED)

    servers.redis.client.flushall()
    status = command(servers, "resync", "--restart", "--wait", "300")[0]
    different, _seconds, _memory = verify(servers, "after FLUSHALL and one resync", rows)
    bars.equal("one command after FLUSHALL", different, status)


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20, help="of writing without a resync")
    options = parser.parse_args()
    bars = Bars()
    with cleaned_up():
        servers = Pipeline(durable=not options.relaxed)
        prepare(servers, options.rows)
        print(
            f"{machine()}; {servers.versions}; {options.rows:,} rows, {options.writers} writers", flush=True
        )
        loading = load(servers, options, bars)
        load_with_kills(servers, options, bars, loading)
        find_differences(servers, options, bars)
    print(f"missed: {', '.join(bars.missed)}" if bars.missed else "all bars are held")
    return 1 if bars.missed else 0


if __name__ == "__main__":
    sys.exit(main())
