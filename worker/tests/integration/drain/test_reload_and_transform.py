# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes for which the worker reads the row itself, and rows that a transform changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import drained, insert, update
from harness.worker import Worker


def synced(database: OutboxDatabase) -> None:
    """A table that reloads can read, with the SQL that sync_table stores for such a table."""
    database.execute(
        "CREATE TABLE shop.item (id BIGINT UNSIGNED PRIMARY KEY, name LONGTEXT, price DECIMAL(10,2)) "
        "CHARACTER SET utf8mb4",
        "INSERT INTO gearsync.synced_table (table_name, source_schema, source_table, shards, key_columns, "
        "small_sql, large_columns, shard_sql, row_sql, old_sql, large_sql, triggers) VALUES"
        """ ('shop.item', 'shop', 'item', 1, '[{"declared": "id", "real": "id", "kind": "integer"}]',"""
        """ 'JSON_OBJECT(''id'', gearsync_row.`id`, ''price'', gearsync_row.`price`)',"""
        """ '[{"declared": "name", "kind": "text", "sql": "CONVERT(gearsync_row.`name` USING utf8mb4)"}]',"""
        " '', '', '', '', '{}')",
    )


def test_a_reload_writes_the_row_as_it_is_or_removes_it(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    synced(database)
    r = redis_server.client
    database.put(insert(1, "old"), insert(2, "gone"))
    drained(database)
    database.execute("INSERT INTO shop.item VALUES (1, REPEAT('new', 100000), 2.50)")
    database.put(
        *[
            ("reload", {"key": {"id": number}, "old": {"id": number, "name": name, "price": 1}})
            for number, name in ((1, "old"), (2, "gone"))
        ]
    )
    drained(database)
    assert r.hgetall("item:1") == {b"id": b"1", b"name": b"new" * 100000, b"price": b"2.50"}
    assert r.exists("by-name:old", "item:2", "by-name:gone", "doc:2") == 0
    assert r.zrange("by-price", 0, -1) == [b"1"]


def test_after_a_reload_no_earlier_state_shows(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    # The reload reads the row's last state while earlier changes wait after the end of the batch.
    synced(database)
    database.execute("INSERT INTO shop.item VALUES (1, 'n40', 1)")
    database.put(
        ("reload", {"key": {"id": 1}}), *[update(1, f"n{number}", f"n{number + 1}") for number in range(40)]
    )
    pubsub = redis_server.client.pubsub()
    redis_server.client.config_set("notify-keyspace-events", "Kh")
    pubsub.psubscribe("__keyspace@0__:item:1")
    start_worker({**config, "worker": {**config["worker"], "batch": 5}})
    drained(database)
    redis_server.client.publish("__keyspace@0__:item:1", "the end")
    seen = set()
    while b"the end" not in seen:
        message = pubsub.get_message(timeout=180)
        assert message is not None
        seen |= {message["data"]} if message["type"] == "pmessage" else set()
    pubsub.close()
    assert seen == {b"hset", b"the end"}
    assert redis_server.client.hget("item:1", "name") == b"n40"
    # One batch: the hash was written once.
    assert redis_server.client.keys("by-name:*") == [b"by-name:n40"]


def test_a_transform_adds_columns_leaves_rows_out_and_its_errors_are_dead_letters(
    shouting: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    r = redis_server.client
    worker = start_worker(shouting)
    database.put(
        insert(1, "one"),
        insert(2, "secret"),
        insert(3, "bad"),
        insert(4, "four"),
        insert(5, "exit"),
        insert(6, "half"),
    )
    drained(database)
    assert r.hgetall("item:1") == {b"id": b"1", b"name": b"one", b"price": b"1", b"loud": b"ONE!"}
    assert r.smembers("loud:FOUR!") == {b"4"}
    assert r.exists("item:2", "item:3", "item:5", "item:6") == 0
    assert database.execute("SELECT error FROM gearsync.dead_letter ORDER BY id") == [
        ("the transform raised ValueError: no bad",),
        ("the transform raised SystemExit: 3",),
        ("the transform raised ValueError: half a pair: ?",),
    ]
    assert "action=process_died" not in worker.said
    assert "no bad" not in worker.said

    database.put(update(1, "one", "uno"), update(4, "four", "secret"), update(2, "secret", "open"))
    drained(database)
    assert set(r.keys("loud:*")) == {b"loud:UNO!", b"loud:OPEN!"}
    assert r.exists("item:4") == 0
    assert r.hget("item:2", "loud") == b"OPEN!"
