# SPDX-License-Identifier: GPL-3.0-or-later
"""verify --prune: which keys it removes, and which it keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from gearsync.outbox import reloads
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer


def test_more_orphans_than_may_be_removed_are_not_removed(
    loaded: Commands, table: OutboxDatabase, redis_server: RedisServer
) -> None:
    keys = set(redis_server.client.keys())
    table.execute("TRUNCATE shop.item")
    status, found = loaded.verify("--prune")
    assert (status, found["repaired"]) == (1, 0)
    orphaned = found["different"]["orphaned"]
    assert f"--max-prune {orphaned}" in found["refused"]
    assert keys - set(redis_server.client.keys()) == set()
    assert loaded.verify("--prune", "--max-prune", str(orphaned - 1))[1]["repaired"] == 0
    assert loaded.verify("--prune", "--max-prune", "99%")[1]["repaired"] == 0
    status, found = loaded.verify("--prune", "--max-prune", str(orphaned))
    assert (status, found["repaired"], found["refused"]) == (0, orphaned, None)
    assert redis_server.client.keys("item:*") == []


@pytest.mark.parametrize("words", ["5 %", "-1", "x", "%", "1e3"])
def test_a_limit_that_is_none_is_refused(commands: Commands, words: str) -> None:
    status, output = commands.run("verify", f"--max-prune={words}")
    assert (status, words in output) == (2, True)


def test_a_row_that_comes_while_its_key_is_to_be_removed_keeps_it(
    loaded: Commands, table: OutboxDatabase, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    orphans = range(1001, 1006)
    for number in orphans:
        redis_server.client.hset(f"item:{number}", "name", "orphan")
    enqueue = reloads.enqueue_reload

    def insert_first(*arguments: Any) -> None:
        monkeypatch.setattr(reloads, "enqueue_reload", enqueue)
        table.execute(
            *(f"INSERT INTO shop.item VALUES ({number}, 'new', 1)" for number in orphans if number % 2)
        )
        enqueue(*arguments)
        table.execute(
            *(f"INSERT INTO shop.item VALUES ({number}, 'new', 1)" for number in orphans if number % 2 == 0)
        )

    monkeypatch.setattr(reloads, "enqueue_reload", insert_first)
    loaded.verify("--prune")
    assert loaded.verify()[0] == 0
    assert [redis_server.client.hget(f"item:{number}", "name") for number in orphans] == [b"new"] * 5


def test_another_row_that_makes_the_same_key_meanwhile_keeps_it(
    database: OutboxDatabase,
    redis_server: RedisServer,
    ready: Callable[[dict[str, Any]], Commands],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database.execute(
        "CREATE TABLE shop.pair (a VARCHAR(20), b VARCHAR(20), PRIMARY KEY (a, b)) ENGINE=InnoDB",
        "INSERT INTO shop.pair VALUES ('x', 'y')",
    )
    commands = ready(
        {
            "table": "shop.pair",
            "delivery": "durable",
            "columns": ["a", "b"],
            "write": [{"type": "hash", "key": "pair:{a}:{b}", "distinct": True}],
        },
    )
    redis_server.client.hset("pair:web:db:host", "a", "orphan")
    enqueue = reloads.enqueue_reload

    def insert_first(*arguments: Any) -> None:
        monkeypatch.setattr(reloads, "enqueue_reload", enqueue)
        (removed,) = arguments[2]
        database.execute(
            "INSERT INTO shop.pair VALUES "
            f"{('web:db', 'host') if removed['a'] == 'web' else ('web', 'db:host')}"
        )
        commands.done("barrier")
        enqueue(*arguments)

    monkeypatch.setattr(reloads, "enqueue_reload", insert_first)
    commands.verify("--prune")
    commands.done("barrier")
    assert redis_server.client.hget("pair:web:db:host", "a") in (b"web", b"web:db")
