# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole worker, verify and resync with the Redis that Sentinel names, which is another one after a
failover.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.sentinel import Sentinel
from harness.waiting import until
from harness.worker import Worker, worker_config

TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}


@pytest.fixture
def master() -> Iterator[RedisServer]:
    """A Redis of this test alone: a failover changes what it is."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def replica(master: RedisServer) -> Iterator[RedisServer]:
    with master.replica() as server:
        yield server


@pytest.fixture
def sentinel(master: RedisServer, replica: RedisServer) -> Iterator[Sentinel]:
    with Sentinel(master) as server:
        yield server


@pytest.fixture
def synced(database: OutboxDatabase) -> OutboxDatabase:
    """The database with a table and its triggers."""
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    database.sync_table(**TABLE)
    return database


def test_worker_verify_and_resync_follow_a_failover(
    synced: OutboxDatabase,
    replica: RedisServer,
    sentinel: Sentinel,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    database, master = synced, sentinel.master
    config = worker_config(
        {"sentinels": [f"127.0.0.1:{sentinel.port}"], "sentinel_master": "shop"}, [TABLE], database.account
    )
    commands = Commands(config, tmp_path)
    start_worker(config)
    database.execute(
        "INSERT INTO shop.item SELECT seq, 'before' FROM ("
        + " UNION ALL ".join(f"SELECT {n} AS seq" for n in range(1, 301))
        + ") AS numbers"
    )
    until(lambda: database.waiting, 0)
    assert commands.verify()[0] == 0
    assert master.client.exists("item:300") == 1
    # Data that only the old one has is lost in any failover; here there is none.
    until(lambda: master.client.wait(1, 10_000), 1)

    sentinel.stop_master()
    database.execute(
        "UPDATE shop.item SET name = 'meanwhile' WHERE id <= 100", "DELETE FROM shop.item WHERE id > 250"
    )
    sentinel.fail_over(replica)
    until(lambda: database.waiting, 0)
    assert replica.client.hget("item:100", "name") == b"meanwhile"
    assert replica.client.exists("item:251") == 0
    assert commands.verify()[0] == 0

    replica.client.flushall()
    assert commands.verify()[0] == 1
    commands.done("resync")
    assert commands.verify()[0] == 0


def test_a_change_stays_in_the_outbox_until_as_many_replicas_as_are_asked_for_have_it(
    synced: OutboxDatabase, master: RedisServer, replica: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    database = synced
    worker = start_worker(
        worker_config(
            {"port": master.port, "replicas": 1, "replicas_timeout": 0.2}, [TABLE], database.account
        )
    )
    database.execute("INSERT INTO shop.item VALUES (1, 'one')")
    until(lambda: database.waiting, 0)
    assert replica.client.hget("item:1", "name") == b"one"

    replica.stop()
    database.execute("INSERT INTO shop.item VALUES (2, 'two')")
    worker.says("0 of 1 replicas had the batch after 0.2 s")
    until(lambda: master.client.hget("item:2", "name"), b"two")
    assert database.waiting == 1
    replica.start()
    until(lambda: database.waiting, 0)
    assert replica.client.hget("item:2", "name") == b"two"
