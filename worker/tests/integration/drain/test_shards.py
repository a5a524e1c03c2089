# SPDX-License-Identifier: GPL-3.0-or-later
"""Shards: who drains them, and the order when their number changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import assert_equal, shop
from harness.waiting import until
from harness.worker import Worker


def test_processes_share_the_shards_and_give_them_back(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    def owners() -> list[int]:
        return sorted(
            number
            for (number,) in database.execute(
                "SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL GROUP BY owner"
            )
        )

    shop(database, shards=8)
    # Short, since the leases of the killed process must expire.
    config["worker"]["lease"] = 3.0
    first = start_worker({**config, "worker": {**config["worker"], "drainers": 2}})
    until(owners, [4, 4])
    second = start_worker(config)
    database.execute(*[f"INSERT INTO shop.item VALUES ({number}, 'x', 1)" for number in range(100)])
    # Shards are released after a batch.
    until(lambda: [database.execute("UPDATE shop.item SET price = price + 1"), owners()][1], [2, 3, 3])
    second.kill()
    until(owners, [4, 4])
    assert first.terminate() == 0
    assert database.execute("SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL") == [(0,)]
    until(lambda: database.execute("SELECT COUNT(*) FROM gearsync.worker WHERE expires_at > NOW(6)"), [(0,)])
    second.start()
    assert_equal(database, redis_server)


def test_another_number_of_shards_keeps_the_order(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    """Changes in the shards of the former generation come first, whichever process drains them and when."""
    shop(database, shards=4)
    database.execute(
        "INSERT INTO shop.item VALUES (1, 'first', 1), (2, 'first', 1)",
        "UPDATE shop.item SET name = 'second'",
    )
    shop(database, shards=2)
    database.execute("UPDATE shop.item SET name = 'third'", "DELETE FROM shop.item WHERE id = 2")
    shop(database, shards=4)
    database.execute("UPDATE shop.item SET name = 'fourth'", "INSERT INTO shop.item VALUES (2, 'again', 1)")
    # Another process holds the shards of generation 2: nothing is applied before it releases them.
    database.execute(
        "REPLACE INTO gearsync.lease (shard, owner, epoch, expires_at) SELECT DISTINCT shard, 'another', 5, "
        "NOW() + INTERVAL 60 SECOND"
        " FROM gearsync.outbox WHERE shard < 6"
    )
    waiting = database.waiting
    worker = start_worker(config)
    worker.says("action=lease_taken", times=4)
    database.execute("UPDATE shop.item SET name = 'fifth' WHERE id = 1")
    time.sleep(0.5)
    assert database.waiting == waiting + 1
    assert not redis_server.client.exists("item:1")
    database.execute("UPDATE gearsync.lease SET expires_at = NOW() WHERE owner = 'another'")
    assert_equal(database, redis_server)
