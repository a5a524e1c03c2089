#!/usr/bin/env python3
"""How fast one worker process drains the outbox, beside a plain loop that does no more than move rows, and beside python-mysql-replication.

usage: bench/drain.py [--rows 200000] [--rounds 3] [--batch 2000]     with the environment of bench/requirements.txt

Starts a private MariaDB (ROW binlog) and a private Redis. Each round runs, in turn: the plain trial (PyMySQL SELECT, redis-py pipeline of HSET,
DELETE), the worker as `gearsync run` starts it, and a loop of python-mysql-replication to the same Redis, over a log of transactions of 1,000 rows and
over one of single-row transactions. A table of three columns becomes a hash; every run must leave the same number of keys. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import msgspec
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.row_event import WriteRowsEvent
from servers import Bench, bench, free_port, machine, until

TABLE = {"table": "bench.user", "columns": ["id", "name", "password"], "write": [{"type": "hash", "key": "user:{id}"}]}
BARS = {"plain": 0.7, "multi": 1.3, "single": 6.0}
PLAIN_BATCH = 2000
VALUES = "CONCAT('name', seq), MD5(seq)"


def fill_outbox(servers: Bench, rows: int) -> None:
    servers.redis.flushall()
    servers.sql(
        "SET SESSION sql_log_bin = 0", "TRUNCATE gearsync.outbox", "USE bench",
        "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) SELECT 0, 'bench.user', 'insert', JSON_OBJECT('new', JSON_OBJECT('id', seq,"
        f" 'name', CONCAT('name', seq), 'password', MD5(seq))) FROM seq_1_to_{rows}")


def users(servers: Bench) -> int:
    return sum(1 for _ in servers.redis.scan_iter("user:*", count=10_000))


def checked(servers: Bench, rows: int, seconds: float) -> float:
    """Rows a second, when all of them are there."""
    found = users(servers)
    if found != rows:
        raise SystemExit(f"{found} keys in place of {rows}")
    return rows / seconds


def plain(servers: Bench, rows: int) -> float:
    """What any drain has to do, without order, lease, fence, types or errors."""
    fill_outbox(servers, rows)
    with servers.connect() as connection, connection.cursor() as cursor:
        start = time.perf_counter()
        while True:
            cursor.execute(f"SELECT id, payload FROM gearsync.outbox WHERE shard = 0 ORDER BY id LIMIT {PLAIN_BATCH}")
            found = cursor.fetchall()
            if not found:
                break
            pipeline = servers.redis.pipeline(transaction=False)
            for _number, payload in found:
                row = msgspec.json.decode(payload)["new"]
                pipeline.hset(f"user:{row['id']}", mapping=row)
            pipeline.execute()
            cursor.execute(f"DELETE FROM gearsync.outbox WHERE shard = 0 AND id BETWEEN {found[0][0]} AND {found[-1][0]}")
        return checked(servers, rows, time.perf_counter() - start)


def worker(servers: Bench, rows: int, batch: int) -> float:
    """One drainer of a worker as it is installed; from its first batch on, so without the start of Python."""
    fill_outbox(servers, rows)
    process = servers.start_worker([TABLE], batch=batch)
    with servers.connect() as connection, connection.cursor() as cursor:
        def waiting() -> bool:
            cursor.execute("SELECT 1 FROM gearsync.outbox LIMIT 1")
            return bool(cursor.fetchall())

        until(lambda: servers.redis.dbsize() > 1)
        start, done = time.perf_counter(), servers.redis.dbsize() - 1
        while waiting():
            time.sleep(0.01)
        seconds = time.perf_counter() - start
    servers.stop(process)
    return checked(servers, rows, seconds * rows / (rows - done))


def write_log(servers: Bench, rows: int, a_transaction: int) -> dict[str, Any]:
    """Insert rows in transactions of so many; where the log of it begins."""
    servers.sql("TRUNCATE bench.user")
    begin = servers.sql("SHOW MASTER STATUS")[0]
    with servers.connect() as connection, connection.cursor() as cursor:
        cursor.execute("USE bench")
        for first in range(1, rows + 1, a_transaction):
            last = min(first + a_transaction - 1, rows)
            cursor.execute(f"INSERT INTO user SELECT seq, {VALUES} FROM seq_{first}_to_{last}")
    return {"log_file": begin[0], "log_pos": int(begin[1])}


def replication(servers: Bench, rows: int, place: dict[str, Any]) -> float:
    """python-mysql-replication to a pipeline, as its users write it."""
    servers.redis.flushall()
    start = time.perf_counter()
    stream = BinLogStreamReader(
        connection_settings={"unix_socket": servers.socket, "user": "root", "host": "localhost", "passwd": ""}, server_id=4711,
        only_events=[WriteRowsEvent], only_schemas=["bench"], blocking=False, resume_stream=True, **place)
    pipeline, count = servers.redis.pipeline(transaction=False), 0
    for event in stream:
        for row in event.rows:
            values = row["values"]
            pipeline.hset(f"user:{values['id']}", mapping=values)
            count += 1
            if count % PLAIN_BATCH == 0:
                pipeline.execute()
    pipeline.execute()
    stream.close()
    return checked(servers, rows, time.perf_counter() - start)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=PLAIN_BATCH, help="the worker's batch (default: that of the plain trial, %(default)s)")
    options = parser.parse_args()
    single_rows = max(1, options.rows // 5)
    rates: dict[str, list[float]] = {"plain": [], "worker": [], "multi": [], "single": []}
    with bench() as servers:
        servers.start_database("--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-metadata=FULL", "--server-id=1", f"--port={free_port()}",
                               "--bind-address=127.0.0.1", "--innodb-flush-log-at-trx-commit=2", "--sync-binlog=0")
        servers.start_redis()
        servers.sql("CREATE TABLE bench.user (id INT PRIMARY KEY, name VARCHAR(50), password VARCHAR(50))")
        print(f"{machine()}; MariaDB {servers.sql('SELECT VERSION()')[0][0]}, Redis {servers.redis.info('server')['redis_version']}; {options.rows} rows")
        for number in range(options.rounds):
            rates["plain"].append(plain(servers, options.rows))
            rates["worker"].append(worker(servers, options.rows, options.batch))
            rates["multi"].append(replication(servers, options.rows, write_log(servers, options.rows, 1000)))
            rates["single"].append(replication(servers, single_rows, write_log(servers, single_rows, 1)))
            print(f"  round {number + 1}: " + ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items()), flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    peer = "python-mysql-replication"
    names = {"plain": "the plain trial", "multi": f"{peer}, 1,000 rows a transaction", "single": f"{peer}, one row a transaction"}
    print(f"rows/s: worker {medians['worker']:,.0f}")
    missed = False
    for name, words in names.items():
        ratio = medians["worker"] / medians[name]
        missed = missed or ratio < BARS[name]
        print(f"  {words} {medians[name]:,.0f}; worker / it = {ratio:.2f} (bar {BARS[name]})")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
