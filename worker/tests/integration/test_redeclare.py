# SPDX-License-Identifier: GPL-3.0-or-later
"""A table that is declared again while changes of it wait, and while they are made."""

from __future__ import annotations

import json
import os
import pathlib
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redeclarations import COLUMNS, History
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config
from harness.writers import Writers

BY_ID: dict[str, Any] = {"type": "hash", "key": "by-id:{id}"}
BY_CODE: dict[str, Any] = {"type": "hash", "key": "by-code:{code}"}
NAMES: dict[str, Any] = {"type": "set", "key": "name:{name}", "member": "{id}"}
ROUNDS = int(os.environ.get("GEARSYNC_TEST_REDECLARATIONS", "6"))
WRITERS, KEYS = int(os.environ.get("GEARSYNC_TEST_WRITERS", "4")), 30
#: So that a row may be too large for JSON without being large.
PACKET = 4 << 20


def declaration(*write: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {"table": "shop.item", "columns": COLUMNS, "write": list(write), **other}


@pytest.fixture
def table(database: OutboxDatabase) -> Iterator[OutboxDatabase]:
    database.execute(
        "CREATE TABLE shop.item (id INT PRIMARY KEY, code VARCHAR(20) NOT NULL UNIQUE, name VARCHAR(40), "
        "city VARCHAR(40), amount INT,"
        " body LONGTEXT) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4"
    )
    ((before,),) = database.execute("SELECT @@global.max_allowed_packet")
    database.execute(f"SET GLOBAL max_allowed_packet = {PACKET}")
    yield database
    database.execute(f"SET GLOBAL max_allowed_packet = {before}")


def drained(database: OutboxDatabase) -> None:
    until(lambda: database.waiting, 0)
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def put(database: OutboxDatabase, number: int, name: str) -> None:
    database.execute(
        f"INSERT INTO shop.item (id, code, name) VALUES ({number}, 'c{number}', '{name}') ON DUPLICATE KEY "
        f"UPDATE name = '{name}'"
    )


def test_an_added_write_is_written_only_by_changes_of_triggers_that_send_its_old_value(
    table: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    table.sync_table(**declaration(BY_ID))
    # Workers get their configuration first.
    config = worker_config(redis_server.port, [declaration(BY_ID, NAMES)], table.account)
    worker = start_worker(config)
    for name in "BCD":
        put(table, 1, name)
        drained(table)
    worker.kill()
    table.expire_leases()
    put(table, 1, "E")
    table.sync_table(**declaration(BY_ID, NAMES))
    put(table, 1, "F")
    put(table, 2, "F")
    start_worker(config)
    drained(table)
    Commands(config, tmp_path).done("resync")
    assert redis_server.client.keys("name:*") == [b"name:F"]
    assert redis_server.client.smembers("name:F") == {b"1", b"2"}


def test_a_declaration_is_not_in_force_before_its_triggers_exist(
    table: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    table.sync_table(**declaration(BY_ID))
    start_worker(worker_config(redis_server.port, [declaration(BY_ID, NAMES)], table.account))
    put(table, 1, "A")
    # A run that ends before the triggers are replaced.
    table.begin_to_sync(0.2, **declaration(BY_ID, NAMES))
    assert len(table.execute("SELECT * FROM gearsync.numbered_declaration")) == 2
    # The worker reads the row: the next change will not send what it writes now.
    table.execute("UPDATE shop.item SET id = 2")
    drained(table)
    put(table, 2, "B")
    table.sync_table(**declaration(BY_ID, NAMES))
    table.execute("UPDATE shop.item SET id = 3")
    put(table, 3, "C")
    drained(table)
    assert redis_server.client.keys("name:*") == [b"name:C"]
    assert redis_server.client.keys("by-id:*") == [b"by-id:3"]


def test_changes_of_a_removed_table_are_not_written_by_a_declaration_without_triggers(
    table: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    table.sync_table(**declaration(BY_ID))
    put(table, 1, "A")
    table.execute("UPDATE shop.item SET id = 2")
    table.sync_table(table="shop.item", state="absent")
    table.begin_to_sync(0.2, **declaration(BY_ID, NAMES))
    start_worker(worker_config(redis_server.port, [declaration(BY_ID, NAMES)], table.account))
    drained(table)
    assert (redis_server.client.keys("by-id:*"), redis_server.client.keys("name:*")) == ([b"by-id:2"], [])


@pytest.mark.parametrize("first", ["configuration", "triggers"])
def test_what_waits_under_another_identity_is_applied(
    table: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker], first: str
) -> None:
    table.sync_table(**declaration(BY_ID))
    config = worker_config(redis_server.port, [declaration(BY_ID)], table.account)
    worker = start_worker(config)
    table.execute("INSERT INTO shop.item (id, code, name) VALUES (1, 'a', 'x'), (2, 'b', 'x'), (3, 'c', 'x')")
    drained(table)
    worker.kill()
    table.expire_leases()
    large = PACKET // 8 + 1
    table.execute(
        "UPDATE shop.item SET id = 10 WHERE id = 1",
        f"UPDATE shop.item SET body = REPEAT('y', {large}) WHERE id = 2",
        "UPDATE shop.item SET name = 'y' WHERE id = 3",
    )
    table.sync_table(**declaration(BY_CODE, NAMES))
    table.execute("UPDATE shop.item SET code = 'd' WHERE id = 3")
    start_worker({**config, "tables": [declaration(BY_CODE, NAMES)]} if first == "configuration" else config)
    drained(table)
    r = redis_server.client
    assert (r.hget("by-code:a", "id"), r.hstrlen("by-code:b", "body"), r.hget("by-code:d", "name")) == (
        b"10",
        large,
        b"y",
    )
    # What the former identity had written is removed if the change contains it; the operator removes the
    # rest.
    assert r.exists("by-id:1", "by-code:c") == 0
    assert r.smembers("name:x") == {b"10", b"2"}
    assert r.smembers("name:y") == {b"3"}


def test_a_row_whose_former_key_is_not_a_column_any_more_is_removed(
    table: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    table.sync_table(**declaration(BY_CODE))
    config = worker_config(redis_server.port, [declaration(BY_CODE)], table.account)
    worker = start_worker(config)
    put(table, 1, "x")
    drained(table)
    worker.kill()
    table.expire_leases()
    table.execute("UPDATE shop.item SET code = 'other'")
    now = {**declaration(BY_ID), "columns": ["id", "name"]}
    table.sync_table(**now)
    table.execute("ALTER TABLE shop.item DROP COLUMN code")
    start_worker({**config, "tables": [now]})
    drained(table)
    assert redis_server.client.keys("*code*") == []


def test_a_dead_letter_is_retried_under_another_identity(
    table: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    r = redis_server.client
    table.sync_table(**declaration(BY_ID))
    config = worker_config(redis_server.port, [declaration(BY_ID)], table.account)
    start_worker(config)
    r.set("by-id:1", "not a hash")
    put(table, 1, "x")
    until(lambda: len(table.execute("SELECT id FROM gearsync.dead_letter")), 1)
    table.sync_table(**{**declaration(BY_CODE), "columns": ["code", "name"]})
    r.delete("by-id:1")
    r.hset("by-id:1", "name", "old")
    commands = Commands(config, tmp_path)
    ((number,),) = table.execute("SELECT id FROM gearsync.dead_letter")
    shown = json.loads(commands.done("dead-letter", "show", "--json", str(number)))
    assert json.loads(shown["payload"])["new"] == {
        "id": 1,
        "code": "c1",
        "name": "x",
        "city": None,
        "amount": None,
        "body": None,
    }
    commands.done("dead-letter", "retry", str(number))
    drained(table)
    assert r.exists("by-id:1") == 0
    assert r.hgetall("by-code:c1") == {b"code": b"c1", b"name": b"x"}


def change(cursor: Any, writer: int, number: int) -> None:
    chance = random.Random(writer * 1_000_000 + number)
    key = writer * 1000 + chance.randrange(KEYS)
    name, city, amount = (
        chance.choice([f"'{word}{chance.randrange(5)}'", "NULL"]) for word in ("n", "c", "")
    )
    body = f"REPEAT('x', {PACKET // 8 + 1})" if chance.random() < 0.01 else "'short'"
    # Its own name and code, and those of a row that was moved.
    place = key + chance.choice([0, 0, 0, 500])
    cursor.execute(
        chance.choice(
            [
                (
                    f"INSERT INTO shop.item VALUES ({key}, 'c{key}', {name}, {city}, {amount}, {body})"
                    " ON DUPLICATE KEY UPDATE name = VALUES(name), city = VALUES(city), amount = "
                    "VALUES(amount), body = VALUES(body)"
                ),
                f"UPDATE shop.item SET name = {name}, city = {city} WHERE id = {key}",
                (
                    f"UPDATE IGNORE shop.item SET id = {place}, amount = {amount} WHERE id IN ({key}, "
                    f"{key + 500})"
                ),
                (
                    f"UPDATE IGNORE shop.item SET code = 'c{place}', name = {name} WHERE code IN ('c{key}', "
                    f"'c{key + 500}')"
                ),
                f"DELETE FROM shop.item WHERE id IN ({key}, {key + 500})",
            ]
        )
    )


def redeclare(
    table: OutboxDatabase, writers: Writers, history: History, chance: random.Random, done: str
) -> None:
    """Sync the table while the writers write, at times after a run that ends before it is done.

    ``done``: what has been done to the history's declaration.
    """
    if done == "interval":
        table.sync_table(table="shop.item", state="absent")
        writers.go_on()
    if chance.random() < 0.3:
        table.begin_to_sync(chance.random(), **history.declaration)
        writers.go_on()
    table.sync_table(**history.declaration, lock_wait_timeout=60)
    writers.go_on()


def test_declarations_change_at_random_under_writers_while_the_worker_is_killed(
    table: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    seed = int(os.environ.get("GEARSYNC_TEST_SEED", random.randrange(1 << 32)))
    print(f"GEARSYNC_TEST_SEED={seed}")
    chance = random.Random(seed)
    (tmp_path / "ours.py").write_text(
        "def shout(row, table):\n    return {**row, 'loud': row['code'] + '!'}\n"
    )
    history = History(chance)
    settings = {"python_path": str(tmp_path), "lease": 5.0, "batch": 50}
    config = worker_config(redis_server.port, [history.declaration], table.account, **settings)
    table.sync_table(**history.declaration)
    worker = start_worker(config)
    with Writers(table, WRITERS, change) as writers:
        for _ in range(ROUNDS):
            writers.go_on()
            done = history.go_on()
            print(done, history.declaration)
            config = {**config, "tables": [history.declaration]}
            worker_first = chance.random() < 0.5
            if not worker_first:
                redeclare(table, writers, history, chance, done)
            time.sleep(chance.uniform(0.0, 0.2))
            worker.kill()
            table.expire_leases()
            worker = start_worker(config)
            if worker_first:
                redeclare(table, writers, history, chance, done)
    assert writers.errors == []
    commands = Commands(config, tmp_path)
    commands.done("resync")
    commands.done("barrier")
    drained(table)
    rows = table.execute("SELECT id, code, name, city, amount, NULL FROM shop.item")
    assert history.there(redis_server.client) == history.expected([dict(zip(COLUMNS, row)) for row in rows])
