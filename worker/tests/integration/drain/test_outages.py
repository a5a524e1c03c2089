# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are away, or refuse what the worker needs, for a while."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import ShopWriters, assert_equal, drained, insert, shop
from harness.worker import Worker


def test_redis_may_be_down_for_a_while(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    shop(database)
    writers = ShopWriters(database)
    writers.go_on()
    redis_server.stop()
    worker.says("action=redis_lost ")
    writers.go_on()
    redis_server.start()
    worker.says("action=redis_back")
    writers.go_on()
    writers.stop()
    assert_equal(database, redis_server)


def test_the_worker_waits_for_a_redis_without_memory(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    redis_server.client.config_set("maxmemory", 1)
    database.put(insert(1))
    worker.says("OOM")
    assert database.waiting == 1
    redis_server.client.config_set("maxmemory", 0)
    drained(database)
    assert redis_server.client.exists("item:1") == 1
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_the_worker_waits_for_missing_rights_in_redis(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    r = redis_server.client
    r.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all")
    worker = start_worker(
        {**config, "redis": {"port": redis_server.port, "username": "worker", "password": "secret"}}
    )
    for number, (missing, what) in enumerate(
        [
            ("resetkeys ~item:* ~gearsync:*", "table_held"),
            ("-zadd", "table_held"),
            ("-hset", "redis_lost "),
            ("-evalsha -eval", "table_held"),
            ("resetkeys ~item:*", "table_held"),
        ]
    ):
        over = what.replace("held", "back").replace("lost ", "back")
        name, lost, back = (
            f"name{number}",
            worker.said.count(f"action={what}"),
            worker.said.count(f"action={over}"),
        )
        r.execute_command("ACL", "SETUSER", "worker", *missing.split())
        database.put(insert(number, name))
        worker.says(f"action={what}", times=lost + 1)
        assert database.waiting == 1
        r.execute_command("ACL", "SETUSER", "worker", "~*", "+@all")
        drained(database)
        assert r.exists(f"item:{number}", f"doc:{number}", f"by-name:{name}", "by-price") == 4
        worker.says(f"action={over}", times=back + 1)
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_mysqld_may_be_killed(worker: Worker, database: OutboxDatabase, redis_server: RedisServer) -> None:
    shop(database)
    # Without a connection there is none to lose.
    database.execute("INSERT INTO shop.item VALUES (1000000, 'first', 1)")
    drained(database)
    writers = ShopWriters(database)
    writers.go_on()
    database.kill()
    worker.says("action=mysql_lost")
    database.start()
    writers.go_on()
    writers.stop()
    assert_equal(database, redis_server)
    worker.says("action=mysql_back")


def test_everything_may_come_up_in_any_order(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    database.execute("DROP DATABASE gearsync")
    redis_server.stop()
    database.kill()
    worker = start_worker(config)
    worker.says("action=mysql_lost")
    database.start()
    worker.says("the schema does not exist yet")
    assert worker.said.count("the schema does not exist yet") == 1
    database.reset()
    database.put(insert(1))
    worker.says("action=redis_lost ")
    redis_server.start()
    drained(database)
    assert redis_server.client.exists("item:1") == 1
