# SPDX-License-Identifier: GPL-3.0-or-later
"""verify and resync, on tables whose triggers the collection has made, while writers write and processes
die.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.outbox import reloads
from gearsync.servers.mysql import Database
from harness.commands import Command, Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name", "price"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "json", "key": "doc:{id}"},
        {"type": "string", "key": "cell:{id}:{column}"},
        {"type": "set", "key": "by-name:{name}", "member": "{id}"},
        {"type": "zset", "key": "by-price", "member": "{id}", "score": "{price}"},
        {"type": "list", "key": "log", "value": "{id}"},
    ],
}
ODD: dict[str, Any] = {
    "table": "shop.odd",
    "delivery": "durable",
    "columns": ["when", "na`me", "raw", "kind", "f", "text"],
    "write": [{"type": "hash", "key": "odd:{when}/{na`me}/{raw}/{kind}", "distinct": True}],
}


@pytest.fixture
def table(database: OutboxDatabase, request: pytest.FixtureRequest) -> OutboxDatabase:
    """A table that had rows before it was synced: 300, or the number in the test's parameter."""
    rows = ", ".join(
        f"({number}, 'n{number % 7}', {number / 4})"
        for number in range(1, getattr(request, "param", 300) + 1)
    )
    database.execute(
        "CREATE TABLE shop.item (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(40), price DECIMAL(10,2)) "
        "ENGINE=InnoDB",
        f"INSERT INTO shop.item VALUES {rows}",
    )
    database.sync_table(**TABLE)
    return database


#: For tests that are about several pieces: all walks take a thousand rows at a time.
two_pieces = pytest.mark.parametrize("table", [1100], indirect=True)
three_pieces = pytest.mark.parametrize("table", [3000], indirect=True)


@pytest.fixture
def config(table: OutboxDatabase, redis_server: RedisServer) -> dict[str, Any]:
    return worker_config(redis_server.port, [TABLE], table.account)


@pytest.fixture
def worker(config: dict[str, Any], start_worker: Callable[..., Worker]) -> Worker:
    return start_worker(config)


@pytest.fixture
def commands(config: dict[str, Any], tmp_path: pathlib.Path) -> Commands:
    return Commands(config, tmp_path)


@pytest.fixture
def loaded(worker: Worker, commands: Commands, table: OutboxDatabase) -> Commands:
    """Both sides equal, and nothing kept that would be applied again."""
    commands.done("resync")
    until(lambda: table.waiting, 0)
    return commands


@contextmanager
def writers(database: OutboxDatabase, rows: int, number: int = 4) -> Iterator[list[int]]:
    """So many writers, each with all kinds of changes to so many rows; yields how many statements each
    has done.
    """
    stop, failures, done = threading.Event(), [], [0] * number

    def write(own: int) -> None:
        chance = random.Random(own)
        try:
            with database.connect() as connection, connection.cursor() as cursor:
                while not stop.is_set():
                    row = chance.randrange(1, rows + 50)
                    statement = chance.choice(
                        [
                            (
                                f"UPDATE shop.item SET name = CONCAT('w', {chance.randrange(9)}), "
                                f"price = price + 1 WHERE id = {row}"
                            ),
                            f"REPLACE INTO shop.item VALUES ({row}, 'r{own}', {chance.randrange(100)})",
                            f"DELETE FROM shop.item WHERE id = {row}",
                            f"UPDATE IGNORE shop.item SET id = id + 1 WHERE id = {row}",
                        ]
                    )
                    cursor.execute(statement)
                    done[own] += 1
                    # A worker on a busy machine must be able to follow.
                    time.sleep(0.05)
        except pymysql.MySQLError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(own,)) for own in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


@two_pieces
def test_a_resync_loads_what_was_there_before_and_verify_proves_it(
    worker: Worker, commands: Commands, redis_server: RedisServer
) -> None:
    status, found = commands.verify()
    assert (status, found["different"]["missing"]) == (1, 6 * 1100 + 2 * 1100 - 1100)
    commands.done("resync")
    status, found = commands.verify()
    assert (status, found["different"], found["rows"]) == (0, {}, 1100)
    assert found["not_verifiable"] == ["write[5] (list log)"]
    # A row that is loaded is no change of it.
    assert redis_server.client.exists("log") == 0


