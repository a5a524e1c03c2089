# SPDX-License-Identifier: GPL-3.0-or-later
"""verify and resync, on a table whose triggers the collection has made, beside a worker."""

from __future__ import annotations

import pathlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config
from harness.writers import Writers

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


@pytest.fixture
def table(database: OutboxDatabase, request: pytest.FixtureRequest) -> OutboxDatabase:
    """A table that had rows before it was synced: 300, or the number in the test's parameter.

    All walks take a thousand rows at a time: more than that are several pieces.
    """
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


@pytest.fixture
def ready(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> Callable[[dict[str, Any]], Commands]:
    """A function that gives a table triggers and a worker, and has its rows in Redis and nothing kept that
    would be applied again.
    """

    def make(table: dict[str, Any]) -> Commands:
        database.sync_table(**table)
        config = worker_config(redis_server.port, [table], database.account)
        start_worker(config)
        commands = Commands(config, tmp_path)
        commands.done("resync")
        until(lambda: database.waiting, 0)
        return commands

    return make


@pytest.fixture
def writing(table: OutboxDatabase) -> Callable[[int], AbstractContextManager[Writers]]:
    """A function: four writers for the length of a ``with``, with all kinds of changes to so many rows."""

    @contextmanager
    def write(rows: int) -> Iterator[Writers]:
        chances = [random.Random(number) for number in range(4)]

        def change(cursor: Any, writer: int, _number: int) -> None:
            chance = chances[writer]
            row = chance.randrange(1, rows + 50)
            cursor.execute(
                chance.choice(
                    [
                        (
                            f"UPDATE shop.item SET name = CONCAT('w', {chance.randrange(9)}), "
                            f"price = price + 1 WHERE id = {row}"
                        ),
                        f"REPLACE INTO shop.item VALUES ({row}, 'r{writer}', {chance.randrange(100)})",
                        f"DELETE FROM shop.item WHERE id = {row}",
                        f"UPDATE IGNORE shop.item SET id = id + 1 WHERE id = {row}",
                    ]
                )
            )
            # A worker on a busy machine must be able to follow.
            time.sleep(0.05)

        with Writers(table, len(chances), change) as writers:
            yield writers
        assert writers.errors == []

    return write
