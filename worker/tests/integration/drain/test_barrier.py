# SPDX-License-Identifier: GPL-3.0-or-later
"""The barrier's answers: whether everything that was committed is in Redis, and what is missing."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.outbox.barrier import Barrier
from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox
from gearsync.servers import mysql as edge
from harness.commands import Commands
from harness.gearmand import Gearmand
from harness.inner_drain import InnerDrain
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import ITEM, drained, insert
from harness.waiting import until
from harness.worker import Worker


@pytest.fixture
def inner(
    config: dict[str, Any],
    gearmand: Gearmand,
    database: OutboxDatabase,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[InnerDrain]:
    # A worker waits for ten seconds; this one, within the test, for less.
    monkeypatch.setattr("gearsync.apply.drain.Barrier", lambda outbox, applied: Barrier(outbox, applied, 0.2))
    inner = InnerDrain({**config, "tables": [ITEM]}, gearmand, database)
    yield inner
    inner.close()


def test_a_barrier_reports_what_is_missing(inner: InnerDrain, database: OutboxDatabase) -> None:
    database.put(insert(1), insert(2), table="shop.unknown", shard=3)
    answer = inner.barrier()
    assert (answer["ok"], answer["missing"]) == (False, {"shop.unknown": 2})


def test_a_barrier_looks_after_the_ids_that_are_applied(
    inner: InnerDrain, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(*[insert(number) for number in range(1, 6)])
    inner.until(lambda: database.waiting == 0)
    inner.database.asked.clear()
    # Deleted rows that an open snapshot keeps are not scanned.
    assert inner.barrier()["ok"]
    asked = [
        sql for sql in inner.database.asked if "MAX(id)" in sql or "looked_at" in sql or "MIN(id)" in sql
    ]
    assert [sql.partition("WHERE ")[2] for sql in asked] == ["id >= 6"]
    # Changes that are not applied are still found, before those that are.
    database.put(insert(6), table="shop.unknown")
    redis_server.client.set("item:7", "not a hash")
    database.put(*[insert(number) for number in (7, 8)])
    inner.until(lambda: bool(redis_server.client.exists("item:8")))
    answer = inner.barrier()
    assert (answer["ok"], answer["missing"]["shop.unknown"]) == (False, 1)
    inner.until(lambda: database.waiting == 1)
    database.put(insert(9))
    assert inner.barrier()["missing"] == {"shop.unknown": 1}


def test_a_barrier_reports_changes_that_became_dead_letters(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
) -> None:
    connection = edge.Database(MySQLSettings(**database.account), 120.0)
    redis_server.client.set("item:1", "not a hash")
    database.put(insert(1), insert(2))
    question = Barrier(Outbox(connection), Spans, 3600.0)
    assert question.look() is None
    start_worker(config)
    drained(database)
    answer = question.look()
    connection.close()
    assert answer is not None
    assert (answer["ok"], answer["dead"], "missing" in answer) == (False, 1, False)
    # Earlier dead letters do not count.
    assert json.loads(Commands(config, tmp_path).done("barrier", "--json"))["ok"] is True


def test_a_barrier_waits_until_what_cannot_be_applied_is_a_dead_letter(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
) -> None:
    config["worker"]["keep"] = 2.0
    redis_server.client.set("item:1", "not a hash")
    start_worker(config)
    database.put(insert(1), insert(2))
    until(lambda: redis_server.client.exists("item:2"), 1)
    status, output = Commands(config, tmp_path).run("barrier", "--json")
    answer = json.loads(output)
    assert (status, answer["ok"], answer["dead"], "missing" in answer) == (1, False, 1, False)


def test_the_selftest_reports_whether_the_schema_can_be_used(
    config: dict[str, Any], database: OutboxDatabase, tmp_path: pathlib.Path
) -> None:
    commands = Commands(config, tmp_path)
    assert "ok: MySQL" in commands.run("selftest")[1]
    database.execute("DROP TABLE gearsync.dead_letter")
    status, output = commands.run("selftest")
    assert status == 1
    assert "dead_letter" in next(line for line in output.splitlines() if line.startswith("FAILED: MySQL"))


def test_the_command_barrier_needs_no_job_server(
    worker: Worker,
    config: dict[str, Any],
    database: OutboxDatabase,
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
) -> None:
    commands = Commands(config, tmp_path)
    database.put(*[insert(number) for number in range(2000)])
    # The one command here that is a process of its own, as for users.
    status, output, _errors = commands.start("barrier", "--json").finish()
    assert status == 0
    assert json.loads(output)["ok"] is True
    assert redis_server.client.exists(*[f"item:{number}" for number in range(2000)]) == 2000
    redis_server.stop()
    database.put(insert(1))
    status, output = commands.run("barrier", "--timeout", "0.5")
    assert status == 1
    assert "the changes that wait are unknown" in output
    database.kill()
    status, output = commands.run("barrier", "--timeout", "0.2", "--json")
    assert status == 1
    assert "the changes that wait are unknown" in json.loads(output)["error"]
