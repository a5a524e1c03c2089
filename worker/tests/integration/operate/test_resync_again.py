# SPDX-License-Identifier: GPL-3.0-or-later
"""A resync that is killed or delayed on its way, and what makes it start over."""

from __future__ import annotations

import hashlib
import json
import pathlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from harness.commands import Command, Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker
from harness.writers import Writers


@pytest.mark.parametrize("table", [3000], indirect=True)
def test_a_resync_that_is_killed_continues_where_it_stopped(
    worker: Worker,
    commands: Commands,
    table: OutboxDatabase,
    writing: Callable[[int], AbstractContextManager[Writers]],
) -> None:
    def progress() -> tuple[int, bool]:
        rows = table.execute("SELECT rows_done, finished_at IS NOT NULL FROM gearsync.resync")
        return (int(rows[0][0]), bool(rows[0][1])) if rows else (0, False)

    def advanced(rows: int) -> bool:
        now, finished = progress()
        return finished or now > rows

    chance, before, finished = random.Random(1), 0, False
    with writing(3000):
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


def _interrupt(commands: Commands, table: OutboxDatabase) -> int:
    """A resync that is killed after some rows, which it loads so slowly that it does not end; how many."""
    process = commands.start("resync", "--chunk", "50", "--rate", "10")
    until(lambda: table.execute("SELECT COUNT(*) FROM gearsync.resync WHERE rows_done > 0")[0][0], 1)
    _kill(process, table)
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
    (declared,) = config["tables"]
    more = {**declared, "write": [*declared["write"], {"type": "hash", "key": "more:{id}"}]}
    (tmp_path / "more").mkdir()
    changed = Commands({**config, "tables": [more]}, tmp_path / "more")
    assert "the declaration has changed since" in changed.run("resync", "--dry-run")[1]
    commands.done("resync")
    assert commands.run("resync", "--new", "--dry-run") == (0, "")
    # A write over the same columns: nothing of it is in Redis yet.
    assert "shop.item" in changed.run("resync", "--new", "--dry-run")[1]


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
