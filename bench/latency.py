#!/usr/bin/env python3
"""From commit to visible: 500 commits a second through a durable trigger with gman_wake, gearmand running and then stopped.

usage: bench/latency.py [--seconds 10] [--rate 500]     with the environment of bench/requirements.txt

Starts a private MariaDB with the functions of udf/, a gearmand, a Redis and the worker. One connection commits an UPDATE of a row of its own at an even
rate; a second process asks Redis for the row every tenth of a millisecond until it shows the value. The time counts from the commit's return.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import redis
from servers import ROOT, Bench, bench, machine, until

TABLE = {"table": "bench.user", "columns": ["id", "name"], "write": [{"type": "hash", "key": "user:{id}"}]}
BARS = {"running": {50: 2.0, 99: 10.0}, "stopped": {99: 300.0}}
ROWS = 100
# The durable trigger in the shape that sync_table gives it.
TRIGGER = """CREATE TRIGGER bench.user_au AFTER UPDATE ON bench.user FOR EACH ROW BEGIN
  INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (0, 'bench.user', 'update',
    JSON_OBJECT('new', JSON_OBJECT('id', NEW.id, 'name', NEW.name), 'old', JSON_OBJECT('id', OLD.id)));
  BEGIN DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; DO gman_wake('gearsync.drain.main.0', '0'); END;
END"""


def prepare(servers: Bench) -> None:
    plugins = servers.home / "plugin"
    plugins.mkdir()
    subprocess.run(["make", "-s", "-C", ROOT / "udf", "all", f"BUILD_DIR={servers.home}/build"], check=True, stdout=subprocess.DEVNULL)
    for library in (servers.home / "build").glob("*.so"):
        shutil.copy(library, plugins)
    servers.start_database(f"--plugin-dir={plugins}", "--skip-networking")
    servers.start_redis()
    servers.start_gearmand()
    servers.sql(
        "USE mysql", "CREATE FUNCTION gman_wake RETURNS INTEGER SONAME 'libgearman_mysql_udf.so'",
        "CREATE FUNCTION gman_servers_set RETURNS STRING SONAME 'libgearman_mysql_udf.so'", f"SELECT gman_servers_set('127.0.0.1:{servers.gearmand_port}')",
        "CREATE TABLE bench.user (id INT PRIMARY KEY, name VARCHAR(50))", f"INSERT INTO bench.user SELECT seq, '' FROM bench.seq_1_to_{ROWS}", TRIGGER,
        "INSERT INTO gearsync.lease (shard) VALUES (0)")


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
    missed = False
    with bench() as servers:
        prepare(servers)
        print(f"{machine()}; MariaDB {servers.sql('SELECT VERSION()')[0][0]}; {options.rate} commits/s for {options.seconds:g} s", flush=True)
        servers.start_worker([TABLE], linger=0.03, sweep=0.25)
        until(lambda: servers.sql("SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL")[0][0] == 1)
        for state in ("running", "stopped"):
            if state == "stopped":
                gearmand = next(process for process in servers.processes if "gearmand" in Path(str(process.args[0])).name)  # type: ignore[index]
                gearmand.send_signal(signal.SIGTERM)
                gearmand.wait()
                time.sleep(1)
            times = measure(servers, options.seconds, options.rate, first=0 if state == "running" else 10_000_000)
            shown = {percent: times[min(len(times) - 1, len(times) * percent // 100)] for percent in (50, 90, 99, 100)}
            print(f"gearmand {state}: " + ", ".join(f"{'max' if percent == 100 else f'p{percent}'} {value:.2f} ms" for percent, value in shown.items())
                  + "; bars " + ", ".join(f"p{percent} {bar:g} ms" for percent, bar in BARS[state].items()), flush=True)
            missed = missed or any(shown[percent] > bar for percent, bar in BARS[state].items())
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
