# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys in Redis verify compares with rows, and takes for a table's own."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

ODD: dict[str, Any] = {
    "table": "shop.odd",
    "delivery": "durable",
    "columns": ["when", "na`me", "raw", "kind", "f", "text"],
    "write": [{"type": "hash", "key": "odd:{when}/{na`me}/{raw}/{kind}", "distinct": True}],
}


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


def test_a_key_of_another_unique_key_is_compared(
    database: OutboxDatabase,
    redis_server: RedisServer,
    ready: Callable[[dict[str, Any]], Commands],
) -> None:
    database.execute(
        "CREATE TABLE shop.user (id INT PRIMARY KEY, email VARCHAR(50) NOT NULL UNIQUE) ENGINE=InnoDB",
        "INSERT INTO shop.user VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    commands = ready(
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
