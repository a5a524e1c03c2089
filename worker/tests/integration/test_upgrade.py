# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes that wait while a release replaces another: their payloads have names, and no number of a
declaration.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness.outbox_database import OutboxDatabase, collection
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

ITEM: dict[str, Any] = {
    "table": "shop.item",
    "columns": ["id", "name", "price", "body"],
    "write": [{"type": "hash", "key": "item:{id}"}, {"type": "set", "key": "name:{name}", "member": "{id}"}],
}
#: The last schema without numbers.
VERSION = 5

# What the releases 1.x made of that declaration, with two shards and without the wakes.
_NEW = (
    "JSON_OBJECT('id', NEW.id, 'name', CAST(NEW.name AS CHAR CHARACTER SET utf8mb4), 'price', "
    "JSON_OBJECT('$num', CAST(NEW.price AS CHAR"
    " CHARACTER SET utf8mb4)), 'body', JSON_OBJECT('$hex', HEX(NEW.body)))"
)
_OLD = "JSON_OBJECT('id', OLD.id, 'name', CAST(OLD.name AS CHAR CHARACTER SET utf8mb4))"
_LARGE = "COALESCE(OCTET_LENGTH(NEW.body), 0) > @@max_allowed_packet DIV 8"


def _put(row: str, operation: str, payload: str) -> str:
    shard = f"1 + CRC32(CAST({row}.id AS CHAR CHARACTER SET utf8mb4)) MOD 2"
    return (
        f"INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES ({shard}, "
        f"'shop.item', {operation}, {payload});"
    )


def _reload(row: str, *, old: bool) -> str:
    return (
        f"JSON_OBJECT('key', JSON_OBJECT('id', {row}.id){f', {chr(39)}old{chr(39)}, {_OLD}' if old else ''})"
    )


TRIGGERS = {
    "ai": _put(
        "NEW",
        f"IF({_LARGE}, 'reload', 'insert')",
        f"IF({_LARGE}, {_reload('NEW', old=False)}, JSON_OBJECT('new', {_NEW}))",
    ),
    "au": "IF NEW.id <=> OLD.id THEN "
    + _put(
        "NEW",
        f"IF({_LARGE}, 'reload', 'update')",
        f"IF({_LARGE}, {_reload('NEW', old=True)}, JSON_OBJECT('new', {_NEW}, 'old', {_OLD}))",
    )
    + " ELSE "
    + _put("OLD", "'reload'", _reload("OLD", old=True))
    + _put("NEW", "'reload'", _reload("NEW", old=False))
    + " END IF;",
    "ad": _put("OLD", "'delete'", f"JSON_OBJECT('old', {_OLD})"),
}
_EVENTS = {"ai": "INSERT", "au": "UPDATE", "ad": "DELETE"}


def former_release(database: OutboxDatabase) -> None:
    """The schema and the triggers of a former release."""
    statements = collection("_outbox").migration_statements(0)
    end = next(
        number for number, statement in enumerate(statements) if statement.endswith(f"VALUES ({VERSION})")
    )
    row = _NEW.replace("NEW.", "gearsync_row.").replace("'", "''")
    small = row.replace(", ''body'', JSON_OBJECT(''$hex'', HEX(gearsync_row.body))", "")
    database.execute(
        "DROP DATABASE gearsync",
        *statements[: end + 1],
        "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE, price DOUBLE, body "
        "LONGBLOB) ENGINE=InnoDB",
        *(
            f"CREATE TRIGGER shop.gearsync_{code}_item AFTER {event} ON shop.item FOR EACH ROW BEGIN "
            f"{TRIGGERS[code]} END"
            for code, event in _EVENTS.items()
        ),
        "INSERT INTO gearsync.lease (shard) VALUES (1), (2)",
        "INSERT INTO gearsync.declaration (table_name, fingerprints) "
        """VALUES ('shop.item', '["that of the worker"]')""",
        "INSERT INTO gearsync.synced_table (table_name, source_schema, source_table, shards, key_columns, "
        "shard_sql, row_sql, old_sql, large_sql, small_sql,"
        " large_columns, triggers) VALUES ('shop.item', 'shop', 'item', 2, "
        '\'[{"declared":"id","kind":"integer","real":"id"}]\','
        f" '1 + CRC32(CAST(gearsync_row.id AS CHAR CHARACTER SET utf8mb4)) MOD 2', '{row}', 'old',"
        f" 'COALESCE(OCTET_LENGTH(gearsync_row.body), 0) > @@max_allowed_packet DIV 8', '{small}',"
        ' \'[{"declared":"body","kind":"binary","sql":"gearsync_row.body"}]\', \'{"x": "y"}\')',
    )


