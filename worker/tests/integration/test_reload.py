# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows that the worker reads itself: many at once, some that the server cannot return, and those of
tables that are no longer durable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.outbox.changes import Look
from gearsync.outbox.declarations import Declarations
from gearsync.outbox.store import Outbox
from gearsync.servers import mysql as edge
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

ITEM: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name", "body"],
    "write": [{"type": "hash", "key": "item:{id}"}, {"type": "set", "key": "name:{name}", "member": "{id}"}],
}
EVERYTHING = Look([(0, None)], None, 10_000, [])
OTHER: dict[str, Any] = {
    "table": "shop.other",
    "delivery": "durable",
    "columns": ["id"],
    "write": [{"type": "hash", "key": "other:{id}"}],
}


@pytest.fixture
def config(database: OutboxDatabase, redis_server: RedisServer) -> dict[str, Any]:
    database.execute(
        "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40), body LONGTEXT) ENGINE=InnoDB",
        "CREATE TABLE shop.other (id INT PRIMARY KEY) ENGINE=InnoDB",
    )
    for table in (ITEM, OTHER):
        database.sync_table(**table)
    return worker_config(redis_server.port, [ITEM, OTHER], database.account)


class Counted(edge.Database):
    """A connection that counts its statements and the bytes of the answers."""

    statements = 0
    received = 0

    def rows(self, sql: Any, arguments: Any = None) -> list[tuple[Any, ...]]:
        rows = super().rows(sql, arguments)
        self.statements += 1
        self.received += sum(len(value) for row in rows for value in row if isinstance(value, bytes))
        return rows


@pytest.fixture
def connection(config: dict[str, Any], database: OutboxDatabase) -> Iterator[Counted]:
    connection = Counted(MySQLSettings(**database.account), 120.0)
    yield connection
    connection.close()


def reloads(database: OutboxDatabase, count: int) -> None:
    database.put(
        *[("reload", {"key": {"id": number}, "old": {"id": number, "name": "n"}}) for number in range(count)]
    )


