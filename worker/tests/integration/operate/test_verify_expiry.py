# SPDX-License-Identifier: GPL-3.0-or-later
"""verify of keys with a time to live: what has expired is no difference; what was lost has not expired."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

CACHE: dict[str, Any] = {
    "table": "shop.cache",
    "delivery": "durable",
    "columns": ["id", "a"],
    "write": [{"type": "hash", "key": "cache:{id}", "ttl": 3600}],
}


@pytest.fixture
def cache(
    database: OutboxDatabase,
    ready: Callable[[dict[str, Any]], Commands],
) -> Commands:
    """A table of 200 rows, all keys of which have a time to live."""
    rows = ", ".join(f"({number}, {number})" for number in range(1, 201))
    database.execute(
        "CREATE TABLE shop.cache (id INT PRIMARY KEY, a INT) ENGINE=InnoDB",
        f"INSERT INTO shop.cache VALUES {rows}",
    )
    return ready(CACHE)


def test_a_key_that_should_expire_and_does_not_is_stale(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    short = {
        "table": "shop.short",
        "delivery": "durable",
        "columns": ["id", "a"],
        "write": [
            {"type": "hash", "key": "short:{id}", "ttl": 3600},
            {"type": "set", "key": "shorts", "member": "{id}", "ttl": 3600},
        ],
    }
    database.execute(
        "CREATE TABLE shop.short (id INT PRIMARY KEY, a INT) ENGINE=InnoDB",
        "INSERT INTO shop.short VALUES (1, 1), (2, 2)",
    )
    database.sync_table(**short)
    config = worker_config(redis_server.port, [short], database.account)
    start_worker(config)
    commands = Commands(config, tmp_path)
    commands.done("resync")
    assert commands.verify()[0] == 0
    redis_server.client.persist("short:1")
    redis_server.client.delete("short:2")
    status, found = commands.verify("--repair")
    assert (status, found["different"]) == (0, {"stale": 1})
    assert 0 < redis_server.client.ttl("short:1") <= 3600


@pytest.mark.parametrize("verified", [True, False])
def test_an_emptied_redis_is_not_equal_because_its_keys_may_have_expired(
    cache: Commands, redis_server: RedisServer, verified: bool
) -> None:
    if verified:
        assert cache.verify()[0] == 0
    redis_server.client.flushall()
    for options in ([], ["--sample", "50"], ["--quick"]):
        status, found = cache.verify(*options)
        assert (status, found["equal"], found["complete"]) == (2, False, False)
        assert any("gearsync resync" in words for words in found["not_compared"])
    # Nor is it at the next look.
    status, found = cache.verify()
    assert (status, found["unsettled"]) == (2, 200)
    status, found = cache.verify("--repair")
    assert (status, found["repaired"], found["remaining"]) == (0, 200, {})
    assert len(redis_server.client.keys("cache:*")) == 200
    assert cache.verify()[0] == 0


def test_after_a_resync_an_emptied_redis_is_equal_again(cache: Commands, redis_server: RedisServer) -> None:
    redis_server.client.flushall()
    cache.done("resync", "--restart")
    status, found = cache.verify()
    assert (status, found["complete"]) == (0, True)


def test_what_expires_in_a_redis_that_has_lost_nothing_is_no_difference(
    cache: Commands, redis_server: RedisServer
) -> None:
    assert cache.verify()[0] == 0
    redis_server.client.delete("cache:1", "cache:2")
    status, found = cache.verify()
    # It is reported all the same: they may have been removed.
    assert (status, found["different"], found["complete"]) == (0, {}, False)
    assert any(words.startswith("2 keys or members with a time to live") for words in found["not_compared"])


def state_of(redis_server: RedisServer) -> list[tuple[bytes, int, bytes]]:
    """Each key with its time to live, in milliseconds, and its value."""
    client = redis_server.client
    return [(key, max(client.pttl(key), 0), client.dump(key)) for key in client.keys("*")]


def go_back(redis_server: RedisServer, state: list[tuple[bytes, int, bytes]]) -> None:
    """As a Redis that comes back with this state."""
    pipeline = redis_server.client.pipeline()
    pipeline.flushall()
    for key, milliseconds, value in state:
        pipeline.restore(key, milliseconds, value)
    pipeline.execute()


def test_what_a_redis_with_an_older_state_lacks_has_not_expired(
    cache: Commands, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    assert cache.verify()[0] == 0
    state = state_of(redis_server)
    database.execute("INSERT INTO shop.cache VALUES (201, 201), (202, 202)")
    until(lambda: database.waiting, 0)
    go_back(redis_server, state)
    # The first change by which the worker sees it.
    database.execute("UPDATE shop.cache SET a = 0")
    until(lambda: redis_server.client.exists("gearsync:main:whole:shop.cache"), 0)
    redis_server.client.delete("cache:1")
    status, found = cache.verify()
    assert (status, found["unsettled"]) == (2, 1)


def test_after_a_step_back_nothing_is_said_of_what_has_expired(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    database.execute(
        "CREATE TABLE shop.cache (id INT PRIMARY KEY, a INT) ENGINE=InnoDB",
        "INSERT INTO shop.cache VALUES (1, 1), (2, 2)",
    )
    database.sync_table(**CACHE)
    config = worker_config(redis_server.port, [CACHE], database.account, keep=3600.0)
    worker, commands = start_worker(config), Commands(config, tmp_path)
    commands.done("resync")
    assert commands.verify()[0] == 0
    state = state_of(redis_server)
    database.execute("UPDATE shop.cache SET a = 3")
    until(
        lambda: redis_server.client.hmget("cache:1", "a") + redis_server.client.hmget("cache:2", "a"),
        [b"3", b"3"],
    )
    go_back(redis_server, state)
    worker.says("action=redis_stepped_back")
    until(lambda: redis_server.client.exists("gearsync:main:whole:shop.cache"), 0)
    redis_server.client.delete("cache:1")
    status, found = commands.verify()
    assert (status, found["unsettled"]) == (2, 1)


def test_a_write_that_is_added_has_not_expired(
    cache: Commands, database: OutboxDatabase, redis_server: RedisServer, tmp_path: pathlib.Path
) -> None:
    assert cache.verify()[0] == 0
    more = {**CACHE, "write": [*CACHE["write"], {"type": "json", "key": "cached:{id}", "ttl": 3600}]}
    database.sync_table(**more)
    (tmp_path / "more").mkdir()
    status, found = Commands(
        worker_config(redis_server.port, [more], database.account), tmp_path / "more"
    ).verify()
    assert (status, found["unsettled"], found["complete"]) == (2, 200, False)
