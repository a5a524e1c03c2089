# SPDX-License-Identifier: GPL-3.0-or-later
"""verify where a server, a table or a part of Redis cannot be read: it is reported and hides nothing else."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.worker import Worker


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


@pytest.mark.parametrize("spoil", ["DROP TABLE shop.late", "ALTER TABLE shop.late DROP COLUMN a", None])
def test_a_table_that_cannot_be_read_spoils_only_itself(
    loaded: Commands,
    table: OutboxDatabase,
    config: dict[str, Any],
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
    *,
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
    config["tables"] = [late, *config["tables"]]
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


def hold(config: dict[str, Any], redis_server: RedisServer, way: str) -> tuple[dict[str, Any], str]:
    """The configuration of a worker by which changes of shop.item are not applied, and the reason that is to
    be given.
    """
    redis = {"port": redis_server.port, "username": "limited", "password": "secret"}
    rights = ["-evalsha"] if way == "refused" else ["-hset"] if way == "held" else []
    if rights:
        redis_server.client.execute_command(
            "ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", *rights
        )
    return {**config, **({"redis": redis} if rights else {})}, {
        "refused": "Redis refuses EVALSHA",
        "held": "Redis refuses HSET",
        "no worker": "check that a worker is running",
    }[way]


@pytest.mark.parametrize("way", ["refused", "held", "no worker"])
def test_what_is_not_applied_ends_verify_and_resync_with_the_table_and_the_reason(
    table: OutboxDatabase,
    config: dict[str, Any],
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
    *,
    way: str,
) -> None:
    config, reason = hold(config, redis_server, way)
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
