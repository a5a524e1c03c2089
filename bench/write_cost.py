#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a durable trigger adds to an INSERT, part by part, and what a worker that drains adds to that.

usage: bench/write_cost.py [--rounds 8] [--seconds 0.5] [--connections 16]     with the environment of
tests/setup test

Starts a private database, gearmand and Redis, with the durability of a primary (--relaxed: without).
GEARSYNC_SERVER is the path of a mysqld or mariadbd in place of this machine's. The parts are measured in turn
in many short rounds, first without a worker, then with one that drains. Of statements of many rows the least
time is shown, which other work on the machine touches least; of single rows the median rate.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from peers.processes import Children, answer
from servers import Database, Pipeline, arguments, cleaned_up, collection, machine, until

TABLE: dict[str, Any] = {
    "table": "bench.customer",
    "delivery": "durable",
    "events": ["insert"],
    "columns": ["id", "name", "city", "amount"],
    "write": [
        {"type": "hash", "key": "customer:{id}"},
        {"type": "set", "key": "by-city:{city}", "member": "{id}"},
    ],
}
SHARDS = 4
ROWS = 500
STATEMENTS = 8
TRIGGER = "gearsync_ai_customer"
NONE, REAL = "no trigger", "+ the wake (the real trigger)"
PUT = (
    "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES ({}, 'bench.customer', "
    "'insert', {});"
)
#: The block of a trigger's body that wakes a worker.
WAKE = re.compile(
    r"BEGIN\s+DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;\s+IF gman_wake\(.*?END IF;\s+END;",
    re.DOTALL,
)


def parts(database: Database) -> dict[str, str]:
    """Bodies of triggers, each with one part more than the one before."""
    ((row, shard),) = database.execute("SELECT row_sql, shard_sql FROM gearsync.synced_table")
    row, shard = (text.replace("gearsync_row.", "NEW.") for text in (row, shard))
    statement = database.execute(f"SHOW CREATE TRIGGER bench.{TRIGGER}")[0][2]
    body = collection("_triggers").body_of(statement)
    without_wake, wakes = WAKE.subn("", body)
    if not wakes:
        raise SystemExit(f"the trigger has no wake: {body}")
    return {
        NONE: "",
        "a trigger that does nothing": "BEGIN DECLARE nothing INT; END",
        "+ a row in the outbox": f"BEGIN {PUT.format(0, repr('[1]'))} END",
        "+ its payload": f"BEGIN {PUT.format(0, row)} END",
        "+ its shard": f"BEGIN {PUT.format(shard, row)} END",
        "+ the handler of altered columns": without_wake,
        REAL: body,
    }


def many(database: Database) -> float:
    """Microseconds a row of a statement of many rows, its commit left out."""
    values = ", ".join(
        f"('customer name {number}', 'city {number % 50}', {number}.50)" for number in range(ROWS)
    )
    times = []
    with database.connect(autocommit=False) as connection, connection.cursor() as cursor:
        for _ in range(STATEMENTS):
            began = time.perf_counter()
            cursor.execute(f"INSERT INTO bench.customer (name, city, amount) VALUES {values}")
            times.append(time.perf_counter() - began)
        connection.commit()
    return min(times) / ROWS * 1e6


def write(database: Database, seconds: float, answers: Connection) -> None:
    number, end = 0, time.monotonic() + seconds
    with database.connect() as connection, connection.cursor() as cursor:
        while time.monotonic() < end:
            cursor.execute(
                f"INSERT INTO bench.customer (name, city, amount) VALUES ('customer name {number}', 'city "
                f"{number % 50}', 1.50)"
            )
            number += 1
    answers.send(number)


def single(database: Database, connections: int, seconds: float) -> float:
    """Commits a second of single rows."""
    children = Children()
    pipes = [children.run(write, database, seconds) for _ in range(connections)]
    total = sum(int(answer(pipe, seconds + 60)) for pipe in pipes)
    children.end()
    return total / seconds


def measure(database: Database, bodies: Mapping[str, str], worker: bool, options: argparse.Namespace) -> None:
    """Measure all bodies in turn, and print a line for each."""
    rounds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in bodies}
    for _ in range(options.rounds):
        for name, body in bodies.items():
            if worker:
                until(lambda: not database.waiting)
            database.execute(
                f"DROP TRIGGER IF EXISTS bench.{TRIGGER}",
                "TRUNCATE bench.customer",
                "DELETE FROM gearsync.outbox",
                *(
                    [f"CREATE TRIGGER bench.{TRIGGER} AFTER INSERT ON bench.customer FOR EACH ROW {body}"]
                    if body
                    else []
                ),
            )
            rounds[name].append(
                (
                    many(database),
                    single(database, 1, options.seconds),
                    single(database, options.connections, options.seconds),
                )
            )
    print(
        f"\n| {'with' if worker else 'without'} a worker | {ROWS} rows: us a row | 1 conn.: commits/s | "
        f"{options.connections} conn.: commits/s |"
    )
    print("|---|---:|---:|---:|")
    for name, measured in rounds.items():
        rows, one, all_of_them = zip(*measured)
        print(
            f"| {name} | {min(rows):.1f} | {statistics.median(one):,.0f} | "
            f"{statistics.median(all_of_them):,.0f} |",
            flush=True,
        )


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.5, help="of single rows, for each measurement")
    parser.add_argument("--connections", type=int, default=16)
    options = parser.parse_args()
    with cleaned_up():
        servers = Pipeline(durable=not options.relaxed)
        database = servers.database
        database.execute(
            "CREATE TABLE bench.customer (id INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(80), city "
            "VARCHAR(80), amount DECIMAL(10,2)) ENGINE=InnoDB"
        )
        database.declare({**TABLE, "shards": SHARDS})
        bodies = parts(database)
        print(f"{machine()}; {servers.versions}", flush=True)
        measure(database, bodies, False, options)
        servers.worker([TABLE])
        # What a worker would do with the others is not what it does with the real one.
        measure(database, {name: bodies[name] for name in (NONE, REAL)}, True, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
