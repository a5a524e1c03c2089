# SPDX-License-Identifier: GPL-3.0-or-later
"""Dead letters from their creation to their end, on a table whose triggers the collection has created."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name", "city"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "set", "key": "city:{city}", "member": "{id}"},
        {"type": "list", "key": "log", "value": "{name}"},
    ],
}


@pytest.fixture
def commands(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> Commands:
    """A synced table, a worker, and the command line."""
    database.execute(
        "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(100), city VARCHAR(100)) ENGINE=InnoDB"
    )
    database.sync_table(**TABLE)
    config = worker_config(redis_server.port, [TABLE], database.account)
    start_worker(config)
    return Commands(config, tmp_path)


def listed(commands: Commands) -> list[dict[str, Any]]:
    letters: list[dict[str, Any]] = json.loads(commands.done("dead-letter", "list", "--json"))["letters"]
    return letters


def poisoned(
    commands: Commands, database: OutboxDatabase, redis_server: RedisServer, number: int, change: str
) -> int:
    """Make a change fail with a key of another type. Returns the letter's id."""
    before = {letter["id"] for letter in listed(commands)}
    redis_server.client.delete(f"item:{number}")
    redis_server.client.set(f"item:{number}", "not a hash")
    database.execute(change)
    until(lambda: len(listed(commands)), len(before) + 1)
    return int(({letter["id"] for letter in listed(commands)} - before).pop())


def test_a_retried_letter_writes_the_row_as_it_is_now(
    commands: Commands, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    client = redis_server.client
    number = poisoned(
        commands, database, redis_server, 1, "INSERT INTO shop.item VALUES (1, 'first', 'here')"
    )
    (letter,) = listed(commands)
    assert (letter["table"], letter["operation"]) == ("shop.item", "insert")
    assert "WRONGTYPE" in letter["error"]
    assert "payload" not in letter
    status, output = commands.run("dead-letter", "show", str(number))
    assert status == 0
    assert '"first"' in output
    assert "shop.item: " in commands.run("dead-letter", "list")[1]

    client.delete("item:1")
    database.execute("UPDATE shop.item SET name = 'second', city = 'there'")
    until(lambda: client.hget("item:1", "name"), b"second")
    assert commands.run("dead-letter", "retry", str(number))[0] == 0
    commands.done("barrier")
    assert client.hgetall("item:1") == {b"id": b"1", b"name": b"second", b"city": b"there"}
    assert (client.smembers("city:here"), client.smembers("city:there")) == (set(), {b"1"})
    assert listed(commands) == []
    # The log had got its entry at once; it was not what had failed.
    assert client.lrange("log", 0, -1) == [b"first", b"second"]
    assert commands.verify()[0] == 0


def test_a_letter_of_a_row_that_is_gone_removes_what_it_should_have_removed(
    commands: Commands, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    client = redis_server.client
    database.execute("INSERT INTO shop.item VALUES (1, 'first', 'here')")
    until(lambda: client.smembers("city:here"), {b"1"})
    client.delete("city:here")
    client.set("city:here", "not a set")
    database.execute("DELETE FROM shop.item")
    until(lambda: len(listed(commands)), 1)
    client.delete("city:here")
    client.sadd("city:here", "1")
    assert commands.run("dead-letter", "retry", "--all")[0] == 0
    commands.done("barrier")
    assert client.exists("city:here", "item:1") == 0
    assert commands.verify()[0] == 0


def test_a_log_gets_its_entry_when_requested(
    commands: Commands, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    client = redis_server.client
    client.set("log", "not a list")
    database.execute("INSERT INTO shop.item VALUES (1, 'first', 'here')")
    until(lambda: len(listed(commands)), 1)
    client.delete("log")
    database.execute("UPDATE shop.item SET city = 'there'")
    until(lambda: client.lrange("log", 0, -1), [b"first"])
    client.delete("log")
    assert commands.run("dead-letter", "retry", "--all", "--append")[0] == 0
    commands.done("barrier")
    assert client.lrange("log", 0, -1) == [b"first"]
    assert (client.smembers("city:here"), client.smembers("city:there")) == (set(), {b"1"})


def test_a_letter_that_cannot_be_retried_stays_and_is_reported(
    commands: Commands, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(("insert", "{"))
    database.execute(
        "INSERT INTO gearsync.dead_letter (id, shard, table_name, operation, payload, error) VALUES (77777, "
        "1, 'shop.item', 'update', '{\"new\":{}}', 'x')"
    )
    until(lambda: len(listed(commands)), 2)
    status, output = commands.run("dead-letter", "retry", "--all")
    assert status == 1
    assert "invalid payload" in output
    assert "the payload has no value for id" in output
    assert len(listed(commands)) == 2
    first = listed(commands)[0]["id"]
    assert commands.run("dead-letter", "drop", str(first), "999999") == (
        1,
        "1 dropped\n999999: not dropped: there is no letter with this id\n",
    )
    assert commands.run("dead-letter", "show", str(first))[0] == 1
    assert commands.run("dead-letter", "drop", "--all")[0] == 2
    assert commands.run("dead-letter", "drop", "--all", "--yes")[0] == 0
    assert "there are no dead letters" in commands.run("dead-letter", "list")[1]
    assert redis_server.client.exists("item:None") == 0


def test_many_letters_are_retried_in_chunks(
    commands: Commands, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.execute("INSERT INTO shop.item VALUES (1, 'one', 'x')")
    commands.done("barrier")
    payload = '{"new":{"id":%d},"old":{"id":%d}}'
    letters = [
        f"({number}, 1, 'shop.item', 'update', '{payload % (number, number)}', 'x')"
        for number in range(100_000, 100_250)
    ]
    database.execute(
        "INSERT INTO gearsync.dead_letter (id, shard, table_name, operation, payload, error) VALUES "
        f"{', '.join(letters)}"
    )
    assert commands.run("dead-letter", "retry", "--all", "--table", "shop.other")[1].startswith("0 ")
    assert commands.run("dead-letter", "retry", "--all", "--table", "shop.item")[1].startswith(
        "250 tried again"
    )
    commands.done("barrier")
    assert listed(commands) == []
    assert commands.verify()[0] == 0