def test_every_planted_difference_is_found_and_repaired(loaded: Commands, redis_server: RedisServer) -> None:
    r = redis_server.client
    r.delete("item:1", "doc:2", "cell:3:name")
    r.srem("by-name:n4", 4)
    r.zrem("by-price", 5)
    r.hset("item:11", "name", "stale")
    r.hset("item:12", "price", "3")
    r.hdel("item:13", "name")
    r.set("doc:14", "{}")
    r.set("cell:15:price", "0")
    r.zadd("by-price", {"16": 1})
    r.delete("item:21", "doc:22", "cell:23:id")
    r.set("item:21", "x")
    r.hset("doc:22", "a", "b")
    r.sadd("cell:23:id", "x")
    r.hset("item:9999", "id", "9999")
    r.set("doc:9998", "{}")
    r.set("cell:9997:name", "x")
    r.sadd("by-name:n1", 2, 9996)
    r.sadd("by-name:unknown", 3)
    r.zadd("by-price", {"9995": 1})
    # Not ours: no row could have written them.
    r.hset("item:config", "a", "b")
    r.set("other", "x")
    wanted = {"missing": 5, "stale": 6, "wrong_type": 3, "orphaned": 7}
    status, found = loaded.verify()
    assert (status, found["different"]) == (1, wanted)
    status, found = loaded.verify("--repair", "--prune")
    # A SET writes over whatever there is, the other commands do not: a key of another type is the
    # application's, or written by error.
    assert (status, found["different"], found["repaired"]) == (1, wanted, 20), found
    r.delete("item:21")
    assert loaded.verify("--repair")[0] == 0
    assert loaded.verify()[0] == 0
    assert r.exists("item:config", "other") == 2


@two_pieces
def test_verify_finds_nothing_wrong_while_writers_write(loaded: Commands, table: OutboxDatabase) -> None:
    with writers(table, 1100) as done:
        until(lambda: min(done) > 0)
        status, found = loaded.verify()
    assert (status, found["different"]) == (0, {}), found
    assert loaded.verify()[0] == 0


def test_verify_reports_that_it_cannot_compare_without_its_servers(
    table: OutboxDatabase, commands: Commands, redis_server: RedisServer
) -> None:
    redis_server.stop()
    status, output = commands.run("verify")
    assert status == 2
    assert "could not be compared" in output
    answer = json.loads(commands.run("verify", "--json")[1].splitlines()[0])
    assert (answer["status"], answer["equal"], answer["complete"]) == (2, False, False)
    assert answer["tables"][0]["error"]


