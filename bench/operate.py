#!/usr/bin/env python3
"""First load and proof of equality of a large table, while writers write.

usage: bench/operate.py [--rows 1000000] [--writers 8] [--seconds 20]     with the environment of bench/requirements.txt

Starts what bench/pipeline.py starts. The writers update random rows as fast as they can; the time of each write is measured without a resync and then
while `gearsync resync` loads the whole table. A second resync is killed ten times at random moments and must go on where it was. When the writers have
stopped, `gearsync verify` must find the two sides equal; then it is run again while they write, when it must report nothing; and once more after 1,000
differences were planted, each of which it must report.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import time
from typing import Any

from servers import ROOT, Bench, bench, machine, until

TABLE = {"table": "bench.account", "columns": ["id", "name", "balance"], "write": [{"type": "hash", "key": "account:{id}"}]}
BARS = {"verify": 60.0, "memory": 100.0, "p99": 2.0}
PLANTED = {"missing": 250, "stale": 250, "orphaned": 250, "wrong_type": 250}


def write(servers: Bench, rows: int, seed: int, running: Any, times: Any) -> None:
    chance = random.Random(seed)
    found: list[float] = []
    with servers.connect() as connection, connection.cursor() as cursor:
        while running.is_set():
            began = time.perf_counter()
            cursor.execute(f"UPDATE bench.account SET name = '{seed}-{len(found)}', balance = balance + 1 WHERE id = {chance.randrange(1, rows + 1)}")
            found.append(time.perf_counter() - began)
    times.put(found)


class Writers:
    """Writers at work for the length of a `with`; afterwards ``times`` are the seconds of all writes."""

    def __init__(self, servers: Bench, rows: int, number: int) -> None:
        self._context = multiprocessing.get_context("fork")
        self._running, self._queue = self._context.Event(), self._context.Queue()
        self._processes = [self._context.Process(target=write, args=(servers, rows, seed, self._running, self._queue), daemon=True) for seed in range(number)]
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
        return f"{len(self.times) / self.seconds:,.0f} writes/s, p50 {statistics.median(self.times) * 1000:.2f} ms, p99 {self.p99:.2f} ms"


def command(servers: Bench, *words: str) -> tuple[int, str, float, float]:
    """Exit status, output, seconds and MiB of one `gearsync` command."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "gearsync", words[0], "--config", str(servers.home / "worker.yml"), *words[1:]], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "worker/src")})
    assert process.stdout is not None
    output = process.stdout.read()
    _pid, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, output, time.perf_counter() - began, usage.ru_maxrss / 1024


def killed(servers: Bench, seconds: float, times: int) -> bool:
    """A resync that is killed so often within about ``seconds``, and then left alone: whether each went on where the one before was, and the last ended."""
    chance, last = random.Random(2), 0
    for _number in range(times):
        process = servers.run(sys.executable, "-m", "gearsync", "resync", "--config", str(servers.home / "worker.yml"), log="killed.log")
        time.sleep(0.5 + chance.uniform(0.1, 1.9) * seconds / (times + 1))
        process.kill()
        process.wait()
        ((rows, finished),) = servers.sql("SELECT rows_done, finished_at FROM gearsync.resync")
        print(f"killed after {rows:,} rows", flush=True)
        if rows < last or finished:
            return False
        last = rows
    return last > 0 and command(servers, "resync", "--wait", "300")[0] == 0


def verify(servers: Bench, what: str, rows: int) -> tuple[dict[str, int], float, float]:
    status, output, seconds, memory = command(servers, "verify", "--json")
    found = json.loads(output)["tables"][0]
    print(f"verify of {rows:,} rows, {what}: {seconds:.1f} s, {memory:.0f} MiB, exit status {status}, {found['different'] or 'equal'}", flush=True)
    return found["different"], seconds, memory


def plant(servers: Bench, rows: int) -> None:
    chance = iter(random.Random(1).sample(range(1, rows + 1), 750))
    for _number in range(PLANTED["missing"]):
        servers.redis.delete(f"account:{next(chance)}")
    for _number in range(PLANTED["stale"]):
        servers.redis.hset(f"account:{next(chance)}", "name", "stale")
    for number in range(PLANTED["orphaned"]):
        servers.redis.hset(f"account:{rows + 1 + number}", "name", "nobody")
    for _number in range(PLANTED["wrong_type"]):
        key = f"account:{next(chance)}"
        servers.redis.delete(key)
        servers.redis.set(key, "text")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20, help="of writing without a resync")
    options = parser.parse_args()
    rows, bad = options.rows, []
    with bench() as servers:
        servers.start_pipeline()
        servers.sql("CREATE TABLE bench.account (id INT PRIMARY KEY, name VARCHAR(40), balance BIGINT NOT NULL) ENGINE=InnoDB",
                    f"INSERT INTO bench.account SELECT seq, MD5(seq), 0 FROM bench.seq_1_to_{rows}")
        servers.sync_table(**TABLE)
        servers.start_worker([TABLE])
        until(lambda: servers.drained_by(4))
        print(f"{machine()}; MariaDB {servers.sql('SELECT VERSION()')[0][0]}; {rows:,} rows, {options.writers} writers", flush=True)
        with Writers(servers, rows, options.writers) as alone:
            time.sleep(options.seconds)
        print(f"without a resync: {alone.words()}", flush=True)
        with Writers(servers, rows, options.writers) as beside:
            status, _output, seconds, memory = command(servers, "resync", "--wait", "300")
        print(f"with it: {beside.words()}; p99 {beside.p99 / alone.p99:.2f} of that without (bar {BARS['p99']})")
        speed = f"{seconds:.1f} s, {rows / seconds:,.0f} rows/s, {memory:.0f} MiB"
        print(f"resync of {rows:,} rows under {options.writers} writers: {speed}, exit status {status}", flush=True)
        loading = seconds
        with Writers(servers, rows, options.writers):
            began, on = time.perf_counter(), killed(servers, loading, 10)
        words = "went on where it was, each time" if on else "did not go on"
        print(f"resync that was killed 10 times: {words}, {time.perf_counter() - began:.1f} s", flush=True)
        command(servers, "barrier", "--timeout", "120")
        different, seconds, memory = verify(servers, "nobody writes", rows)
        bad += ["resync"] if status or different or not on else []
        bad += [name for name, value in (("verify", seconds), ("memory", memory), ("p99", beside.p99 / alone.p99)) if value > BARS[name]]
        with Writers(servers, rows, options.writers) as beside:
            different, _seconds, _memory = verify(servers, f"{options.writers} writers at work", rows)
        print(f"while it ran: {beside.words()}")
        bad += ["reported under writers"] if different else []
        command(servers, "barrier", "--timeout", "120")
        plant(servers, rows)
        different, _seconds, _memory = verify(servers, f"{sum(PLANTED.values()):,} differences planted", rows)
        bad += ["planted"] if different != PLANTED else []
    print(f"missed: {', '.join(bad)}" if bad else "all bars are met")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
