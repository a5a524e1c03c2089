# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line on a host of several sources, each with a database and a worker of its own."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from harness.commands import Commands
from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config


def _table(source: str) -> dict[str, Any]:
    return {
        "table": "shop.item",
        "delivery": "durable",
        "columns": ["id", "name"],
        "write": [{"type": "hash", "key": f"{source}:item:{{id}}"}],
    }


@pytest.fixture(scope="module")
def session_second() -> Iterator[OutboxDatabase]:
    with OutboxDatabase("--skip-log-bin") as server:
        yield server


@pytest.fixture
def second(session_second: OutboxDatabase) -> OutboxDatabase:
    session_second.reset()
    return session_second


@pytest.fixture
def databases(database: OutboxDatabase, second: OutboxDatabase) -> dict[str, OutboxDatabase]:
    return {"orders": database, "users": second}


@pytest.fixture
def commands(
    databases: dict[str, OutboxDatabase],
    redis_server: RedisServer,
    gearmand: Gearmand,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> Commands:
    """Of a host with the sources orders and users, which have a row each, in Redis, and a worker."""
    directory = tmp_path / "configurations"
    directory.mkdir()
    for source, server in databases.items():
        server.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(100)) ENGINE=InnoDB")
        server.sync_table(**_table(source))
        config = worker_config(redis_server.port, [_table(source)], server.account, gearmand.address)
        config["source"] = source
        (directory / f"{source}.yml").write_text(yaml.safe_dump(config))
        start_worker(config)
        server.execute(f"INSERT INTO shop.item VALUES (1, '{source}')")
        until(lambda source=source: redis_server.client.exists(f"{source}:item:1"), 1)  # type: ignore[misc]
    commands = Commands({}, tmp_path)
    commands.configuration = ["--config-dir", str(directory)]
    return commands


def _lines(output: str, *beginnings: str) -> list[str]:
    """The lines that begin so, without what they count."""
    return [line.partition(" (")[0] for line in output.splitlines() if line.startswith(beginnings)]


def test_each_source_is_shown_compared_and_tested_under_its_name(
    commands: Commands, redis_server: RedisServer
) -> None:
    until(lambda: commands.run("status")[0], 0)
    orders, users = _lines(commands.done("status"), "source ")
    assert orders.startswith("source orders  ")
    assert users.startswith("source users  ")
    answer = json.loads(commands.done("status", "--json"))
    assert answer["status"] == 0
    assert [(name, each["ok"], each["source"]) for name, each in answer["sources"].items()] == [
        ("orders", True, "orders"),
        ("users", True, "users"),
    ]
    assert _lines(commands.done("selftest"), "source ", "FAILED") == ["source orders", "source users"]

    redis_server.client.hset("users:item:1", "name", "another")
    status, output = commands.run("verify")
    assert status == 1
    assert _lines(output, "source ", "shop.item") == [
        "source orders",
        "shop.item: equal",
        "source users",
        "shop.item: 1 stale",
    ]
    status, output = commands.run("verify", "--json", "--repair")
    answer = json.loads(output)
    assert (status, answer["status"]) == (0, 0)
    assert [each["tables"][0]["repaired"] for each in answer["sources"].values()] == [0, 1]


def test_one_source_answers_as_it_does_on_a_host_of_its_own(commands: Commands) -> None:
    for source in ("orders", "users"):
        until(lambda source=source: commands.run("status", "--source", source)[0], 0)  # type: ignore[misc]
        answer = json.loads(commands.done("status", "--json", "--source", source))
        assert (answer["source"], answer["ok"]) == (source, True)
        status, table = commands.verify("--source", source)
        assert (status, table["equal"]) == (0, True)
        assert commands.done("barrier", "--source", source).startswith("ok: ")
        assert "source" not in commands.done("selftest", "--source", source)
    status, output = commands.run("barrier")
    assert (status, output.endswith("give --source, one of orders, users\n")) == (2, True)


def test_a_configuration_that_cannot_be_used_is_named_and_spoils_no_other(commands: Commands) -> None:
    directory = pathlib.Path(commands.configuration[-1])
    (directory / "shop.yml").mkdir()
    (directory / "main.yml").write_text((directory / "users.yml").read_text())
    (directory / "orders.yml~").write_text("")
    until(lambda: commands.run("status", "--source", "users")[0], 0)
    status, output = commands.run("status")
    assert status == 2
    assert [line[:14].rstrip() for line in _lines(output, "source ")] == [
        "source main",
        "source orders",
        "source shop",
        "source users",
    ]
    assert "source: users is not main, the name of the file" in output
    assert f"{directory}/shop.yml: Is a directory" in output
    status, output = commands.run("status", "--json")
    answer = json.loads(output)
    assert (status, answer["status"]) == (2, 2)
    assert answer["sources"]["shop"] == {"error": f"{directory}/shop.yml: Is a directory"}
    assert (answer["sources"]["orders"]["ok"], answer["sources"]["users"]["ok"]) == (True, True)

    status, output = commands.run("verify")
    assert status == 2
    assert _lines(output, "source ", "shop.item") == [
        "source main",
        "source orders",
        "shop.item: equal",
        "source shop",
        "source users",
        "shop.item: equal",
    ]
    assert commands.run("verify", "--json")[0] == 2
    assert commands.run("selftest")[0] == 2


def test_a_database_that_is_down_spoils_no_other(commands: Commands, second: OutboxDatabase) -> None:
    until(lambda: commands.run("status")[0], 0)
    second.kill()
    status, output = commands.run("status", "--json")
    answer = json.loads(output)
    assert (status, answer["status"]) == (1, 1)
    assert (answer["sources"]["orders"]["ok"], answer["sources"]["users"]["ok"]) == (True, False)
    status, output = commands.run("verify", "--json")
    answer = json.loads(output[: output.rindex("}") + 1])
    assert (status, answer["status"]) == (2, 2)
    assert (answer["sources"]["orders"]["equal"], answer["sources"]["users"]["equal"]) == (True, False)
    assert commands.run("selftest")[0] == 1
