#!/usr/bin/env python3
"""Everything on one machine: 8 writers of single-row transactions, the triggers that sync_table makes, gearmand, the worker and Redis.

usage: bench/pipeline.py [--seconds 20] [--writers 8]     with the environment of bench/requirements.txt

The same writers run without triggers first. With them the outbox is looked at every half second: the writes are sustained when the backlog does not grow.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import statistics
import sys
import time
from multiprocessing.sharedctypes import Synchronized

from servers import Bench, bench, machine, until

TABLE = {"table": "bench.account", "columns": ["id", "name", "balance"], "write": [{"type": "hash", "key": "account:{id}"}]}
ROWS = 20_000


def write(servers: Bench, seed: int, until_time: float, count: Synchronized[int]) -> None:
    chance, done = random.Random(seed), 0
    with servers.connect() as connection, connection.cursor() as cursor:
        while time.monotonic() < until_time:
            cursor.execute(f"UPDATE bench.account SET name = '{seed}-{done}', balance = balance + 1 WHERE id = {chance.randrange(1, ROWS + 1)}")
            done += 1
    count.value = done


def writes(servers: Bench, writers: int, seconds: float) -> tuple[float, list[int]]:
    """Writes per second, and the outbox's length at every half second."""
    context = multiprocessing.get_context("fork")
    end = time.monotonic() + seconds
    counts = [context.Value("q", 0) for _number in range(writers)]
    processes = [context.Process(target=write, args=(servers, number, end, counts[number]), daemon=True) for number in range(writers)]
    for process in processes:
        process.start()
    backlog = []
    while time.monotonic() < end:
        time.sleep(0.5)
        backlog.append(int(servers.sql("SELECT COUNT(*) FROM gearsync.outbox")[0][0]))
    for process in processes:
        process.join()
    return sum(count.value for count in counts) / seconds, backlog


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--writers", type=int, default=8)
    options = parser.parse_args()
    with bench() as servers:
        servers.start_pipeline()
        servers.sql("CREATE TABLE bench.account (id INT PRIMARY KEY, name VARCHAR(40), balance BIGINT NOT NULL) ENGINE=InnoDB",
                    f"INSERT INTO bench.account SELECT seq, '', 0 FROM bench.seq_1_to_{ROWS}")
        print(f"{machine()}; MariaDB {servers.sql('SELECT VERSION()')[0][0]}; {options.writers} writers, {options.seconds:g} s each", flush=True)
        bare, _backlog = writes(servers, options.writers, options.seconds)
        print(f"without triggers: {bare:,.0f} writes/s", flush=True)
        # What was written without triggers is in no outbox.
        servers.sql("UPDATE bench.account SET balance = 0")
        servers.sync_table(**TABLE)
        servers.start_worker([TABLE])
        until(lambda: servers.drained_by(4))
        synced, backlog = writes(servers, options.writers, options.seconds)
        began = time.monotonic()
        until(lambda: not servers.sql("SELECT 1 FROM gearsync.outbox LIMIT 1"), seconds=120)
        drained = time.monotonic() - began
        # The first quarter is the start.
        rest = backlog[len(backlog) // 4 :]
        half = len(rest) // 2
        early, late = statistics.median(rest[: half or 1]), statistics.median(rest[half:])
        print(f"with triggers, gearmand, worker and Redis: {synced:,.0f} writes/s, {synced / bare:.2f} of that")
        print(f"backlog after the start: median {early:,.0f} in the first half, {late:,.0f} in the second, at most {max(rest):,}; "
              f"empty {drained:.2f} s after the end")
        wrong = [row for row in servers.sql("SELECT id, name, balance FROM bench.account ORDER BY RAND() LIMIT 500")
                 if row[2] and servers.redis.hmget(f"account:{row[0]}", "name", "balance") != [row[1].encode(), str(row[2]).encode()]]
        print(f"of 500 rows looked at, {len(wrong)} differ")
        # Growing, and more than a tenth of a second behind.
        grows = late > early * 1.5 and late > synced / 10
    return 1 if wrong or grows else 0


if __name__ == "__main__":
    sys.exit(main())