def test_keys_of_tables_that_are_not_chosen_are_theirs(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    tables: list[dict[str, Any]] = []
    for name, key, delivery in (
        ("user", "user:{name}", "durable"),
        ("tag", "user:{name}:tags", "durable"),
        ("seen", "user:{name}:seen", "direct"),
    ):
        database.execute(
            f"CREATE TABLE shop.{name} (name VARCHAR(40) PRIMARY KEY, v INT) ENGINE=InnoDB",
            f"INSERT INTO shop.{name} VALUES ('a', 1)",
        )
        tables.append(
            {
                "table": f"shop.{name}",
                "delivery": delivery,
                "columns": ["name", "v"],
                "write": [{"type": "hash", "key": key}],
            }
        )
    for declaration in tables[:2]:
        database.sync_table(**declaration)
    config = worker_config(redis_server.port, tables, database.account)
    start_worker(config)
    commands = Commands(config, tmp_path)
    commands.done("resync")
    # What direct delivery has written; a set that looks like a user's hash; and orphans of the one and of the
    # other.
    redis_server.client.hset("user:a:seen", "v", "1")
    redis_server.client.sadd("user:other", "else")
    redis_server.client.hset("user:gone", "v", "1")
    redis_server.client.hset("user:gone:tags", "v", "1")
    status, found = commands.verify("--table", "shop.user", "--prune")
    assert (status, found["different"]) == (0, {"orphaned": 2})
    assert sorted(redis_server.client.keys()) == sorted(
        [b"user:a", b"user:a:tags", b"user:a:seen", b"user:other", *redis_server.client.keys("gearsync:*")]
    )


def test_a_key_that_can_be_taken_apart_in_many_ways_is_never_removed(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    connection = {
        "table": "shop.connection",
        "delivery": "durable",
        "columns": ["src", "dst", "port"],
        "write": [{"type": "hash", "key": "conn:{src}:{dst}:{port}", "distinct": True}],
    }
    database.execute(
        "CREATE TABLE shop.connection (src VARCHAR(50), dst VARCHAR(50), port INT, PRIMARY KEY (src, dst, "
        "port)) ENGINE=InnoDB"
    )
    database.sync_table(**connection)
    config = worker_config(redis_server.port, [connection], database.account)
    commands = Commands(config, tmp_path)
    start_worker(config)
    rows = [
        f"('2001:db8:1:2:3:4:5:{number}', '2001:db8:6:7:8:9:a:{number}', {number})" for number in range(20)
    ]
    rows += [f"('10.0.0.{number}', '10.0.1.{number}', {number})" for number in range(20)]
    database.execute(f"INSERT INTO shop.connection VALUES {', '.join(rows)}")
    commands.done("barrier")
    redis_server.client.hset("conn:10.0.0.99:10.0.1.99:99", "port", "99")
    # Where a value between colons ends is ambiguous: a key with too many ways to parse it counts as a row's.
    redis_server.client.hset("conn:" + ":".join("abcdefghijklmnopqrst"), "port", "1")
    status, found = commands.verify("--prune")
    assert (status, found["different"], found["remaining"]) == (0, {"orphaned": 1}, {})
    assert found["complete"] is False
    assert any("too many ways" in words for words in found["not_compared"])
    assert len(redis_server.client.keys("conn:*")) == 41


def test_what_redis_refuses_to_show_is_not_taken_for_absent(
    loaded: Commands, redis_server: RedisServer, config: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    r = redis_server.client
    r.hset("item:9999", "id", "9999")
    for refused in ("scan", "hmget", "type"):
        r.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "+@all", f"-{refused}")
        (tmp_path / refused).mkdir()
        limited = Commands(
            {**config, "redis": {**config["redis"], "username": "limited", "password": "secret"}},
            tmp_path / refused,
        )
        status, output = limited.run("verify")
        assert status == 2, output
        assert refused.upper() in output
        assert refused.upper() in limited.run("selftest")[1]


def test_one_table_that_cannot_be_looked_at_does_not_hide_the_others(
    table: OutboxDatabase,
    worker: Worker,
    config: dict[str, Any],
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
) -> None:
    table.execute(
        "CREATE TABLE shop.late (id INT PRIMARY KEY, a INT) ENGINE=InnoDB",
        "INSERT INTO shop.late VALUES (1, 1)",
    )
    late = {
        "table": "shop.late",
        "delivery": "durable",
        "columns": ["id"],
        "write": [{"type": "hash", "key": "late:{id}"}],
    }
    table.sync_table(**late)
    absent = {
        "table": "shop.absent",
        "delivery": "durable",
        "columns": ["id"],
        "write": [{"type": "hash", "key": "absent:{id}"}],
    }
    commands = Commands(
        {**config, "tables": [{**late, "columns": ["id", "a"]}, absent, *config["tables"]]}, tmp_path
    )
    commands.done("resync", "--table", "shop.item")
    status, output = commands.run("verify", "--json")
    answer = json.loads(output)
    assert (status, answer["status"], answer["complete"]) == (2, 2, False)
    found = {entry["table"]: entry for entry in answer["tables"]}
    assert "'a'" in found["shop.late"]["not_compared"][0]
    assert found["shop.late"]["unsettled"] == 1
    assert "no triggers" in found["shop.absent"]["error"]
    assert found["shop.item"]["equal"] is True
    # What differs for certain counts more.
    redis_server.client.delete("item:1")
    assert commands.run("verify")[0] == 1


def test_rows_of_megabytes_are_compared(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    big = {
        "table": "shop.big",
        "delivery": "durable",
        "columns": ["id", "t", "b"],
        "write": [{"type": "hash", "key": "big:{id}"}],
    }
    database.execute(
        "CREATE TABLE shop.big (id INT PRIMARY KEY, t LONGTEXT, b LONGBLOB) ENGINE=InnoDB",
        # The last but one is too large for a statement.
        "INSERT INTO shop.big SELECT id, REPEAT('ä', n), REPEAT(x'00ff', n) FROM (SELECT 1 AS id, 700000 AS "
        "n UNION SELECT 2, 700000 UNION SELECT 3, 700000"
        " UNION SELECT 4, 700000 UNION SELECT 5, 3000000 UNION SELECT 6, 1) AS rows_",
    )
    database.sync_table(**big)
    config = worker_config(redis_server.port, [big], database.account)
    start_worker(config)
    commands = Commands(config, tmp_path)
    commands.done("resync")
    status, found = commands.verify()
    assert (status, found["rows"], found["different"], found["unsettled"]) == (0, 6, {}, 0)
    redis_server.client.hset("big:5", "b", "stale")
    status, found = commands.verify("--repair")
    assert (status, found["different"], found["remaining"]) == (0, {"stale": 1}, {})


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


def ready(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    directory: pathlib.Path,
    table: dict[str, Any],
) -> Commands:
    """This table with triggers and a worker, its rows in Redis, and nothing kept that would be applied
    again.
    """
    database.sync_table(**table)
    config = worker_config(redis_server.port, [table], database.account)
    start_worker(config)
    commands = Commands(config, directory)
    commands.done("resync")
    until(lambda: database.waiting, 0)
    return commands


CACHE: dict[str, Any] = {
    "table": "shop.cache",
    "delivery": "durable",
    "columns": ["id", "a"],
    "write": [{"type": "hash", "key": "cache:{id}", "ttl": 3600}],
}


@pytest.fixture
def cache(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> Commands:
    """A table of 200 rows, all keys of which have a time to live."""
    rows = ", ".join(f"({number}, {number})" for number in range(1, 201))
    database.execute(
        "CREATE TABLE shop.cache (id INT PRIMARY KEY, a INT) ENGINE=InnoDB",
        f"INSERT INTO shop.cache VALUES {rows}",
    )
    return ready(database, redis_server, start_worker, tmp_path, CACHE)


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


def test_a_key_of_another_unique_key_is_compared(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    database.execute(
        "CREATE TABLE shop.user (id INT PRIMARY KEY, email VARCHAR(50) NOT NULL UNIQUE) ENGINE=InnoDB",
        "INSERT INTO shop.user VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    commands = ready(
        database,
        redis_server,
        start_worker,
        tmp_path,
        {
            "table": "shop.user",
            "delivery": "durable",
            "columns": ["id", "email"],
            "write": [
                {"type": "hash", "key": "user:{id}"},
                {"type": "string", "key": "mail:{email}", "value": "{id}"},
            ],
        },
    )
    assert commands.verify()[0] == 0
    redis_server.client.delete("mail:a")
    redis_server.client.set("mail:b", "7")
    # This key does not name its row.
    redis_server.client.set("mail:gone", "9")
    status, found = commands.verify("--repair", "--prune")
    assert (status, found["different"], found["remaining"], found["complete"]) == (
        0,
        {"missing": 1, "stale": 1},
        {},
        False,
    )
    assert "mail:{email}" in found["not_compared"][0]
    assert redis_server.client.mget("mail:a", "mail:b", "mail:gone") == [b"1", b"2", b"9"]


def test_a_key_that_no_column_can_hold_is_its_own_fault_alone(
    table: OutboxDatabase,
    config: dict[str, Any],
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    table.execute(
        "CREATE TABLE shop.latin (name VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO shop.latin VALUES ('a'), ('b')",
        "CREATE TABLE shop.number (n INT PRIMARY KEY) ENGINE=InnoDB",
        "INSERT INTO shop.number VALUES (1)",
    )
    latin = {
        "table": "shop.latin",
        "delivery": "durable",
        "columns": ["name"],
        "write": [{"type": "hash", "key": "u:{name}"}],
    }
    number = {
        "table": "shop.number",
        "delivery": "durable",
        "columns": ["n"],
        "write": [{"type": "hash", "key": "other:{n}"}],
    }
    for each in (latin, number):
        table.sync_table(**each)
    config = {**config, "tables": [*config["tables"], latin, number]}
    commands = Commands(config, tmp_path)
    start_worker(config)
    commands.done("resync")
    until(lambda: table.waiting, 0)
    redis_server.client.hset("u:😀", "name", "x")
    redis_server.client.hset("u:gone", "name", "x")
    redis_server.client.hset("other:1e999", "n", "1")
    redis_server.client.hset("item:9999", "id", "1")
    status, output = commands.run("verify", "--json")
    found = {entry["table"]: entry for entry in json.loads(output)["tables"]}
    assert status == 1, output
    assert [found[name]["error"] for name in found] == [None] * 3
    assert [found[name]["different"].get("orphaned", 0) for name in ("shop.item", "shop.latin")] == [1, 1]
    assert not found["shop.latin"]["complete"]
    commands.run("verify", "--prune")
    # A key that cannot be looked up is not removed.
    assert redis_server.client.exists("u:😀", "u:gone", "item:9999") == 1


@pytest.mark.parametrize("spoil", ["DROP TABLE shop.late", "ALTER TABLE shop.late DROP COLUMN a", None])
def test_a_table_that_cannot_be_read_spoils_only_itself(
    loaded: Commands,
    table: OutboxDatabase,
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
    spoil: str | None,
) -> None:
    table.execute("CREATE TABLE shop.late (id INT PRIMARY KEY, a INT) ENGINE=InnoDB")
    late = {
        "table": "shop.late",
        "delivery": "durable",
        "columns": ["id", "a"],
        "write": [{"type": "hash", "key": "item:{id}:late"}],
    }
    table.sync_table(**late)
    config = worker_config(redis_server.port, [late, TABLE], table.account)
    if spoil is None:
        table.execute(
            "CREATE USER 'nosy'@'%' IDENTIFIED BY 'secret'",
            "GRANT ALL ON gearsync.* TO 'nosy'@'%'",
            "GRANT SELECT ON shop.item TO 'nosy'@'%'",
        )
        config["mysql"] = {**config["mysql"], "user": "nosy", "password": "secret"}
    else:
        table.execute(spoil)
    redis_server.client.hset("item:9:late", "id", "9")
    (tmp_path / "both").mkdir()
    commands = Commands(config, tmp_path / "both")
    for options in ([], ["--table", "shop.item"]):
        status, output = commands.run("verify", "--json", *options)
        found = {entry["table"]: entry for entry in json.loads(output.splitlines()[0])["tables"]}
        assert found["shop.item"]["equal"] is True, output
        assert found["shop.item"]["rows"] == 300
        assert status == (0 if options else 2)
        assert options or found["shop.late"]["error"]
    if spoil is None:
        table.execute("DROP USER 'nosy'@'%'")


def test_what_redis_refuses_to_show_of_one_table_affects_no_other(
    loaded: Commands,
    table: OutboxDatabase,
    config: dict[str, Any],
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
) -> None:
    table.execute(
        "CREATE TABLE shop.late (id INT PRIMARY KEY) ENGINE=InnoDB", "INSERT INTO shop.late VALUES (1)"
    )
    late = {
        "table": "shop.late",
        "delivery": "durable",
        "columns": ["id"],
        "write": [{"type": "hash", "key": "late:{id}"}],
    }
    table.sync_table(**late)
    redis_server.client.execute_command(
        "ACL",
        "SETUSER",
        "limited",
        "reset",
        "on",
        ">secret",
        "+@all",
        *(f"~{own}*" for own in ("item:", "doc:", "cell:", "by-", "gearsync:")),
    )
    (tmp_path / "all").mkdir()
    redis = {**config["redis"], "username": "limited", "password": "secret"}
    status, output = Commands(
        {**config, "redis": redis, "tables": [late, *config["tables"]]}, tmp_path / "all"
    ).run("verify", "--json")
    found = {entry["table"]: entry for entry in json.loads(output.splitlines()[0])["tables"]}
    assert (status, found["shop.item"]["equal"]) == (2, True), output
    assert "HMGET" in found["shop.late"]["error"]


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
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database.execute(
        "CREATE TABLE shop.pair (a VARCHAR(20), b VARCHAR(20), PRIMARY KEY (a, b)) ENGINE=InnoDB",
        "INSERT INTO shop.pair VALUES ('x', 'y')",
    )
    commands = ready(
        database,
        redis_server,
        start_worker,
        tmp_path,
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


def test_a_repair_does_no_harm_to_rows_that_change_meanwhile(
    loaded: Commands, table: OutboxDatabase, redis_server: RedisServer
) -> None:
    with writers(table, 300) as done:
        until(lambda: min(done) > 0)
        for start in (1, 2, 3):
            redis_server.client.delete(*(f"item:{number}" for number in range(start, 300, 3)))
            loaded.run("verify", "--repair", "--prune")
    status, found = loaded.verify()
    assert (status, found["different"]) == (0, {}), found


def test_a_table_that_is_not_declared_holds_up_no_other(
    loaded: Commands, table: OutboxDatabase, redis_server: RedisServer
) -> None:
    table.put(*[("insert", {"new": {"id": 1}})] * 3, shard=1, table="shop.undeclared")
    redis_server.client.delete("item:1")
    assert loaded.verify("--repair")[0] == 0
    loaded.done("resync", "--restart", "--max-depth", "2", "--chunk", "100")
    status, output = loaded.run("barrier", "--timeout", "0.1")
    assert status == 1
    assert "shop.undeclared" in output


def hold(database: OutboxDatabase, redis_server: RedisServer, way: str) -> tuple[dict[str, Any], str]:
    """A worker's configuration by which changes of shop.item are not applied, and the reason that is to
    be given.
    """
    redis = {"port": redis_server.port, "username": "limited", "password": "secret"}
    rights = ["-evalsha"] if way == "refused" else ["-hset"] if way == "held" else []
    if rights:
        redis_server.client.execute_command(
            "ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", *rights
        )
    config = worker_config(redis if rights else redis_server.port, [TABLE], database.account)
    return config, {
        "refused": "Redis refuses EVALSHA",
        "held": "Redis refuses HSET",
        "no worker": "check that a worker is running",
    }[way]


@pytest.mark.parametrize("way", ["refused", "held", "no worker"])
def test_what_is_not_applied_ends_verify_and_resync_with_the_table_and_the_reason(
    table: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
    way: str,
) -> None:
    config, reason = hold(table, redis_server, way)
    if way != "no worker":
        start_worker(config)
    commands = Commands(config, tmp_path)
    table.execute("UPDATE shop.item SET price = price + 1 WHERE id <= 20")
    status, output = commands.run("verify", "--settle", "0.5")
    assert (status, "changes of shop.item have been waiting" in output, reason in output) == (
        2,
        True,
        True,
    ), output
    # While the outbox holds more than it may, and when all is loaded.
    for options in (["--max-depth", "10", "--patience", "0.5"], ["--wait", "0.5"]):
        status, output = commands.run("resync", *options)
        assert (status, "changes of shop.item" in output, reason in output) == (1, True, True), output


def test_verify_names_what_is_wrong_with_its_arguments(commands: Commands) -> None:
    for words in (["--table", "shop.nosuch"], ["--sample", "0"]):
        status, output = commands.run("verify", *words)
        assert status == 2
        assert words[1] in output


@three_pieces
def test_a_resync_that_is_killed_continues_where_it_stopped(
    worker: Worker, commands: Commands, table: OutboxDatabase
) -> None:
    def progress() -> tuple[int, bool]:
        rows = table.execute("SELECT rows_done, finished_at IS NOT NULL FROM gearsync.resync")
        return (int(rows[0][0]), bool(rows[0][1])) if rows else (0, False)

    def advanced(rows: int) -> bool:
        now, finished = progress()
        return finished or now > rows

    chance, before, finished = random.Random(1), 0, False
    with writers(table, 3000):
        for _number in range(5):
            process = commands.start("resync", "--chunk", "50", "--rate", "1500")
            until(lambda rows=before: advanced(rows))
            # At any moment of its work.
            time.sleep(chance.uniform(0.0, 0.2))
            _kill(process, table)
            after, finished = progress()
            assert after >= before
            before = after
            if finished:
                break
        assert before > 0
        commands.done("resync")
    until(lambda: table.waiting, 0)
    assert commands.verify("--prune")[0] in (0, 1)
    assert commands.verify()[0] == 0


def _kill(process: Command, table: OutboxDatabase) -> None:
    """End a resync by force, and wait until the server has seen that: until then its lock stands."""
    process.kill()
    name = f"gearsync.resync.{hashlib.sha256(b'shop.item').hexdigest()[:32]}"
    until(lambda: table.execute(f"SELECT IS_FREE_LOCK('{name}')"), [(1,)])


def _begun(commands: Commands, table: OutboxDatabase) -> Command:
    """A resync that has loaded some rows, and continues so slowly that it does not end."""
    process = commands.start("resync", "--chunk", "50", "--rate", "10")
    until(lambda: table.execute("SELECT COUNT(*) FROM gearsync.resync WHERE rows_done > 0")[0][0], 1)
    return process


def _interrupt(commands: Commands, table: OutboxDatabase) -> int:
    """A resync that was killed on its way; after how many rows."""
    _kill(_begun(commands, table), table)
    ((rows,),) = table.execute("SELECT rows_done FROM gearsync.resync WHERE finished_at IS NULL")
    return int(rows)


def test_an_interrupted_resync_continues_and_reports_it(
    worker: Worker, commands: Commands, table: OutboxDatabase
) -> None:
    rows = _interrupt(commands, table)
    status, output = commands.run("resync", "--dry-run")
    assert f"continues after {rows:,} rows of the run of 20" in output
    status, output = commands.run("resync")
    assert (status, f"continues after {rows:,} rows of the run of 20" in output) == (0, True), output
    assert commands.verify()[0] == 0


def test_a_resync_from_before_a_loss_starts_over(
    worker: Worker, commands: Commands, table: OutboxDatabase, redis_server: RedisServer
) -> None:
    assert _interrupt(commands, table) > 0
    redis_server.client.flushall()
    status, output = commands.run("resync")
    assert (status, "starts over" in output, "Redis has lost its data" in output) == (0, True, True), output
    assert commands.verify()[0] == 0
    assert redis_server.client.keys("gearsync:*:resync:*") == []


def test_a_loss_while_a_resync_runs_has_it_start_over(
    worker: Worker, commands: Commands, table: OutboxDatabase, redis_server: RedisServer
) -> None:
    with _held_up(commands, table, 150) as process:
        redis_server.client.flushall()
    status, _output, errors = process.finish()
    assert (status, "starts over" in errors) == (0, True), errors
    assert commands.verify()[0] == 0


def test_a_resync_of_another_declaration_starts_over(
    worker: Worker, commands: Commands, table: OutboxDatabase, config: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    assert _interrupt(commands, table) > 0
    more = {**TABLE, "write": [*TABLE["write"], {"type": "hash", "key": "more:{id}"}]}
    (tmp_path / "more").mkdir()
    changed = Commands({**config, "tables": [more]}, tmp_path / "more")
    assert "the declaration has changed since" in changed.run("resync", "--dry-run")[1]
    commands.done("resync")
    assert commands.run("resync", "--new", "--dry-run") == (0, "")
    # A write over the same columns: nothing of it is in Redis yet.
    assert "shop.item" in changed.run("resync", "--new", "--dry-run")[1]


@three_pieces
def test_a_sparse_condition_is_looked_for_piece_by_piece(
    worker: Worker, commands: Commands, table: OutboxDatabase, redis_server: RedisServer
) -> None:
    output = commands.done("resync", "--where", "id IN (7, 2500)", "--chunk", "100")
    assert "done, 2 rows" in output
    assert sorted(redis_server.client.keys("item:*")) == [b"item:2500", b"item:7"]


def test_the_bytes_of_a_piece_are_bounded(table: OutboxDatabase) -> None:
    database = Database(MySQLSettings(**table.account), 120.0)
    rows, cut = database.rows_within("SELECT id, REPEAT('x', 1000) FROM shop.item ORDER BY id", 10_000)
    assert (len(rows), cut) == (10, True)
    # The rest was read, and is no answer to what comes next.
    assert database.rows("SELECT 7") == [(b"7",)]
    rows, cut = database.rows_within("SELECT id FROM shop.item ORDER BY id", 1 << 20)
    assert (len(rows), cut) == (300, False)
    database.close()


def test_resync_names_what_is_wrong_with_its_arguments(commands: Commands) -> None:
    for words, named in (
        (["--max-lag", "0"], "--max-lag"),
        (["--replica", "a:b:c"], "a:b:c"),
        (["--nice-ratio", "-1"], "--nice-ratio"),
        (["--nice-ratio", "nan"], "--nice-ratio"),
    ):
        status, output = commands.run("resync", *words)
        assert status == 1
        assert named in output


def test_a_load_of_some_rows_leaves_a_load_of_all_as_it_was(
    loaded: Commands, table: OutboxDatabase, redis_server: RedisServer
) -> None:
    def new() -> str:
        return loaded.run("resync", "--new", "--dry-run")[1]

    loaded.done("resync", "--restart")
    assert new() == ""
    loaded.done("resync", "--where", "id < 10")
    assert new() == ""
    # Interrupted half way: it continues where it stopped, whatever is loaded meanwhile.
    table.execute(
        "UPDATE gearsync.resync SET finished_at = NULL, position = '[\"100\"]', rows_done = 100, run = 'one'"
    )
    redis_server.client.set("gearsync:main:resync:shop.item", "one")
    loaded.done("resync", "--where", "id = 1")
    loaded.done("resync", "--json")
    assert [int(row[0]) for row in table.execute("SELECT rows_done FROM gearsync.resync")] == [300]
    # Taken out and declared again: what changed in between is not in Redis.
    table.sync_table(table="shop.item", state="absent")
    table.sync_table(**TABLE)
    assert "shop.item" in new()


@contextmanager
def _held_up(commands: Commands, table: OutboxDatabase, row: int) -> Iterator[Command]:
    """A resync that waits for a row until the end of the block."""
    with table.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute(f"UPDATE shop.item SET name = 'locked' WHERE id = {row}")
        process = commands.start("resync", "--chunk", "200", "--json")
        until(
            lambda: [int(rows[0]) for rows in table.execute("SELECT rows_done FROM gearsync.resync")],
            [row - 1],
        )
        yield process
        # A deadlock with the resync would be an error here, or there.
        cursor.execute(f"UPDATE shop.item SET name = 'earlier' WHERE id BETWEEN 1 AND {row + 100}")
        connection.commit()


def test_a_locked_row_holds_the_resync_up_and_never_the_writer(
    worker: Worker, commands: Commands, table: OutboxDatabase
) -> None:
    with _held_up(commands, table, 150) as process:
        # It still has its own lock: two of a table do not run at once.
        status, output = commands.run("resync")
        assert (status, "another resync of shop.item is running" in output) == (1, True)
    status, output, errors = process.finish()
    assert status == 0, errors
    assert json.loads(output.splitlines()[-1])["done"]
    until(lambda: table.waiting, 0)
    # Index entries of rows that changed before they were loaded were never written.
    assert commands.verify()[0] == 0


def test_one_command_brings_everything_back_after_redis_lost_all(
    loaded: Commands, redis_server: RedisServer
) -> None:
    redis_server.client.flushall()
    assert loaded.verify()[0] == 1
    loaded.done("resync")
    assert loaded.verify()[0] == 0


def test_only_tables_that_were_never_loaded_are_new(
    worker: Worker, commands: Commands, table: OutboxDatabase
) -> None:
    status, output = commands.run("resync", "--new", "--dry-run")
    assert status == 0
    assert output.startswith("shop.item: about ")
    assert commands.verify("--quick")[1]["different"]["missing"] > 0
    assert "300 rows" in commands.run("resync", "--new")[1]
    assert commands.run("resync", "--new", "--dry-run") == (0, "")
    assert commands.run("resync", "--new") == (0, "")
    # What is written under another declaration is another load.
    table.sync_table(**{**TABLE, "write": TABLE["write"][:2]})
    assert "300 rows" in commands.run("resync", "--new")[1]
    assert commands.run("resync", "--new") == (0, "")


@three_pieces
def test_a_quick_look_is_at_both_ends(loaded: Commands, redis_server: RedisServer) -> None:
    status, found = loaded.verify("--quick")
    assert (status, found["rows"], found["different"]) == (0, 2000, {})
    redis_server.client.delete("item:1", "item:1500", "item:3000")
    status, found = loaded.verify("--quick")
    assert (status, found["different"]) == (1, {"missing": 2})
    assert loaded.run("verify", "--quick", "--prune")[0] == 2


def test_without_a_durable_table_there_is_nothing_to_do(
    config: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    """The account of such a worker may not read the schema gearsync."""
    direct = {**config["tables"][0], "delivery": "direct"}
    commands = Commands(
        {**config, "mysql": {**config["mysql"], "user": "unknown"}, "tables": [direct]}, tmp_path
    )
    assert commands.run("verify") == (
        0,
        "nothing to compare: no table of the configuration has durable delivery\n",
    )
    status, output = commands.run("verify", "--json")
    assert (status, json.loads(output.splitlines()[0])["tables"]) == (0, [])
    assert commands.run("resync", "--new", "--dry-run") == (
        0,
        "nothing to load: no table of the configuration has durable delivery\n",
    )
    assert commands.run("verify", "--table", direct["table"])[0] == 2


@pytest.mark.parametrize("table", [599, 1500], indirect=True)
def test_a_quick_look_counts_a_row_once(loaded: Commands, table: OutboxDatabase) -> None:
    assert table.execute("SELECT COUNT(*) FROM shop.item") == [(loaded.verify("--quick")[1]["rows"],)]


def test_a_condition_and_a_sample_look_at_a_part(
    worker: Worker, commands: Commands, redis_server: RedisServer
) -> None:
    commands.done("resync", "--where", "id <= 10")
    assert len(redis_server.client.keys("item:*")) == 10
    status, found = commands.verify("--sample", "50")
    assert status == 1
    assert 100 < found["rows"] < 200


def test_keys_of_every_kind_are_walked_and_found(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    database.execute(
        "CREATE TABLE shop.odd (`when` DATETIME(3), `na``me` VARCHAR(20) COLLATE utf8mb4_general_ci, raw "
        "VARBINARY(4), kind ENUM('z', 'a', 'm'), f DOUBLE,"
        " text TEXT, PRIMARY KEY (`when`, `na``me`, raw, kind)) ENGINE=InnoDB"
    )
    names = ["a", "B", "c'\\", "ä", "😀", "", "%s", "a/b"]
    with database.connect() as connection, connection.cursor() as cursor:
        for number in range(400):
            cursor.execute(
                "INSERT INTO shop.odd VALUES (%s, %s, %s, %s, %s, %s)",
                (
                    f"2026-01-0{number % 3 + 1} 01:02:03.{number % 2}",
                    names[number % 8],
                    bytes([number % 256, 0, number // 256]),
                    "zam"[number % 3],
                    number / 3,
                    "x" * 9,
                ),
            )
    database.sync_table(**ODD)
    config = worker_config(redis_server.port, [ODD], database.account)
    start_worker(config)
    commands = Commands(config, tmp_path)
    commands.done("resync", "--chunk", "7")
    status, found = commands.verify()
    assert (status, found["rows"], found["different"]) == (0, 400, {})
    assert len(redis_server.client.keys("odd:*")) == 400
    key = redis_server.client.keys("odd:*")[0]
    redis_server.client.hset(key, "text", "stale")
    redis_server.client.rename(redis_server.client.keys("odd:*")[5], "odd:2030-01-01 00:00:00.000/x/y/z")
    status, found = commands.verify("--repair", "--prune")
    assert found["different"] == {"stale": 1, "missing": 1, "orphaned": 1}
    assert status == 0
    assert commands.verify()[0] == 0
