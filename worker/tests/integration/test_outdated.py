# SPDX-License-Identifier: GPL-3.0-or-later
"""Outdated workers: with an older declaration, without a table, or without a connection to Redis, beside
one that is not.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, unused_port, worker_config

OLD: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}
NEW: dict[str, Any] = {**OLD, "columns": ["id", "name", "city"]}
CODED: dict[str, Any] = {**OLD, "transform": "ours:upper", "computed": ["upper"]}


@pytest.fixture
def config(database: OutboxDatabase, redis_server: RedisServer, tmp_path: pathlib.Path) -> dict[str, Any]:
    database.execute(
        "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40), city VARCHAR(40)) ENGINE=InnoDB"
    )
    database.sync_table(**OLD)
    (tmp_path / "ours.py").write_text(
        "def upper(row, table):\n    return {**row, 'upper': row['name'].upper() + '!'}\n"
    )
    settings = worker_config(redis_server.port, [OLD], database.account)
    return {**settings, "worker": {**settings["worker"], "python_path": str(tmp_path)}}


def add(database: OutboxDatabase, first: int, last: int) -> None:
    database.execute(
        "INSERT INTO shop.item VALUES "
        f"{', '.join(f'({number}, {number}, {number})' for number in range(first, last))}"
    )


def has(redis_server: RedisServer, column: str, first: int, last: int, expected: str = "{}") -> None:
    until(
        lambda: [redis_server.client.hget(f"item:{number}", column) for number in range(first, last)],
        [expected.format(number).encode() for number in range(first, last)],
    )


def test_changes_under_a_later_transform_wait_for_a_worker_that_has_it(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    worker = start_worker({**config, "tables": [OLD]})
    add(database, 0, 20)
    until(lambda: database.waiting, 0)
    database.sync_table(**CODED)
    add(database, 20, 40)
    worker.says("action=outdated_table")
    assert database.waiting == 20
    assert redis_server.client.exists("item:20") == 0
    # Alone it keeps its shards, and applies what it can.
    assert "action=stands_aside" not in worker.said
    newer = start_worker({**config, "tables": [CODED]})
    worker.says("action=stands_aside")
    until(lambda: database.waiting, 0)
    has(redis_server, "upper", 20, 40, "{}!")
    add(database, 40, 60)
    has(redis_server, "upper", 40, 60, "{}!")
    newer.kill()
    database.expire_leases()
    worker.says("action=takes_part")
    # The declaration that it has is the newest one again.
    database.sync_table(**OLD)
    add(database, 60, 80)
    until(lambda: database.waiting, 0)
    assert redis_server.client.hgetall("item:60") == {b"id": b"60", b"name": b"60"}
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_a_worker_with_a_newer_declaration_than_the_triggers_drains(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    start_worker({**config, "tables": [NEW]})
    add(database, 0, 20)
    until(lambda: database.waiting, 0)
    database.sync_table(**NEW)
    add(database, 20, 40)
    until(lambda: database.waiting, 0)
    has(redis_server, "city", 20, 40)


def test_of_workers_that_are_all_outdated_one_drains(
    config: dict[str, Any], start_worker: Callable[..., Worker], database: OutboxDatabase
) -> None:
    database.execute("CREATE TABLE shop.other (id INT PRIMARY KEY) ENGINE=InnoDB")
    other = {
        **OLD,
        "table": "shop.other",
        "columns": ["id"],
        "write": [{"type": "hash", "key": "other:{id}"}],
    }
    database.sync_table(**other)
    workers = [start_worker({**config, "tables": [OLD, other]}) for _ in range(2)]
    database.sync_table(**CODED)
    add(database, 0, 20)
    until(lambda: sum("action=stands_aside" in worker.said for worker in workers), 1)
    for number in range(20):
        database.execute(f"INSERT INTO shop.other VALUES ({number})")
    until(
        lambda: database.execute("SELECT COUNT(*) FROM gearsync.outbox WHERE table_name = 'shop.other'"),
        [(0,)],
    )
    assert database.waiting == 20


def test_a_worker_applies_what_only_the_database_declares(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    start_worker({**config, "tables": [{**OLD, "table": "shop.nothing"}]})
    add(database, 0, 20)
    has(redis_server, "name", 0, 20)
    # Later columns, too.
    database.sync_table(**NEW)
    add(database, 20, 40)
    has(redis_server, "city", 20, 40)
    until(lambda: database.waiting, 0)


def test_a_table_with_a_transform_waits_for_a_worker_that_declares_it(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    worker = start_worker({**config, "tables": [{**OLD, "table": "shop.nothing"}]})
    database.sync_table(**CODED)
    add(database, 0, 20)
    worker.says("action=undeclared_table")
    start_worker({**config, "tables": [CODED]})
    has(redis_server, "upper", 0, 20, "{}!")
    worker.says("action=stands_aside")


def test_a_worker_that_does_not_reach_redis_leaves_the_shards_to_one_that_does(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    # Redis counts as unreachable after a lease.
    worker = start_worker(
        {**config, "redis": {"port": unused_port()}, "worker": {**config["worker"], "lease": 1.0}}
    )
    add(database, 0, 20)
    worker.says("action=redis_lost")
    start_worker(config)
    until(lambda: database.waiting, 0)
    worker.says("is unreachable")
    add(database, 20, 40)
    until(lambda: database.waiting, 0)
