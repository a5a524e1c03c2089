# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker writes for the changes of a row."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import ITEM, drained, insert, update
from harness.worker import Worker


def test_a_row_is_written_in_every_shape_changed_and_taken_away(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    r = redis_server.client
    database.put(insert(7, "Zoë \N{GRINNING FACE}", 1.50), insert(8, "other"))
    drained(database)
    name = "Zoë \N{GRINNING FACE}".encode()
    assert r.hgetall("item:7") == {b"id": b"7", b"name": name, b"price": b"1.5"}
    assert json.loads(r.get("doc:7")) == {"id": 7, "name": name.decode(), "price": 1.5}
    assert 0 < r.ttl("doc:7") <= 3600
    assert r.smembers(b"by-name:" + name) == {b"7"}
    assert r.zrange("by-price", 0, -1, withscores=True) == [(b"8", 1.0), (b"7", 1.5)]
    assert r.mget("price:7", "cell:7:id", "cell:7:price") == [b"1.5", b"7", b"1.5"]

    old = {"id": 7, "name": "Zoë \N{GRINNING FACE}", "price": 1.5}
    database.put(("update", {"old": old, "new": {"id": 7, "name": None, "price": {"$num": "2.00"}}}))
    drained(database)
    assert r.hgetall("item:7") == {b"id": b"7", b"price": b"2.00"}
    assert r.exists(b"by-name:" + name, "cell:7:name") == 0
    assert r.get("price:7") == b"2.00"

    database.put(("delete", {"old": {"id": 7, "name": None, "price": 2}}))
    drained(database)
    assert not [key for key in r.keys("*7*") if not key.startswith(b"gearsync:")]
    assert r.zrange("by-price", 0, -1) == [b"8"]


def test_values_arrive_byte_for_byte(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    binary = bytes(range(256))
    database.put(
        (
            "insert",
            {"new": {"id": 18446744073709551615, "name": {"$hex": binary.hex()}, "price": {"$num": "-0.10"}}},
        ),
        (
            "insert",
            '{"new": {"id": 2, "name": "a\\u0000\\"\\\\", "price": 123456789012345678901234567890.10}}',
        ),
    )
    drained(database)
    assert redis_server.client.hgetall("item:18446744073709551615") == {
        b"id": b"18446744073709551615",
        b"name": binary,
        b"price": b"-0.10",
    }
    assert redis_server.client.smembers(b"by-name:" + binary) == {b"18446744073709551615"}
    assert redis_server.client.hgetall("item:2") == {
        b"id": b"2",
        b"name": b'a\0"\\',
        b"price": b"123456789012345678901234567890.10",
    }


def test_large_values_are_drained_a_few_at_a_time(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    for number in range(6):
        database.put(("insert", {"new": {"id": number, "name": str(number) * 5_000_000, "price": None}}))
    drained(database)
    assert [redis_server.client.strlen(f"cell:{number}:name") for number in range(6)] == [5_000_000] * 6


def test_of_many_changes_the_last_one_shows(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(insert(1, "n0"), *[update(1, f"n{number}", f"n{number + 1}") for number in range(2999)])
    drained(database)
    assert redis_server.client.hget("item:1", "name") == b"n2999"
    assert redis_server.client.keys("by-name:*") == [b"by-name:n2999"]


def test_what_waits_of_a_table_that_was_durable_before_is_applied(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    database.put(insert(1, "a"), insert(2, "b"))
    start_worker({**config, "tables": [{**ITEM, "delivery": "direct"}]})
    drained(database)
    # Its triggers write on until they are replaced.
    database.put(update(1, "a", "c"))
    drained(database)
    assert redis_server.client.hmget("item:1", "name") + redis_server.client.hmget("item:2", "name") == [
        b"c",
        b"b",
    ]
    assert redis_server.client.smembers("by-name:c") == {b"1"}


def test_without_drainers_nothing_is_applied(
    config: dict[str, Any], start_worker: Callable[..., Worker], database: OutboxDatabase
) -> None:
    database.put(insert(1))
    worker = start_worker({**config, "worker": {**config["worker"], "drainers": 0}})
    worker.says("action=started")
    # The only process is the one that takes jobs.
    assert len(worker.children) == 1
    assert database.waiting == 1
    assert not database.execute("SELECT owner FROM gearsync.worker")
