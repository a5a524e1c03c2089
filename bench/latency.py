#!/usr/bin/env python3
"""From commit to visible: 500 commits a second through the triggers that sync_table makes, gearmand running and then stopped; and 4 a second in both states.

usage: bench/latency.py [--seconds 10] [--rate 500]     with the environment of bench/requirements.txt

Starts a private MariaDB with the functions of udf/, a gearmand, a Redis and the worker. One connection commits an UPDATE of a row of its own at an even
rate; a second process asks Redis for the row every tenth of a millisecond until it shows the value. The time counts from the commit's return.
At 4 a second the worker's linger is over before each commit, so that it is the wake, or without gearmand the sweep, that is measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import sys
import time
from pathlib import Path
from typing import Any

import redis
from servers import Bench, bench, machine, until

TABLE = {"table": "bench.user", "columns": ["id", "name"], "write": [{"type": "hash", "key": "user:{id}"}]}
BARS = {"running": {50: 2.0, 99: 10.0}, "stopped": {99: 300.0}}
ROWS = 100
SLOW_RATE = 4


def watch(port: int, questions: Any, answers: Any) -> None:
    """Ask for each value until it, or a later one of its row, is there; answer with the time at which it was."""
    client = redis.Redis(port=port)
    for key, number in iter(questions.recv, None):
        while int(client.hget(key, "name") or -1) < number:
            time.sleep(0.0001)
        answers.send(time.perf_counter())


def measure(servers: Bench, seconds: float, rate: int, first: int) -> list[float]:
    """Milliseconds from each commit to its visibility, sorted."""
    context = multiprocessing.get_context("fork")
    theirs, questions = context.Pipe(duplex=False)
    answers, back = context.Pipe(duplex=False)
    watcher = context.Process(target=watch, args=(servers.redis_port, theirs, back), daemon=True)
    watcher.start()
    commits: list[float] = []
    found: list[float] = []
    with servers.connect() as connection, connection.cursor() as cursor:
        begin = time.perf_counter()
        for number in range(int(seconds * rate)):
            time.sleep(max(0.0, begin + number / rate - time.perf_counter()))
            row = number % ROWS + 1
            cursor.execute(f"UPDATE bench.user SET name = '{first + number}' WHERE id = {row}")
            commits.append(time.perf_counter())
            questions.send((f"user:{row}", first + number))
            while answers.poll():
                found.append(answers.recv())
        while len(found) < len(commits):
            found.append(answers.recv())
    questions.send(None)
    watcher.join()
    # The clock is the machine's: the same in both processes. What shows before the commit has returned took no time.
    return sorted(max(0.0, (seen - committed) * 1000) for seen, committed in zip(found, commits))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=500)
    options = parser.parse_args()
    missed, first = False, 0
    with bench() as servers:
        servers.start_pipeline()
        servers.sql("CREATE TABLE bench.user (id INT PRIMARY KEY, name VARCHAR(50)) ENGINE=InnoDB",
                    f"INSERT INTO bench.user SELECT seq, '' FROM bench.seq_1_to_{ROWS}")
        servers.sync_table(**TABLE)
        print(f"{machine()}; MariaDB {servers.sql('SELECT VERSION()')[0][0]}; {options.seconds:g} s each", flush=True)
        servers.start_worker([TABLE])
        until(lambda: servers.drained_by(4))
        for state, bars in BARS.items():
            if state == "stopped":
                gearmand = next(process for process in servers.processes if "gearmand" in Path(str(process.args[0])).name)  # type: ignore[index]  # a list, as servers.py starts it
                gearmand.send_signal(signal.SIGTERM)
                gearmand.wait()
                time.sleep(1)
            for rate in (options.rate, SLOW_RATE):
                times = measure(servers, options.seconds, rate, first)
                first += len(times)
                shown = {percent: times[min(len(times) - 1, len(times) * percent // 100)] for percent in (50, 90, 99, 100)}
                figures = ", ".join(f"{'max' if percent == 100 else f'p{percent}'} {value:.2f} ms" for percent, value in shown.items())
                wanted = ", ".join(f"p{percent} {bar:g} ms" for percent, bar in bars.items())
                print(f"gearmand {state}, {rate} commits/s: {figures}; bars {wanted}", flush=True)
                missed = missed or any(shown[percent] > bar for percent, bar in bars.items())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
