# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that cannot be applied become dead letters or wait, and delay no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import ITEM, drained, insert
from harness.waiting import until
from harness.worker import Worker


def test_changes_that_cannot_be_applied_are_dead_letters_and_hold_up_no_other(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    wrong: list[tuple[str, Any, str]] = [
        ("insert", "no JSON", "invalid payload"),
        ("insert", "", "invalid payload"),
        ("insert", "{}", "without 'new'"),
        ("drop", "{}", "'drop'"),
        ("delete", {"old": {"name": "x"}}, "'id'"),
        ("insert", {"new": {"id": [1]}}, "'id'"),
        ("reload", {"key": {"id": 1}}, "synced_table"),
    ]
    # Each beside changes that can be applied, in one batch and in another one.
    for number, (operation, payload, _message) in enumerate(wrong):
        database.put(insert(2 * number), (operation, payload), insert(2 * number + 1))
    drained(database)
    assert redis_server.client.exists(*[f"item:{number}" for number in range(2 * len(wrong))]) == 2 * len(
        wrong
    )
    letters = database.execute(
        "SELECT operation, payload, table_name, error FROM gearsync.dead_letter ORDER BY id"
    )
    assert [letter[:3] for letter in letters] == [
        (operation, payload if isinstance(payload, str) else json.dumps(payload), "shop.item")
        for operation, payload, _message in wrong
    ]
    for (_operation, _payload, message), (*_change, error) in zip(wrong, letters):
        assert message in error
    worker.says("action=dead_letter")


def test_a_key_of_another_type_makes_a_dead_letter_of_its_own_change_only(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    redis_server.client.set("item:1", "not a hash")
    database.put(insert(0), insert(1), insert(2))
    drained(database)
    assert redis_server.client.get("item:1") == b"not a hash"
    assert redis_server.client.exists("item:0", "item:2") == 2
    ((number, error),) = database.execute("SELECT id, error FROM gearsync.dead_letter")
    assert number == 2
    assert "WRONGTYPE" in error


def test_of_shards_that_are_written_together_each_has_what_is_its_own(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    """A change that Redis refuses affects no other change, whatever its shard, and nothing is appended
    twice.
    """
    trail = {
        "table": "shop.trail",
        "delivery": "durable",
        "columns": ["id"],
        "write": [{"type": "list", "key": "trail", "value": "{id}"}],
    }
    redis_server.client.set("item:7", "another application's")
    for shard in (7, 8):
        database.put(insert(shard), shard=shard)
        database.put(insert(shard + 100), shard=shard, table="shop.trail")
    start_worker({**config, "tables": [*config["tables"], trail]})
    drained(database)
    ((shard, table, error),) = database.execute("SELECT shard, table_name, error FROM gearsync.dead_letter")
    assert (shard, table) == (7, "shop.item")
    assert "WRONGTYPE" in str(error)
    assert redis_server.client.hget("item:8", "name") == b"x"
    assert sorted(redis_server.client.lrange("trail", 0, -1)) == [b"107", b"108"]


def test_a_column_that_an_older_trigger_did_not_send_is_left_out(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(insert(1, "kept", 5))
    drained(database)
    database.put(("update", {"new": {"id": 1, "price": 6}, "old": {"id": 1, "name": "kept", "price": 5}}))
    drained(database)
    # The hash and the sorted set have all that they need; the set's key cannot be rendered, and only that
    # write is left out.
    r = redis_server.client
    assert r.hgetall("item:1") == {b"id": b"1", b"name": b"kept", b"price": b"6"}
    assert (r.zscore("by-price", "1"), r.get("price:1"), r.smembers("by-name:kept")) == (6.0, b"6", {b"1"})
    # A change that no write can use is not a change of that table.
    database.put(("update", {"new": {"other": 1}, "old": {"other": 2}}))
    drained(database)
    ((error,),) = database.execute("SELECT error FROM gearsync.dead_letter")
    assert "is missing" in error


def test_a_table_that_the_worker_does_not_know_waits_and_delays_no_other(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    worker = start_worker({**config, "worker": {**config["worker"], "batch": 10}})
    database.put(*[insert(number) for number in range(30)], table="shop.later")
    database.put(*[insert(number) for number in range(30)])
    until(lambda: database.waiting, 30)
    assert redis_server.client.exists(*[f"item:{number}" for number in range(30)]) == 30
    worker.says("action=undeclared_table")
    assert worker.terminate() == 0
    start_worker(
        {
            **config,
            "tables": [
                ITEM,
                {"table": "shop.later", "columns": ["id"], "write": [{"type": "hash", "key": "later:{id}"}]},
            ],
        }
    )
    drained(database)
    assert redis_server.client.exists(*[f"later:{number}" for number in range(30)]) == 30
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []
