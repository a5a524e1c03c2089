# SPDX-License-Identifier: GPL-3.0-or-later
"""What a resync does beside writers when it stands still, when the table gets another declaration, and
with rows and keys of every kind.
"""

from __future__ import annotations

import pathlib
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.outbox import reloads, synced_table
from gearsync.servers.mysql import Database
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

ITEM: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "a"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}


@pytest.fixture
def table(database: OutboxDatabase) -> OutboxDatabase:
    """A table that had 2,000 rows before it was synced."""
    rows = ", ".join(f"({number}, 0)" for number in range(1, 2001))
    database.execute(
        "CREATE TABLE shop.item (id INT PRIMARY KEY, a INT) ENGINE=InnoDB",
        f"INSERT INTO shop.item VALUES {rows}",
    )
    database.sync_table(**ITEM)
    return database


@pytest.fixture
def config(table: OutboxDatabase, redis_server: RedisServer) -> dict[str, Any]:
    return worker_config(redis_server.port, [ITEM], table.account)


@pytest.fixture
def commands(config: dict[str, Any], tmp_path: pathlib.Path) -> Commands:
    return Commands(config, tmp_path)


def test_a_resync_that_is_frozen_at_any_moment_holds_up_no_write(
    table: OutboxDatabase, commands: Commands, config: dict[str, Any], start_worker: Any
) -> None:
    chance = random.Random(1)
    process = commands.start("resync", "--chunk", "20", "--nice-ratio", "0")
    until(lambda: table.execute("SELECT COUNT(*) FROM gearsync.resync WHERE rows_done > 0")[0][0], 1)
    with table.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
        for number in range(1, 21):
            process.signal(signal.SIGSTOP)
            cursor.execute("UPDATE shop.item SET a = %s", (number,))
            process.signal(signal.SIGCONT)
            time.sleep(chance.uniform(0.0, 0.01))
    start_worker(config)
    status, _output, errors = process.finish()
    assert status == 0, errors
    assert commands.verify()[0] == 0


def test_a_table_that_is_divided_anew_while_it_is_loaded_has_no_old_row(
    table: OutboxDatabase,
    commands: Commands,
    redis_server: RedisServer,
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
) -> None:
    start_worker(config)
    process = commands.start("resync", "--chunk", "20", "--rate", "400")
    until(lambda: table.execute("SELECT COUNT(*) FROM gearsync.resync WHERE rows_done > 0")[0][0], 1)
    table.sync_table(**ITEM, shards=3)
    table.execute("UPDATE shop.item SET a = 1 WHERE id MOD 3 = 0")
    status, output, errors = process.finish()
    assert (status, "declaration of shop.item has changed" in errors, "2,000 rows" in output) == (
        0,
        True,
        True,
    ), (output, errors)
    assert commands.verify()[0] == 0
    assert redis_server.client.hget("item:1998", "a") == b"1"


def test_a_table_whose_columns_change_while_it_is_loaded_is_loaded_anew(
    table: OutboxDatabase,
    commands: Commands,
    redis_server: RedisServer,
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
) -> None:
    start_worker(config)
    process = commands.start("resync", "--chunk", "20", "--rate", "400")
    until(lambda: table.execute("SELECT COUNT(*) FROM gearsync.resync WHERE rows_done > 0")[0][0], 1)
    table.execute("ALTER TABLE shop.item ADD COLUMN b INT NOT NULL DEFAULT 7")
    more = {**ITEM, "columns": ["id", "a", "b"]}
    table.sync_table(**more)
    start_worker({**config, "tables": [more]})
    status, output, errors = process.finish()
    assert (status, "starts over" in errors, "2,000 rows" in output) == (0, True, True), (output, errors)
    until(lambda: redis_server.client.hget("item:1", "b"), b"7")


def test_a_resync_whose_rows_become_dead_letters_reports_them_and_fails(
    table: OutboxDatabase,
    commands: Commands,
    redis_server: RedisServer,
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
) -> None:
    for number in range(1, 31):
        redis_server.client.set(f"item:{number}", "of another type")
    # What cannot be applied is a dead letter only when it is deleted, which comes behind.
    config["worker"]["keep"] = 2.0
    start_worker(config)
    status, output = commands.run("resync")
    assert (status, "shop.item: 30 changes became dead letters" in output, "dead-letter list" in output) == (
        1,
        True,
        True,
    ), output
    redis_server.client.delete(*[f"item:{number}" for number in range(1, 31)])
    # Those of an earlier run are none of this one.
    commands.done("resync")
    assert commands.verify()[0] == 0