def test_changes_that_wait_when_a_table_becomes_direct_are_applied(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    r = redis_server.client
    worker = start_worker(config)
    database.execute("INSERT INTO shop.item VALUES (1, 'a', 'x'), (2, 'b', 'x')")
    until(lambda: database.waiting, 0)
    worker.terminate()
    packet = int(database.execute("SELECT @@max_allowed_packet")[0][0])
    database.execute(
        "UPDATE shop.item SET id = 10, name = 'c' WHERE id = 1",
        f"INSERT INTO shop.item VALUES (3, 'large', REPEAT('y', {packet // 8 + 1}))",
    )
    assert {operation for (operation,) in database.execute("SELECT operation FROM gearsync.outbox")} == {
        "reload"
    }
    # The function that direct triggers need is absent; none of the table's triggers is left.
    database.sync_table(table="shop.item", state="absent")
    kept = database.execute("SELECT * FROM gearsync.synced_table WHERE table_name = 'shop.item'")
    database.sync_table(table="shop.item", state="absent")
    assert (
        database.execute("SELECT * FROM gearsync.synced_table WHERE table_name = 'shop.item'") == kept != []
    )
    start_worker({**config, "tables": [{**ITEM, "delivery": "direct"}, OTHER]})
    until(lambda: database.waiting, 0)
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []
    assert r.hgetall("item:10") == {b"id": b"10", b"name": b"c", b"body": b"x"}
    assert r.hstrlen("item:3", "body") == packet // 8 + 1
    assert r.exists("item:1", "name:a") == 0
    database.sync_table(table="shop.item", state="absent")
    assert database.execute("SELECT * FROM gearsync.synced_table WHERE table_name = 'shop.item'") == []


def test_the_rows_of_many_reloads_are_read_in_few_steps(
    database: OutboxDatabase, connection: Counted
) -> None:
    database.execute(
        "INSERT INTO shop.item SELECT seq.n, 'n', 'x' FROM (SELECT a.n + 10 * b.n + 100 * c.n AS n FROM"
        + ", ".join(
            f" (SELECT 0 n {' '.join(f'UNION SELECT {digit}' for digit in range(1, 10))}) {name}"
            for name in "abc"
        )
        + ") seq",
        "DELETE FROM gearsync.outbox",
        "DELETE FROM shop.item WHERE id % 7 = 0",
        "DELETE FROM gearsync.outbox",
    )
    reloads(database, 1000)
    batch, changes, wrong = Outbox(connection, Declarations(connection, [], {})).look_with_rows(
        EVERYTHING, 600.0
    )
    assert (len(batch.entries), len(changes), wrong) == (1000, 1000, {})
    assert [reloaded.change.event for reloaded in changes.values()] == [
        "delete" if number % 7 == 0 else "update" for number in range(1000)
    ]
    assert connection.statements < 20


def test_a_batch_of_reloads_ends_in_time(database: OutboxDatabase, connection: Counted) -> None:
    reloads(database, 1000)
    batch, changes, _wrong = Outbox(connection, Declarations(connection, [], {})).look_with_rows(
        EVERYTHING, 0.0
    )
    assert batch.more
    assert 0 < len(batch.entries) < 1000
    assert {entry.id for entry in batch.entries} <= changes.keys()


def test_only_the_row_that_the_server_cannot_return_becomes_a_dead_letter(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    rows = ", ".join(f"({number}, 'n', 'x')" for number in range(100))
    database.execute(
        f"INSERT INTO shop.item VALUES {rows}",
        "DELETE FROM gearsync.outbox",
        "UPDATE gearsync.numbered_declaration SET content = JSON_SET(content, '$.small_sql', CONCAT("
        "'IF(id = 41, CAST(POW(2, 63) AS UNSIGNED) * 4, ', JSON_UNQUOTE(JSON_EXTRACT(content, "
        "'$.small_sql')), ')'))"
        " WHERE table_name = 'shop.item'",
    )
    reloads(database, 100)
    start_worker(config)
    until(lambda: database.waiting, 0)
    ((error,),) = database.execute("SELECT error FROM gearsync.dead_letter")
    assert "the row cannot be read" in error
    assert redis_server.client.exists(*[f"item:{number}" for number in range(100)]) == 99


def test_a_missing_right_holds_only_its_table_and_only_until_it_is_granted(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    database.execute(
        "DROP USER IF EXISTS drainer@localhost",
        "CREATE USER drainer@localhost IDENTIFIED BY ''",
        "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON gearsync.* TO drainer@localhost",
    )
    worker = start_worker({**config, "mysql": {"user": "drainer", "unix_socket": database.socket}})
    database.execute(
        "INSERT INTO shop.item VALUES (1, 'a', 'x')",
        "UPDATE shop.item SET id = 2",
        "INSERT INTO shop.item VALUES (3, 'b', 'x')",
    )
    worker.says("action=table_held")
    database.execute("INSERT INTO shop.other VALUES (1), (2), (3), (4), (5), (6), (7), (8)")
    until(lambda: redis_server.client.exists(*[f"other:{number}" for number in range(1, 9)]), 8)
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []
    assert "redis_lost" not in worker.said
    assert "mysql_lost" not in worker.said
    database.execute("GRANT SELECT ON shop.item TO drainer@localhost")
    until(lambda: database.waiting, 0)
    assert redis_server.client.exists("item:1", "item:2", "item:3") == 2
    assert worker.said.count("action=table_held") == 1


def test_a_long_batch_is_read_without_its_large_payloads(
    database: OutboxDatabase, connection: Counted
) -> None:
    database.put(*[("insert", {"new": {"id": number, "name": "x" * 10_000}}) for number in range(3000)])
    batch = Outbox(connection).look(EVERYTHING)
    assert batch.more
    assert sum(len(entry.payload) for entry in batch.entries) <= 8 << 20
    assert connection.received < 12 << 20
    assert all(entry.payload.startswith(b'{"new"') for entry in batch.entries)
