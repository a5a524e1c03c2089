# SPDX-License-Identifier: GPL-3.0-or-later
"""verify: what it finds different, compares and looks at; and its repairs."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config
from harness.writers import Writers


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


@pytest.mark.parametrize("table", [1100], indirect=True)
def test_verify_finds_nothing_wrong_while_writers_write(
    loaded: Commands, writing: Callable[[int], AbstractContextManager[Writers]]
) -> None:
    with writing(1100) as writers:
        until(lambda: min(writers.counts) > 0)
        status, found = loaded.verify()
    assert (status, found["different"]) == (0, {}), found
    assert loaded.verify()[0] == 0


def test_a_repair_does_no_harm_to_rows_that_change_meanwhile(
    loaded: Commands,
    redis_server: RedisServer,
    writing: Callable[[int], AbstractContextManager[Writers]],
) -> None:
    with writing(300) as writers:
        until(lambda: min(writers.counts) > 0)
        for start in (1, 2, 3):
            redis_server.client.delete(*(f"item:{number}" for number in range(start, 300, 3)))
            loaded.run("verify", "--repair", "--prune")
    status, found = loaded.verify()
    assert (status, found["different"]) == (0, {}), found


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


@pytest.mark.parametrize("table", [3000], indirect=True)
def test_a_quick_look_is_at_both_ends(loaded: Commands, redis_server: RedisServer) -> None:
    status, found = loaded.verify("--quick")
    assert (status, found["rows"], found["different"]) == (0, 2000, {})
    redis_server.client.delete("item:1", "item:1500", "item:3000")
    status, found = loaded.verify("--quick")
    assert (status, found["different"]) == (1, {"missing": 2})
    assert loaded.run("verify", "--quick", "--prune")[0] == 2


@pytest.mark.parametrize("table", [599, 1500], indirect=True)
def test_a_quick_look_counts_a_row_once(loaded: Commands, table: OutboxDatabase) -> None:
    assert table.execute("SELECT COUNT(*) FROM shop.item") == [(loaded.verify("--quick")[1]["rows"],)]


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


def test_verify_names_what_is_wrong_with_its_arguments(commands: Commands) -> None:
    for words in (["--table", "shop.nosuch"], ["--sample", "0"]):
        status, output = commands.run("verify", *words)
        assert status == 2
        assert words[1] in output


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
