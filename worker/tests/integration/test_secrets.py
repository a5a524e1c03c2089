# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of rows and arguments of commands are in no log, whatever a server answers."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable
from harness.commands import Commands
from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase
from harness.ports import free_port
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

SECRET = "correct-horse-battery"
USER: dict[str, Any] = {
    "table": "shop.account",
    "delivery": "durable",
    "columns": ["id", "password"],
    "write": [
        {"type": "hash", "key": "account:{id}"},
        {"type": "set", "key": "by:{password}", "member": "{id}"},
    ],
}


@pytest.fixture(params=["one", "cluster"])
def settings(request: pytest.FixtureRequest) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Starts a Redis that does not know a command; returns the worker's settings for it."""
    started: list[RedisServer] = []

    def start(command: str) -> dict[str, Any]:
        clustered = request.param == "cluster"
        started.append(
            RedisServer(
                "--rename-command",
                command,
                "",
                *(["--cluster-enabled", "yes", "--cluster-port", str(free_port())] if clustered else []),
            )
        )
        server = started[0]
        if not clustered:
            return {"port": server.port}
        server.client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        until(lambda: server.client.cluster("INFO")["cluster_state"], "ok")
        return {"cluster": [f"127.0.0.1:{server.port}"]}

    yield start
    for server in started:
        server.remove()


@pytest.mark.parametrize("command", ["EVALSHA", "SADD"])
def test_a_command_that_redis_does_not_know_is_named_by_selftest_and_brings_no_value_into_the_log(
    settings: Callable[[str], dict[str, Any]],
    database: OutboxDatabase,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
    command: str,
) -> None:
    database.execute("CREATE TABLE shop.account (id INT PRIMARY KEY, password VARCHAR(40)) ENGINE=InnoDB")
    database.sync_table(**USER)
    config = worker_config(settings(command), [USER], database.account)
    worker = start_worker(config)
    database.execute(f"INSERT INTO shop.account VALUES (1, '{SECRET}')")
    worker.says("action=redis_lost" if command == "EVALSHA" else "action=table_held")
    assert SECRET not in worker.said
    assert database.waiting == 1
    commands = Commands(config, tmp_path)
    status, output = commands.run("selftest")
    assert status != 0
    assert command in output
    assert SECRET not in commands.run("status")[1]


def test_a_command_that_redis_does_not_know_brings_no_value_of_a_job_into_the_log(
    gearmand: Gearmand, settings: Callable[[str], dict[str, Any]], start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(worker_config(settings("SET"), [], job_server=gearmand.address))
    gearmand.submit("syncToRedis", json.dumps({"password": SECRET}).encode())
    # A cluster's client cannot find the slot of an unknown command: that is not an error of the job.
    until(lambda: "action=refused" in worker.said or "action=redis_lost" in worker.said)
    assert SECRET not in worker.said


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "INSERT INTO shop.one VALUES ('{}', 1)",
            "error 1062: Duplicate entry '…'|error 1062: Duplicate entry …",
        ),
        ("INSERT INTO shop.one VALUES ('x', '{}')", "error 1366: Incorrect integer value: …"),
        ("SELECT '{}' FROM", "error 1064"),
        ("SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not {}'", "error 1644"),
        ("SELECT * FROM shop.absent WHERE '{}' = ''", "Table 'shop.absent' doesn't exist"),
    ],
)
def test_an_error_of_the_database_contains_no_value(
    database: OutboxDatabase, statement: str, message: str
) -> None:
    database.execute(
        "CREATE TABLE shop.one (a VARCHAR(40) PRIMARY KEY, b INT) ENGINE=InnoDB",
        f"INSERT INTO shop.one VALUES ('{SECRET}', 1)",
    )
    account = {
        name: value for name, value in database.account.items() if name in ("host", "port", "unix_socket")
    }
    connection = Database(MySQLSettings(user="root", **account), 60.0)
    try:
        with pytest.raises(DatabaseUnavailable) as error:
            connection.run(statement.format(SECRET))
        assert SECRET not in str(error.value)
        assert any(part in str(error.value) for part in message.split("|"))
    finally:
        connection.close()