def _shards_of(database: OutboxDatabase, name: str, kind: str, values: list[str]) -> list[tuple[int, int]]:
    """For each value of a key of this type the shard of the trigger's change, and of one that the worker
    makes of it.
    """
    declaration = {
        "table": f"shop.{name}",
        "delivery": "durable",
        "columns": ["k"],
        "write": [{"type": "hash", "key": name + ":{k}"}],
        "shards": 64,
    }
    database.execute(f"CREATE TABLE shop.{name} (k {kind} NOT NULL PRIMARY KEY) ENGINE=InnoDB")
    database.sync_table(**declaration)
    for value in values:
        database.execute("SET SESSION sql_mode = ''", f"INSERT INTO shop.{name} VALUES ({value})")
    connection, found = Database(MySQLSettings(**database.account), 60.0), []
    made = synced_table.load(connection)[f"shop.{name}"]
    for number, shard, payload in database.execute(
        f"SELECT id, shard, payload FROM gearsync.outbox WHERE table_name = 'shop.{name}'"
    ):
        reloads.enqueue_reload(connection, made, [made.row(payload.encode())])
        ((other,),) = database.execute(
            f"SELECT shard FROM gearsync.outbox WHERE id > {number} AND operation = 'reload' ORDER BY id "
            "DESC LIMIT 1"
        )
        found.append((int(shard), int(other)))
    connection.close()
    return found


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        *[
            (f"TIMESTAMP({digits})", ["'2026-01-01 10:11:12.123456'", "'2026-07-01 00:00:00'"])
            for digits in range(7)
        ],
        ("DATETIME(2)", ["'2026-01-01 10:11:12.12'"]),
        ("DOUBLE", ["-0e0", "0.1", "1e30", "-2.5", "1e-7"]),
        ("DECIMAL(8,3)", ["1.5", "-0.001"]),
        ("ENUM('x', 'ö')", ["'ö'"]),
        ("SET('a', 'b')", ["'a,b'"]),
        ("INT(6) ZEROFILL", ["42"]),
        ("BIT(9)", ["b'100000001'"]),
        ("VARCHAR(20) CHARACTER SET latin1", ["'äöß'", "'a '"]),
        ("BINARY(4)", ["x'00ff'"]),
        ("TIME(1)", ["'-10:00:00.5'"]),
        ("BIGINT", ["-7"]),
    ],
)
def test_a_change_that_the_worker_makes_goes_to_the_shard_of_the_triggers(
    database: OutboxDatabase, kind: str, values: list[str]
) -> None:
    found = _shards_of(database, "keyed", kind, values)
    assert len(found) == len(values)
    assert [mine for mine, _theirs in found] == [theirs for _mine, theirs in found]


@pytest.mark.parametrize(
    "keys",
    [
        ("ENUM('z', 'a')", ["'z'", "'a'"]),
        ("SET('x', 'y')", ["'x'", "'x,y'", "''"]),
        ("DOUBLE", ["-0e0", "1.5"]),
        ("TIMESTAMP(2)", ["'2026-01-01 10:11:12.12'"]),
        ("VARBINARY(4)", ["x'00ff'"]),
    ],
)
def test_large_rows_with_keys_of_every_kind_are_loaded(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
    keys: tuple[str, list[str]],
) -> None:
    kind, values = keys
    large = {
        "table": "shop.large",
        "delivery": "durable",
        "columns": ["k", "t"],
        "write": [{"type": "hash", "key": "large:{k}"}, {"type": "list", "key": "log", "value": "{k}"}],
    }
    database.execute(f"CREATE TABLE shop.large (k {kind} NOT NULL PRIMARY KEY, t LONGTEXT) ENGINE=InnoDB")
    for value in values:
        database.execute(
            f"INSERT INTO shop.large VALUES ({value}, REPEAT('x', @@max_allowed_packet DIV 8 + 1))"
        )
    database.sync_table(**large)
    config = worker_config(redis_server.port, [large], database.account)
    start_worker(config)
    Commands(config, tmp_path).done("resync")
    found = redis_server.client.keys("large:*")
    assert len(found) == len(values)
    assert {redis_server.client.hstrlen(key, "t") for key in found} == {(64 << 20) // 8 + 1}
    # A row that is loaded is no change of it.
    assert redis_server.client.exists("log") == 0
