# SPDX-License-Identifier: GPL-3.0-or-later
"""The table shop.item in every shape: its changes, clients that write it, and what Redis must then hold."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import pymysql

from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until

ITEM: dict[str, Any] = {
    "table": "shop.item",
    "columns": ["id", "name", "price"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "json", "key": "doc:{id}", "ttl": 3600},
        {"type": "set", "key": "by-name:{name}", "member": "{id}"},
        {"type": "zset", "key": "by-price", "member": "{id}", "score": "{price}"},
        {"type": "string", "key": "price:{id}", "value": "{price}"},
        {"type": "string", "key": "cell:{id}:{column}"},
    ],
}
LOGS: dict[str, Any] = {
    "table": "shop.log",
    "columns": ["id", "name"],
    "write": [
        {"type": "list", "key": "log", "value": "{id}"},
        {"type": "stream", "key": "changes"},
        {"type": "list", "key": "names", "value": "{name}"},
    ],
}


def insert(number: int, name: str = "x", price: float = 1) -> tuple[str, Any]:
    return "insert", {"new": {"id": number, "name": name, "price": price}}


def update(number: int, old: str, new: str) -> tuple[str, Any]:
    return "update", {
        "new": {"id": number, "name": new, "price": 1},
        "old": {"id": number, "name": old, "price": 1},
    }


def shop(database: OutboxDatabase, shards: int = 4) -> None:
    """The table with the triggers that users get."""
    database.execute(
        "CREATE TABLE IF NOT EXISTS shop.item (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(100), price "
        "DECIMAL(10,2)) CHARACTER SET utf8mb4"
    )
    database.sync_table(**ITEM, shards=shards)


class ShopWriters:
    """Connections that insert, update and delete rows of a table through triggers, until they are stopped
    or have done so many transactions.
    """

    KEYS = 40

    def __init__(
        self,
        database: OutboxDatabase,
        count: int = 4,
        rollback: float = 0.3,
        transactions: int = 0,
        pause: float = 0.01,
    ) -> None:
        self.database = database
        self.rollback = rollback
        self.transactions = transactions
        self.pause = pause
        self.stopping = threading.Event()
        self.errors: list[Exception] = []
        self._counts = [0] * count
        self.threads = [threading.Thread(target=self._write, args=(number,)) for number in range(count)]
        for thread in self.threads:
            thread.start()

    def _write(self, number: int) -> None:
        chance = random.Random(number)
        connection, finished = None, 0
        while not self.stopping.is_set() and not 0 < self.transactions <= finished:
            try:
                connection = connection or self.database.connect(autocommit=False)
                with connection.cursor() as cursor:
                    for _ in range(chance.randint(1, 4)):
                        cursor.execute(self._statement(chance, f"w{number}-{finished}"))
                (connection.rollback if chance.random() < self.rollback else connection.commit)()
                finished += 1
                self._counts[number] = finished
            except (pymysql.err.OperationalError, pymysql.err.InterfaceError) as error:
                # Deadlocks between the writers, and a server that was killed: either way the transaction ends
                # with its connection.
                if connection is not None and connection.open:
                    connection.close()
                connection = None
                if error.args[0] not in (1213, 1205):
                    time.sleep(0.05)
            except Exception as error:  # a writer that dies silently would test nothing
                self.errors.append(error)
                raise
            time.sleep(self.pause)
        if connection is not None:
            connection.close()

    def _statement(self, chance: random.Random, name: str) -> str:
        key = chance.randrange(self.KEYS)
        return chance.choice(
            [
                f"REPLACE INTO shop.item VALUES ({key}, '{name}', {chance.randrange(100)})",
                (
                    f"INSERT INTO shop.item VALUES ({key}, '{name}', 1) ON DUPLICATE KEY UPDATE name = "
                    "VALUES(name)"
                ),
                f"UPDATE shop.item SET name = '{name}' WHERE id IN ({key}, {(key + 1) % self.KEYS})",
                f"DELETE FROM shop.item WHERE id = {key}",
            ]
        )

    @property
    def done(self) -> int:
        """Transactions in all."""
        return sum(self._counts)

    def join(self) -> None:
        for thread in self.threads:
            thread.join()
        assert self.errors == []

    def stop(self) -> None:
        """Stop after the transactions that are open."""
        self.stopping.set()
        self.join()

    def go_on(self, transactions: int = 50) -> None:
        """Wait until they have done so many more."""
        wanted = self.done + transactions
        until(lambda: self.errors or self.done >= wanted)


def drained(database: OutboxDatabase) -> None:
    until(lambda: database.waiting, 0)


def assert_equal(database: OutboxDatabase, redis_server: RedisServer) -> None:
    """Redis holds for the table what MySQL holds, in every shape, and nothing else."""
    drained(database)
    r: Any = redis_server.client
    rows = {
        str(key).encode(): (name.encode(), str(price).encode())
        for key, name, price in database.execute("SELECT id, name, price FROM shop.item")
    }
    assert {key[5:]: (r.hget(key, "name"), r.hget(key, "price")) for key in r.keys("item:*")} == rows
    assert set(r.keys("by-name:*")) == {b"by-name:" + name for name, _ in rows.values()}
    assert {member for key in r.keys("by-name:*") for member in r.smembers(key)} == set(rows)
    assert dict(r.zrange("by-price", 0, -1, withscores=True)) == {
        key: float(price) for key, (_, price) in rows.items()
    }
    assert {key[6:]: r.get(key) for key in r.keys("price:*")} == {
        key: price for key, (_, price) in rows.items()
    }
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []
