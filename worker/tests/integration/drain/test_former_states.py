# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that come back with a former state, or without their data; and the schema of the first release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness.outbox_database import OutboxDatabase, collection
from harness.redis_server import RedisServer
from harness.shop import drained, insert, update
from harness.waiting import until
from harness.worker import Worker


def test_a_schema_of_the_first_release_is_drained_before_and_after_its_migration(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(insert(1))
    drained(database)
    database.execute(
        "ALTER TABLE gearsync.outbox DROP PRIMARY KEY, ADD PRIMARY KEY (shard, id), ADD KEY id (id)"
    )
    for number in range(2, 5):
        database.put(*[insert(10 * number + row) for row in range(5)], shard=number)
    database.put(update(1, "x", "y"))
    drained(database)
    database.execute(*collection("_migrations").MIGRATIONS[4])
    database.put(update(1, "y", "z"), insert(2))
    drained(database)
    assert redis_server.client.hget("item:1", "name") == b"z"
    assert (
        redis_server.client.exists(
            "item:2", *[f"item:{10 * number + row}" for number in range(2, 5) for row in range(5)]
        )
        == 16
    )
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_a_redis_that_has_lost_its_data_is_reported(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(insert(1))
    drained(database)
    redis_server.client.flushall()
    database.put(insert(2))
    drained(database)
    worker.says("action=redis_lost_data")
    assert redis_server.client.exists("item:2") == 1


def test_a_restored_database_with_an_older_epoch_is_drained(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    redis_server.client.hset("gearsync:main:fence:0", "epoch", 1000)
    database.put(insert(1))
    drained(database)
    worker.says("action=epoch_raised")
    assert redis_server.client.hget("gearsync:main:fence:0", "epoch") == b"1001"
    assert database.execute("SELECT epoch FROM gearsync.lease WHERE shard = 0") == [(1001,)]
    assert redis_server.client.exists("item:1") == 1


@pytest.mark.parametrize("way", ["made anew", "a backup is restored"])
def test_reused_ids_are_other_changes(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
    way: str,
) -> None:
    r = redis_server.client
    config["worker"]["keep"] = 3600.0
    worker = start_worker(config)
    database.put(*[insert(number) for number in range(1, 4)], table="shop.log")
    until(lambda: r.llen("log"), 3)
    # The fence records them as applied, since they are still in the outbox.
    worker.kill()
    database.expire_leases()
    if way == "made anew":
        database.reset()
    else:
        # The backup is of the time when only the first one existed.
        database.execute(
            "DELETE FROM gearsync.outbox WHERE id > 1", "ALTER TABLE gearsync.outbox AUTO_INCREMENT = 2"
        )
    database.put(*[insert(number) for number in range(11, 14)], table="shop.log")
    assert {number for (number,) in database.execute("SELECT id FROM gearsync.outbox")} >= {2, 3}
    start_worker(config)
    until(lambda: r.xlen("changes"), 6)
    assert r.lrange("log", 0, -1) == [b"%d" % number for number in (1, 2, 3, 11, 12, 13)]
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []
