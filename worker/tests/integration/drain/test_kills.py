# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker that is killed, and transactions that are rolled back: nothing is lost, invented or repeated."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import ShopWriters, assert_equal, drained, shop
from harness.waiting import until
from harness.worker import Worker
from harness.writers import Writers


def test_a_rolled_back_change_is_never_applied(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    shop(database)
    writers = ShopWriters(database, rollback=0.5, transactions=100, pause=0.0)
    writers.join()
    assert writers.done == 400
    assert_equal(database, redis_server)


def test_kill_9_of_the_worker_loses_and_invents_nothing(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    shop(database)
    worker = start_worker({**config, "worker": {**config["worker"], "batch": 100, "lease": 5.0}})
    writers = ShopWriters(database, pause=0.02)
    taken = 0
    for _ in range(int(os.environ.get("GEARSYNC_TEST_KILLS", "8"))):
        # It drains again once it has the leases of the killed one.
        worker.says("action=lease_taken", times=taken + 1)
        # At any time of its work.
        time.sleep(random.uniform(0.0, 0.3))
        worker.kill()
        taken = worker.said.count("action=lease_taken")
        database.expire_leases()
        worker.start()
    writers.stop()
    assert_equal(database, redis_server)


def test_lists_and_streams_are_appended_once_over_a_crash_between_redis_and_mysql(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    r = redis_server.client
    put = [("insert", {"new": {"id": number, "name": f"n{number}"}}) for number in range(50)]
    database.put(*put[:20], table="shop.log")
    drained(database)
    assert r.llen("log") == 20
    for number in (1, 2):
        with database.connect(autocommit=False) as blocker, blocker.cursor() as cursor:
            # The deletion waits for the rows; what is applied meanwhile stays.
            worker.pause()
            database.put(*put[10 * number + 10 : 10 * number + 20], table="shop.log")
            cursor.execute("SELECT * FROM gearsync.outbox FOR UPDATE")
            worker.resume()
            until(lambda: r.llen("log"), 9 * number + 21)  # one was deleted in each earlier round
            worker.kill()
        database.put(("delete", {"old": {"id": number, "name": f"n{number}"}}), table="shop.log")
        database.expire_leases()
        worker.start()
        drained(database)
    assert r.lrange("log", 0, -1) == [str(number).encode() for number in range(40) if number not in (1, 2)]
    assert r.lrange("names", 0, -1) == [f"n{number}".encode() for number in range(40) if number not in (1, 2)]
    assert [fields[b"event"] for _, fields in r.xrange("changes")].count(b"insert") == 40
    assert [fields[b"event"] for _, fields in r.xrange("changes")].count(b"delete") == 2
    # The fence does not grow.
    database.put(*put[40:41], table="shop.log")
    drained(database)
    database.put(*put[41:42], table="shop.log")
    drained(database)
    until(lambda: set(r.hkeys("gearsync:main:fence:0")), {b"epoch", b"number", b"created"})


def test_shards_that_are_written_together_are_appended_to_once_however_often_the_worker_is_killed(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    """Few changes in each shard all the time: most of a worker's life is in their transaction, between
    Redis and the commit for much of it.
    """
    shards = range(6, 10)
    lists = {
        "table": "shop.log",
        "columns": ["shard", "id"],
        "write": [{"type": "list", "key": "list:{shard}", "value": "{id}"}],
    }
    worker = start_worker({**config, "tables": [lists]})

    def write(_cursor: Any, _writer: int, number: int) -> None:
        for shard in shards:
            database.put(("insert", {"new": {"shard": shard, "id": number}}), shard=shard, table="shop.log")

    with Writers(database, 1, write) as writers:
        for _ in range(6):
            length = redis_server.client.llen("list:6")
            until(lambda before=length: redis_server.client.llen("list:6") > before + 5)
            # At any time of its work.
            time.sleep(random.uniform(0.0, 0.2))
            worker.kill()
            database.expire_leases()
            worker.start()
    assert writers.errors == []
    drained(database)
    written = [str(number).encode() for number in range(writers.counts[0])]
    for shard in shards:
        assert redis_server.client.lrange(f"list:{shard}", 0, -1) == written
