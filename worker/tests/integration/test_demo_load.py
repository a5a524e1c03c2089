# SPDX-License-Identifier: GPL-3.0-or-later
"""The load of `make demo` counts what is lost and what is stale by itself: with a worker nothing is,
without one it shows.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
from typing import Any

import pymysql
import pytest
import redis
from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase
from harness.places import ROOT
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

TABLE: dict[str, Any] = {
    "table": "shop.customer",
    "delivery": "durable",
    "columns": ["id", "name", "city", "balance"],
    "write": [
        {"type": "hash", "key": "customer:{id}"},
        {"type": "set", "key": "customer:by-city:{city}", "member": "{id}"},
        {"type": "zset", "key": "customer:by-balance", "member": "{id}", "score": "{balance}"},
    ],
}


@pytest.fixture(scope="module")
def program() -> Any:
    """molecule/demo/load.py, which is no module of a package."""
    spec = importlib.util.spec_from_file_location("demo_load", ROOT / "molecule/demo/load.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    # Its changes go from process to process by the module's name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def client(redis_server: RedisServer) -> Any:
    with redis.Redis(port=redis_server.port, decode_responses=True) as client:
        yield client


@pytest.fixture
def load(program: Any, database: OutboxDatabase, client: Any) -> Any:
    """The load, on the table and the customers of the demo, which are not in Redis yet."""
    schema = (ROOT / "molecule/schema.sql").read_text()
    (create,) = [
        statement for statement in schema.split(";\n") if "TABLE IF NOT EXISTS shop.customer" in statement
    ]
    insert = (ROOT / "molecule/demo/customers.sql").read_text().split(";")[0]
    database.execute(create, insert)
    connect = functools.partial(
        pymysql.connect, unix_socket=database.socket, user="root", charset="utf8mb4", autocommit=True
    )
    return program.Load(connect, client)


@pytest.fixture
def worker(
    database: OutboxDatabase, load: Any, redis_server: RedisServer, gearmand: Gearmand, start_worker: Any
) -> Worker:
    """A worker, and the customers in Redis."""
    database.sync_table(**TABLE)
    worker = start_worker(
        worker_config(redis_server.port, [TABLE], database.account, gearmand.address, lease=1.0)
    )
    # As a load of what was there before: each row has a change.
    database.execute("UPDATE shop.customer SET balance = balance + 1")
    until(load.compare, ([], []))
    return worker


def test_a_killed_worker_loses_nothing_and_leaves_nothing_stale(program, load, worker):
    def kill() -> None:
        worker.kill()
        worker.start()

    kills = [program.Kill(0.5, "worker", kill)]
    load.run(kills, seconds=2)
    status, lines = program.result(load, kills)
    text = "\n".join(lines)
    assert status == 0, text
    changes = {
        event: sum(change.event == event for change, _delay in load.reader.delays)
        for event in program.STATEMENTS
    }
    assert all(changes.values()), changes
    for figure, number in (
        ("changes", f"{sum(changes.values()):,}"),
        ("failed", "0"),
        ("lost", "0"),
        ("stale", "0"),
    ):
        assert [line.split()[1] for line in lines if line.startswith(figure + " ")] == [number], text


def test_changes_that_never_show_are_lost_and_what_they_leave_is_stale(program, load, worker):
    worker.kill()
    load.run([], seconds=0.5, patience=0.1)
    status, lines = program.result(load, [])
    text = "\n".join(lines)
    assert status == 1, text
    changes = program.WRITERS * round(0.5 / program.INTERVAL)
    assert sum(map(len, load.reader.waiting.values())) == changes
    missing, stale = load.compare()
    assert missing, "of inserted rows"
    assert stale, "of updated and deleted rows"
    for figure, number in (("changes", changes), ("lost", changes + len(missing)), ("stale", len(stale))):
        assert [line.split()[1] for line in lines if line.startswith(figure + " ")] == [f"{number:,}"], text


def test_each_difference_between_rows_and_redis_is_named(program, load, database, client):
    database.execute(
        "DELETE FROM shop.customer WHERE id > 3", "UPDATE shop.customer SET city = NULL WHERE id = 3"
    )
    for row, city in ((1, "Bergen"), (2, "Bergen"), (3, "")):
        ((name, balance),) = database.execute(f"SELECT name, balance FROM shop.customer WHERE id = {row}")
        client.hset(
            f"customer:{row}",
            mapping={"id": row, "name": name, "balance": str(balance), **({"city": city} if city else {})},
        )
        client.zadd("customer:by-balance", {row: float(balance)})
        if city:
            client.sadd(f"customer:by-city:{city}", row)
    database.execute("UPDATE shop.customer SET city = 'Bergen' WHERE id IN (1, 2)")
    assert load.compare() == ([], [])
    client.hset("customer:1", "balance", "-1.0000")
    client.delete("customer:2")
    client.srem("customer:by-city:Bergen", 1)
    client.sadd("customer:by-city:Lyon", 1)
    client.zadd("customer:by-balance", {"1": -1, "99": 5})
    missing, stale = load.compare()
    assert [line.split(": ")[0] for line in missing] == [
        "customer:2 balance",
        "customer:2 city",
        "customer:2 id",
        "customer:2 name",
        "customer:by-city:Bergen 1",
    ]
    assert [line.split(": ")[0] for line in stale] == [
        "customer:1 balance",
        "customer:by-balance 1",
        "customer:by-balance 99",
        "customer:by-city:Lyon 1",
    ]
    status, lines = program.result(load, [])
    assert status == 1
    assert {line.split()[0]: line.split()[1] for line in lines if line.startswith(("lost ", "stale "))} == {
        "lost": "5",
        "stale": "4",
    }


def test_a_value_that_goes_back_while_it_is_read_is_stale(program, load, client):
    reader = program.Reader(client)
    load.reader = reader
    client.hset("customer:7", "balance", "1.0000")
    reader.expect(program.Change("update", 7, 2.0, 0.0))
    reader.look()
    assert reader.waiting, "an older value is not the change"
    client.hset("customer:7", "balance", "3.0000")
    reader.look()
    assert not reader.waiting, "a later value shows it"
    assert reader.older == 0
    client.hset("customer:7", "balance", "2.0000")
    reader.look()
    assert reader.older == 1
    status, lines = program.result(load, [])
    assert status == 1
    assert any("went back while they were read: 1" in line for line in lines)