def changes(database: OutboxDatabase, first: int) -> int:
    """Make one change of each kind. Returns the length of the large value."""
    large = int(database.execute("SELECT @@max_allowed_packet")[0][0]) // 8 + 1
    database.execute(
        f"INSERT INTO shop.item VALUES ({first}, 'a{first}', 1e300, X'00FF'), ({first + 1}, 'b{first}', "
        f"0.1, NULL), ({first + 2}, 'c{first}', 1, 'x'),"
        f" ({first + 3}, 'large{first}', 2, REPEAT('y', {large}))",
        f"UPDATE shop.item SET name = 'A{first}' WHERE id = {first}",
        f"DELETE FROM shop.item WHERE id = {first + 1}",
        f"UPDATE shop.item SET id = {first + 9}, name = 'd{first}' WHERE id = {first + 2}",
        f"UPDATE shop.item SET name = 'LARGE{first}' WHERE id = {first + 3}",
    )
    return large


def in_redis(redis_server: RedisServer, first: int) -> list[Any]:
    """The data of these changes in Redis: hashes without their large value, its length, and the sets."""
    r = redis_server.client
    sets = {name.decode(): r.smembers(name) for name in r.scan_iter(f"name:*{first}")}
    return [
        r.hmget(f"item:{number}", "id", "name", "price", *(["body"] if number != first + 3 else []))
        for number in range(first, first + 10)
    ] + [r.hstrlen(f"item:{first + 3}", "body"), sets]


def expected(first: int, large: int) -> list[Any]:
    rows: list[list[Any]] = [[None] * 4 for _ in range(10)]
    rows[0] = [b"%d" % first, b"A%d" % first, b"1e300", b"\x00\xff"]
    rows[3] = [b"%d" % (first + 3), b"LARGE%d" % first, b"2"]
    rows[9] = [b"%d" % (first + 9), b"d%d" % first, b"1", b"x"]
    members = {
        f"name:{name}{first}": {b"%d" % number}
        for name, number in (("A", first), ("LARGE", first + 3), ("d", first + 9))
    }
    return [*rows, large, members]


@pytest.fixture
def config(database: OutboxDatabase, redis_server: RedisServer) -> dict[str, Any]:
    former_release(database)
    return worker_config(redis_server.port, [ITEM], database.account)


def test_a_worker_of_this_release_drains_a_schema_of_the_former_one(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    large = changes(database, 100)
    start_worker(config)
    until(lambda: in_redis(redis_server, 100), expected(100, large))
    # The schema is migrated while the worker runs, and the triggers are replaced.
    changes(database, 200)
    database.sync_table(**ITEM)
    changes(database, 300)
    until(lambda: database.waiting, 0)
    assert in_redis(redis_server, 200) == expected(200, large)
    assert in_redis(redis_server, 300) == expected(300, large)
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


@pytest.mark.parametrize("key", ["item:{id}", "by-name:{name}"])
def test_what_waits_from_before_is_applied_after_the_triggers_are_replaced(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
    key: str,
) -> None:
    large = changes(database, 100)
    database.sync_table(**{**ITEM, "write": [{"type": "hash", "key": key}, *ITEM["write"][1:]]})
    changes(database, 200)
    start_worker(config)
    until(lambda: database.waiting, 0)
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []
    if key == "item:{id}":
        assert [in_redis(redis_server, first) for first in (100, 200)] == [
            expected(first, large) for first in (100, 200)
        ]
    r = redis_server.client
    assert {name: r.smembers(name) for name in r.scan_iter("name:*")} == {
        f"name:{name}".encode(): {b"%d" % number}
        for number, name in database.execute("SELECT id, name FROM shop.item")
    }


def test_a_worker_of_the_former_release_sees_that_it_does_not_know_the_newest_declaration(
    config: dict[str, Any], database: OutboxDatabase
) -> None:
    database.sync_table(**ITEM)
    database.sync_table(**ITEM)
    assert database.execute("SELECT fingerprints FROM gearsync.declaration") == [
        ('["that of the worker", "numbered"]',)
    ]


def test_an_invalid_reload_of_a_former_release_affects_no_other(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    database.execute(
        "INSERT INTO shop.item (id, name) VALUES (1, 'a'), (2, 'b')", "DELETE FROM gearsync.outbox"
    )
    database.sync_table(**ITEM)
    for payload in (
        {"key": [1]},
        {"key": {}},
        {"key": {"no": 1}},
        {"key": {"id": 1}},
        {"key": {"name": "b"}},
    ):
        database.put(("reload", payload), shard=1)
    start_worker(config)
    until(lambda: database.waiting, 0)
    assert redis_server.client.exists("item:1", "item:2") == 2
    assert len(database.execute("SELECT * FROM gearsync.dead_letter")) == 3
