# SPDX-License-Identifier: GPL-3.0-or-later
"""What a resync loads: all, some rows, what is new, and everything after a loss."""

from __future__ import annotations

from typing import Any

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.servers.mysql import Database
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.worker import Worker


@pytest.mark.parametrize("table", [1100], indirect=True)
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


def test_one_command_brings_everything_back_after_redis_lost_all(
    loaded: Commands, redis_server: RedisServer
) -> None:
    redis_server.client.flushall()
    assert loaded.verify()[0] == 1
    loaded.done("resync")
    assert loaded.verify()[0] == 0


def test_only_tables_that_were_never_loaded_are_new(
    worker: Worker, commands: Commands, table: OutboxDatabase, config: dict[str, Any]
) -> None:
    status, output = commands.run("resync", "--new", "--dry-run")
    assert status == 0
    assert output.startswith("shop.item: about ")
    assert commands.verify("--quick")[1]["different"]["missing"] > 0
    assert "300 rows" in commands.run("resync", "--new")[1]
    assert commands.run("resync", "--new", "--dry-run") == (0, "")
    assert commands.run("resync", "--new") == (0, "")
    # What is written under another declaration is another load.
    (declared,) = config["tables"]
    table.sync_table(**{**declared, "write": declared["write"][:2]})
    assert "300 rows" in commands.run("resync", "--new")[1]
    assert commands.run("resync", "--new") == (0, "")


def test_a_load_of_some_rows_leaves_a_load_of_all_as_it_was(
    loaded: Commands, table: OutboxDatabase, redis_server: RedisServer, config: dict[str, Any]
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
    table.sync_table(**config["tables"][0])
    assert "shop.item" in new()


def test_a_condition_and_a_sample_look_at_a_part(
    worker: Worker, commands: Commands, redis_server: RedisServer
) -> None:
    commands.done("resync", "--where", "id <= 10")
    assert len(redis_server.client.keys("item:*")) == 10
    status, found = commands.verify("--sample", "50")
    assert status == 1
    assert 100 < found["rows"] < 200


@pytest.mark.parametrize("table", [3000], indirect=True)
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
