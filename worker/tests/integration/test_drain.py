# SPDX-License-Identifier: GPL-3.0-or-later
"""Durable delivery with real servers: the outbox in MariaDB, the worker as a process, Redis; all of them
are killed.
"""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pymysql
import pytest
from gearsync.apply.drain import Drain, Servers
from gearsync.apply.fences import Fences
from gearsync.declare.configuration import Config, MySQLSettings
from gearsync.outbox.barrier import Barrier
from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox
from gearsync.servers import mysql as edge
from gearsync.servers.gearman import JobServers
from gearsync.servers.redis import ServerTarget
from gearsync.telemetry.metrics import Tally
from harness.commands import Commands
from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase, collection
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

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


@pytest.fixture
def config(database: OutboxDatabase, redis_server: RedisServer) -> dict[str, Any]:
    """A worker without a job server: it looks for changes by itself."""
    return worker_config(redis_server.port, [ITEM, LOGS], database.account, log_level="debug", sweep=0.25)


@pytest.fixture
def worker(config: dict[str, Any], start_worker: Callable[..., Worker]) -> Worker:
    return start_worker(config)


def drained(database: OutboxDatabase) -> None:
    until(lambda: database.waiting, 0)


# What is written for a row


def test_a_row_is_written_in_every_shape_changed_and_taken_away(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    r = redis_server.client
    database.put(insert(7, "Zoë \N{GRINNING FACE}", 1.50), insert(8, "other"))
    drained(database)
    name = "Zoë \N{GRINNING FACE}".encode()
    assert r.hgetall("item:7") == {b"id": b"7", b"name": name, b"price": b"1.5"}
    assert json.loads(r.get("doc:7")) == {"id": 7, "name": name.decode(), "price": 1.5}
    assert 0 < r.ttl("doc:7") <= 3600
    assert r.smembers(b"by-name:" + name) == {b"7"}
    assert r.zrange("by-price", 0, -1, withscores=True) == [(b"8", 1.0), (b"7", 1.5)]
    assert r.mget("price:7", "cell:7:id", "cell:7:price") == [b"1.5", b"7", b"1.5"]

    old = {"id": 7, "name": "Zoë \N{GRINNING FACE}", "price": 1.5}
    database.put(("update", {"old": old, "new": {"id": 7, "name": None, "price": {"$num": "2.00"}}}))
    drained(database)
    assert r.hgetall("item:7") == {b"id": b"7", b"price": b"2.00"}
    assert r.exists(b"by-name:" + name, "cell:7:name") == 0
    assert r.get("price:7") == b"2.00"

    database.put(("delete", {"old": {"id": 7, "name": None, "price": 2}}))
    drained(database)
    assert not [key for key in r.keys("*7*") if not key.startswith(b"gearsync:")]
    assert r.zrange("by-price", 0, -1) == [b"8"]


def test_values_arrive_byte_for_byte(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    binary = bytes(range(256))
    database.put(
        (
            "insert",
            {"new": {"id": 18446744073709551615, "name": {"$hex": binary.hex()}, "price": {"$num": "-0.10"}}},
        ),
        (
            "insert",
            '{"new": {"id": 2, "name": "a\\u0000\\"\\\\", "price": 123456789012345678901234567890.10}}',
        ),
    )
    drained(database)
    assert redis_server.client.hgetall("item:18446744073709551615") == {
        b"id": b"18446744073709551615",
        b"name": binary,
        b"price": b"-0.10",
    }
    assert redis_server.client.smembers(b"by-name:" + binary) == {b"18446744073709551615"}
    assert redis_server.client.hgetall("item:2") == {
        b"id": b"2",
        b"name": b'a\0"\\',
        b"price": b"123456789012345678901234567890.10",
    }


def test_large_values_are_drained_a_few_at_a_time(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    for number in range(6):
        database.put(("insert", {"new": {"id": number, "name": str(number) * 5_000_000, "price": None}}))
    drained(database)
    assert [redis_server.client.strlen(f"cell:{number}:name") for number in range(6)] == [5_000_000] * 6


def test_of_many_changes_the_last_one_shows(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(insert(1, "n0"), *[update(1, f"n{number}", f"n{number + 1}") for number in range(2999)])
    drained(database)
    assert redis_server.client.hget("item:1", "name") == b"n2999"
    assert redis_server.client.keys("by-name:*") == [b"by-name:n2999"]


def test_what_waits_of_a_table_that_was_durable_before_is_applied(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    database.put(insert(1, "a"), insert(2, "b"))
    start_worker({**config, "tables": [{**ITEM, "delivery": "direct"}]})
    drained(database)
    # Its triggers write on until they are replaced.
    database.put(update(1, "a", "c"))
    drained(database)
    assert redis_server.client.hmget("item:1", "name") + redis_server.client.hmget("item:2", "name") == [
        b"c",
        b"b",
    ]
    assert redis_server.client.smembers("by-name:c") == {b"1"}


def test_without_drainers_nothing_is_applied(
    config: dict[str, Any], start_worker: Callable[..., Worker], database: OutboxDatabase
) -> None:
    database.put(insert(1))
    worker = start_worker({**config, "worker": {**config["worker"], "drainers": 0}})
    worker.says("action=started")
    # The only process is the one that takes jobs.
    assert len(worker.children) == 1
    assert database.waiting == 1
    assert not database.execute("SELECT owner FROM gearsync.worker")


# What cannot be applied


def test_changes_that_cannot_be_applied_are_dead_letters_and_hold_up_no_other(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    wrong: list[tuple[str, Any, str]] = [
        ("insert", "no JSON", "invalid payload"),
        ("insert", "", "invalid payload"),
        ("insert", "{}", "without 'new'"),
        ("drop", "{}", "'drop'"),
        ("delete", {"old": {"name": "x"}}, "'id'"),
        ("insert", {"new": {"id": [1]}}, "'id'"),
        ("reload", {"key": {"id": 1}}, "synced_table"),
    ]
    # Each beside changes that can be applied, in one batch and in another one.
    for number, (operation, payload, _message) in enumerate(wrong):
        database.put(insert(2 * number), (operation, payload), insert(2 * number + 1))
    drained(database)
    assert redis_server.client.exists(*[f"item:{number}" for number in range(2 * len(wrong))]) == 2 * len(
        wrong
    )
    letters = database.execute(
        "SELECT operation, payload, table_name, error FROM gearsync.dead_letter ORDER BY id"
    )
    assert [letter[:3] for letter in letters] == [
        (operation, payload if isinstance(payload, str) else json.dumps(payload), "shop.item")
        for operation, payload, _message in wrong
    ]
    for (_operation, _payload, message), (*_change, error) in zip(wrong, letters):
        assert message in error
    worker.says("action=dead_letter")


def test_a_key_of_another_type_makes_a_dead_letter_of_its_own_change_only(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    redis_server.client.set("item:1", "not a hash")
    database.put(insert(0), insert(1), insert(2))
    drained(database)
    assert redis_server.client.get("item:1") == b"not a hash"
    assert redis_server.client.exists("item:0", "item:2") == 2
    ((number, error),) = database.execute("SELECT id, error FROM gearsync.dead_letter")
    assert number == 2
    assert "WRONGTYPE" in error


def test_of_shards_that_are_written_together_each_has_what_is_its_own(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    """A change that Redis refuses affects no other change, whatever its shard, and nothing is appended
    twice.
    """
    trail = {
        "table": "shop.trail",
        "delivery": "durable",
        "columns": ["id"],
        "write": [{"type": "list", "key": "trail", "value": "{id}"}],
    }
    redis_server.client.set("item:7", "another application's")
    for shard in (7, 8):
        database.put(insert(shard), shard=shard)
        database.put(insert(shard + 100), shard=shard, table="shop.trail")
    start_worker({**config, "tables": [*config["tables"], trail]})
    drained(database)
    ((shard, table, error),) = database.execute("SELECT shard, table_name, error FROM gearsync.dead_letter")
    assert (shard, table) == (7, "shop.item")
    assert "WRONGTYPE" in str(error)
    assert redis_server.client.hget("item:8", "name") == b"x"
    assert sorted(redis_server.client.lrange("trail", 0, -1)) == [b"107", b"108"]


def test_a_column_that_an_older_trigger_did_not_send_is_left_out(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(insert(1, "kept", 5))
    drained(database)
    database.put(("update", {"new": {"id": 1, "price": 6}, "old": {"id": 1, "name": "kept", "price": 5}}))
    drained(database)
    # The hash and the sorted set have all that they need; the set's key cannot be rendered, and only that
    # write is left out.
    r = redis_server.client
    assert r.hgetall("item:1") == {b"id": b"1", b"name": b"kept", b"price": b"6"}
    assert (r.zscore("by-price", "1"), r.get("price:1"), r.smembers("by-name:kept")) == (6.0, b"6", {b"1"})
    # A change that no write can use is not a change of that table.
    database.put(("update", {"new": {"other": 1}, "old": {"other": 2}}))
    drained(database)
    ((error,),) = database.execute("SELECT error FROM gearsync.dead_letter")
    assert "is missing" in error


def test_a_table_that_the_worker_does_not_know_waits_and_delays_no_other(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    worker = start_worker({**config, "worker": {**config["worker"], "batch": 10}})
    database.put(*[insert(number) for number in range(30)], table="shop.later")
    database.put(*[insert(number) for number in range(30)])
    until(lambda: database.waiting, 30)
    assert redis_server.client.exists(*[f"item:{number}" for number in range(30)]) == 30
    worker.says("action=undeclared_table")
    assert worker.terminate() == 0
    start_worker(
        {
            **config,
            "tables": [
                ITEM,
                {"table": "shop.later", "columns": ["id"], "write": [{"type": "hash", "key": "later:{id}"}]},
            ],
        }
    )
    drained(database)
    assert redis_server.client.exists(*[f"later:{number}" for number in range(30)]) == 30
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


# Reload and transform


def synced(database: OutboxDatabase) -> None:
    """A table that reloads can read, with the SQL that sync_table stores for such a table."""
    database.execute(
        "CREATE TABLE shop.item (id BIGINT UNSIGNED PRIMARY KEY, name LONGTEXT, price DECIMAL(10,2)) "
        "CHARACTER SET utf8mb4",
        "INSERT INTO gearsync.synced_table (table_name, source_schema, source_table, shards, key_columns, "
        "small_sql, large_columns, shard_sql, row_sql, old_sql, large_sql, triggers) VALUES"
        """ ('shop.item', 'shop', 'item', 1, '[{"declared": "id", "real": "id", "kind": "integer"}]',"""
        """ 'JSON_OBJECT(''id'', gearsync_row.`id`, ''price'', gearsync_row.`price`)',"""
        """ '[{"declared": "name", "kind": "text", "sql": "CONVERT(gearsync_row.`name` USING utf8mb4)"}]',"""
        " '', '', '', '', '{}')",
    )


def test_a_reload_writes_the_row_as_it_is_or_removes_it(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    synced(database)
    r = redis_server.client
    database.put(insert(1, "old"), insert(2, "gone"))
    drained(database)
    database.execute("INSERT INTO shop.item VALUES (1, REPEAT('new', 100000), 2.50)")
    database.put(
        *[
            ("reload", {"key": {"id": number}, "old": {"id": number, "name": name, "price": 1}})
            for number, name in ((1, "old"), (2, "gone"))
        ]
    )
    drained(database)
    assert r.hgetall("item:1") == {b"id": b"1", b"name": b"new" * 100000, b"price": b"2.50"}
    assert r.exists("by-name:old", "item:2", "by-name:gone", "doc:2") == 0
    assert r.zrange("by-price", 0, -1) == [b"1"]


def test_after_a_reload_no_earlier_state_shows(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    # The reload reads the row's last state while earlier changes wait after the end of the batch.
    synced(database)
    database.execute("INSERT INTO shop.item VALUES (1, 'n40', 1)")
    database.put(
        ("reload", {"key": {"id": 1}}), *[update(1, f"n{number}", f"n{number + 1}") for number in range(40)]
    )
    pubsub = redis_server.client.pubsub()
    redis_server.client.config_set("notify-keyspace-events", "Kh")
    pubsub.psubscribe("__keyspace@0__:item:1")
    start_worker({**config, "worker": {**config["worker"], "batch": 5}})
    drained(database)
    redis_server.client.publish("__keyspace@0__:item:1", "the end")
    seen = set()
    while b"the end" not in seen:
        message = pubsub.get_message(timeout=180)
        assert message is not None
        seen |= {message["data"]} if message["type"] == "pmessage" else set()
    pubsub.close()
    assert seen == {b"hset", b"the end"}
    assert redis_server.client.hget("item:1", "name") == b"n40"
    # One batch: the hash was written once.
    assert redis_server.client.keys("by-name:*") == [b"by-name:n40"]


TRANSFORM = """
import os, sys, time

def shout(row, table):
    pause = os.environ.get("PAUSE", "/nonexistent")
    while os.path.exists(pause):
        open(pause + ".seen", "w").close()
        time.sleep(0.01)
    if row["name"] == "secret":
        return None
    if row["name"] == "bad":
        raise ValueError("no " + row["name"])
    if row["name"] == "exit":
        sys.exit(3)
    if row["name"] == "half":
        raise ValueError("half a pair: \\udcff")
    row["loud"] = f"{row['name']}!".upper()
    return row
"""


@pytest.fixture
def shouting(config: dict[str, Any], tmp_path: pathlib.Path) -> dict[str, Any]:
    """A configuration with a transform."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/gearsync_test_hook.py").write_text(TRANSFORM)
    table = {
        "table": "shop.item",
        "columns": ["id", "name", "price"],
        "transform": "gearsync_test_hook:shout",
        "computed": ["loud"],
        "write": [
            {"type": "hash", "key": "item:{id}"},
            {"type": "set", "key": "loud:{loud}", "member": "{id}"},
        ],
    }
    return {
        **config,
        "worker": {**config["worker"], "python_path": str(tmp_path / "hooks")},
        "tables": [table],
    }


def test_a_transform_adds_columns_leaves_rows_out_and_its_errors_are_dead_letters(
    shouting: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    r = redis_server.client
    worker = start_worker(shouting)
    database.put(
        insert(1, "one"),
        insert(2, "secret"),
        insert(3, "bad"),
        insert(4, "four"),
        insert(5, "exit"),
        insert(6, "half"),
    )
    drained(database)
    assert r.hgetall("item:1") == {b"id": b"1", b"name": b"one", b"price": b"1", b"loud": b"ONE!"}
    assert r.smembers("loud:FOUR!") == {b"4"}
    assert r.exists("item:2", "item:3", "item:5", "item:6") == 0
    assert database.execute("SELECT error FROM gearsync.dead_letter ORDER BY id") == [
        ("the transform raised ValueError: no bad",),
        ("the transform raised SystemExit: 3",),
        ("the transform raised ValueError: half a pair: ?",),
    ]
    assert "action=process_died" not in worker.said
    assert "no bad" not in worker.said

    database.put(update(1, "one", "uno"), update(4, "four", "secret"), update(2, "secret", "open"))
    drained(database)
    assert set(r.keys("loud:*")) == {b"loud:UNO!", b"loud:OPEN!"}
    assert r.exists("item:4") == 0
    assert r.hget("item:2", "loud") == b"OPEN!"


# Servers and processes that die


class Writers:
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
                        key = chance.randrange(self.KEYS)
                        name = f"w{number}-{finished}"
                        cursor.execute(
                            chance.choice(
                                [
                                    (
                                        f"REPLACE INTO shop.item VALUES ({key}, '{name}', "
                                        f"{chance.randrange(100)})"
                                    ),
                                    (
                                        f"INSERT INTO shop.item VALUES ({key}, '{name}', 1) ON DUPLICATE KEY "
                                        "UPDATE name = VALUES(name)"
                                    ),
                                    (
                                        f"UPDATE shop.item SET name = '{name}' WHERE id IN ({key}, "
                                        f"{(key + 1) % self.KEYS})"
                                    ),
                                    f"DELETE FROM shop.item WHERE id = {key}",
                                ]
                            )
                        )
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


def shop(database: OutboxDatabase, shards: int = 4) -> None:
    """The table with the triggers that users get."""
    database.execute(
        "CREATE TABLE IF NOT EXISTS shop.item (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(100), price "
        "DECIMAL(10,2)) CHARACTER SET utf8mb4"
    )
    database.sync_table(**ITEM, shards=shards)


def assert_equal(database: OutboxDatabase, redis_server: RedisServer) -> None:
    """Redis holds for the table what MySQL holds, in every shape, and nothing else."""
    drained(database)
    r = redis_server.client
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


def test_a_rolled_back_change_is_never_applied(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    shop(database)
    writers = Writers(database, rollback=0.5, transactions=100, pause=0.0)
    writers.join()
    assert writers.done == 400
    assert_equal(database, redis_server)


def test_kill_9_of_the_worker_loses_and_invents_nothing(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    shop(database)
    worker = start_worker({**config, "worker": {**config["worker"], "batch": 100, "lease": 5.0}})
    writers = Writers(database, pause=0.02)
    taken = 0
    for _ in range(int(os.environ.get("GEARSYNC_TEST_KILLS", "8"))):
        # It drains again once it has the leases of the killed one.
        worker.says("action=lease_taken", times=taken + 1)
        # At any time of its work.
        time.sleep(random.uniform(0.0, 0.3))
        worker.kill()
        taken = worker.said.count("action=lease_taken")
        database.expire_leases()
        worker.start()
    writers.stop()
    assert_equal(database, redis_server)


def test_a_paused_worker_that_wakes_after_its_lease_is_refused(
    shouting: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
) -> None:
    pause = tmp_path / "pause"
    pause.touch()
    first = start_worker(shouting, {"PAUSE": str(pause)})
    database.put(insert(1, "older"))
    # It is paused within the transform, in the middle of a batch.
    until((tmp_path / "pause.seen").exists)
    first.pause()
    database.expire_leases()
    second = start_worker(shouting)
    second.says("action=lease_taken")
    drained(database)
    database.put(update(1, "older", "newer"))
    drained(database)
    assert redis_server.client.hget("item:1", "loud") == b"NEWER!"
    pause.unlink()
    first.resume()
    first.says("action=stale_batch_refused")
    first.says("action=lease_lost")
    assert redis_server.client.hget("item:1", "loud") == b"NEWER!"
    assert redis_server.client.keys("loud:*") == [b"loud:NEWER!"]
    database.put(update(1, "newer", "newest"))
    drained(database)
    assert redis_server.client.hget("item:1", "loud") == b"NEWEST!"


def test_paused_workers_under_load_write_nothing_stale(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    def drainers() -> set[int]:
        owners = database.execute(
            "SELECT DISTINCT owner FROM gearsync.lease WHERE owner IS NOT NULL AND expires_at > NOW(6)"
        )
        return {int(owner.split(":")[1]) for (owner,) in owners}

    shop(database)
    # The shortest lease: each process may lose its leases to the other at any time, without a visible effect.
    config["worker"]["lease"] = 1.0
    workers = [start_worker(config), start_worker(config)]
    writers = Writers(database)
    for number in range(2):
        paused, other = workers[number % 2], workers[1 - number % 2]
        # Both are in the middle of a batch.
        until(lambda: len(drainers()) == 2)
        writers.go_on()
        paused.pause()
        until(lambda other=other: drainers() and drainers() <= set(other.children))
        writers.go_on()
        paused.resume()
    writers.stop()
    assert_equal(database, redis_server)


def test_redis_may_be_down_for_a_while(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    shop(database)
    writers = Writers(database)
    writers.go_on()
    redis_server.stop()
    worker.says("action=redis_lost ")
    writers.go_on()
    redis_server.start()
    worker.says("action=redis_back")
    writers.go_on()
    writers.stop()
    assert_equal(database, redis_server)


def test_the_worker_waits_for_a_redis_without_memory(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    redis_server.client.config_set("maxmemory", 1)
    database.put(insert(1))
    worker.says("OOM")
    assert database.waiting == 1
    redis_server.client.config_set("maxmemory", 0)
    drained(database)
    assert redis_server.client.exists("item:1") == 1
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_the_worker_waits_for_missing_rights_in_redis(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    r = redis_server.client
    r.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "+@all")
    worker = start_worker(
        {**config, "redis": {"port": redis_server.port, "username": "worker", "password": "secret"}}
    )
    for number, (missing, what) in enumerate(
        [
            ("resetkeys ~item:* ~gearsync:*", "table_held"),
            ("-zadd", "table_held"),
            ("-hset", "redis_lost "),
            ("-evalsha -eval", "table_held"),
            ("resetkeys ~item:*", "table_held"),
        ]
    ):
        over = what.replace("held", "back").replace("lost ", "back")
        name, lost, back = (
            f"name{number}",
            worker.said.count(f"action={what}"),
            worker.said.count(f"action={over}"),
        )
        r.execute_command("ACL", "SETUSER", "worker", *missing.split())
        database.put(insert(number, name))
        worker.says(f"action={what}", times=lost + 1)
        assert database.waiting == 1
        r.execute_command("ACL", "SETUSER", "worker", "~*", "+@all")
        drained(database)
        assert r.exists(f"item:{number}", f"doc:{number}", f"by-name:{name}", "by-price") == 4
        worker.says(f"action={over}", times=back + 1)
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_mysqld_may_be_killed(worker: Worker, database: OutboxDatabase, redis_server: RedisServer) -> None:
    shop(database)
    # Without a connection there is none to lose.
    database.execute("INSERT INTO shop.item VALUES (1000000, 'first', 1)")
    drained(database)
    writers = Writers(database)
    writers.go_on()
    database.kill()
    worker.says("action=mysql_lost")
    database.start()
    writers.go_on()
    writers.stop()
    assert_equal(database, redis_server)
    worker.says("action=mysql_back")


def test_a_schema_of_the_first_release_is_drained_before_and_after_its_migration(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(insert(1))
    drained(database)
    database.execute(
        "ALTER TABLE gearsync.outbox DROP PRIMARY KEY, ADD PRIMARY KEY (shard, id), ADD KEY id (id)"
    )
    for number in range(2, 5):
        database.put(*[insert(10 * number + row) for row in range(5)], shard=number)
    database.put(update(1, "x", "y"))
    drained(database)
    database.execute(*collection("_migrations").MIGRATIONS[4])
    database.put(update(1, "y", "z"), insert(2))
    drained(database)
    assert redis_server.client.hget("item:1", "name") == b"z"
    assert (
        redis_server.client.exists(
            "item:2", *[f"item:{10 * number + row}" for number in range(2, 5) for row in range(5)]
        )
        == 16
    )
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_everything_may_come_up_in_any_order(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    database.execute("DROP DATABASE gearsync")
    redis_server.stop()
    database.kill()
    worker = start_worker(config)
    worker.says("action=mysql_lost")
    database.start()
    worker.says("the schema does not exist yet")
    assert worker.said.count("the schema does not exist yet") == 1
    database.reset()
    database.put(insert(1))
    worker.says("action=redis_lost ")
    redis_server.start()
    drained(database)
    assert redis_server.client.exists("item:1") == 1


def test_a_redis_that_has_lost_its_data_is_reported(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.put(insert(1))
    drained(database)
    redis_server.client.flushall()
    database.put(insert(2))
    drained(database)
    worker.says("action=redis_lost_data")
    assert redis_server.client.exists("item:2") == 1


def test_a_restored_database_with_an_older_epoch_is_drained(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    redis_server.client.hset("gearsync:main:fence:0", "epoch", 1000)
    database.put(insert(1))
    drained(database)
    worker.says("action=epoch_raised")
    assert redis_server.client.hget("gearsync:main:fence:0", "epoch") == b"1001"
    assert database.execute("SELECT epoch FROM gearsync.lease WHERE shard = 0") == [(1001,)]
    assert redis_server.client.exists("item:1") == 1


@pytest.mark.parametrize("way", ["made anew", "a backup is restored"])
def test_reused_ids_are_other_changes(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
    way: str,
) -> None:
    r = redis_server.client
    config["worker"]["keep"] = 3600.0
    worker = start_worker(config)
    database.put(*[insert(number) for number in range(1, 4)], table="shop.log")
    until(lambda: r.llen("log"), 3)
    # The fence records them as applied, since they are still in the outbox.
    worker.kill()
    database.expire_leases()
    if way == "made anew":
        database.reset()
    else:
        # The backup is of the time when only the first one existed.
        database.execute(
            "DELETE FROM gearsync.outbox WHERE id > 1", "ALTER TABLE gearsync.outbox AUTO_INCREMENT = 2"
        )
    database.put(*[insert(number) for number in range(11, 14)], table="shop.log")
    assert {number for (number,) in database.execute("SELECT id FROM gearsync.outbox")} >= {2, 3}
    start_worker(config)
    until(lambda: r.xlen("changes"), 6)
    assert r.lrange("log", 0, -1) == [b"%d" % number for number in (1, 2, 3, 11, 12, 13)]
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_lists_and_streams_are_appended_once_over_a_crash_between_redis_and_mysql(
    worker: Worker, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    r = redis_server.client
    put = [("insert", {"new": {"id": number, "name": f"n{number}"}}) for number in range(50)]
    database.put(*put[:20], table="shop.log")
    drained(database)
    assert r.llen("log") == 20
    for number in (1, 2):
        with database.connect(autocommit=False) as blocker, blocker.cursor() as cursor:
            # The deletion waits for the rows; what is applied meanwhile stays.
            worker.pause()
            database.put(*put[10 * number + 10 : 10 * number + 20], table="shop.log")
            cursor.execute("SELECT * FROM gearsync.outbox FOR UPDATE")
            worker.resume()
            until(lambda: r.llen("log"), 9 * number + 21)  # one was deleted in each earlier round
            worker.kill()
        database.put(("delete", {"old": {"id": number, "name": f"n{number}"}}), table="shop.log")
        database.expire_leases()
        worker.start()
        drained(database)
    assert r.lrange("log", 0, -1) == [str(number).encode() for number in range(40) if number not in (1, 2)]
    assert r.lrange("names", 0, -1) == [f"n{number}".encode() for number in range(40) if number not in (1, 2)]
    assert [fields[b"event"] for _, fields in r.xrange("changes")].count(b"insert") == 40
    assert [fields[b"event"] for _, fields in r.xrange("changes")].count(b"delete") == 2
    # The fence does not grow.
    database.put(*put[40:41], table="shop.log")
    drained(database)
    database.put(*put[41:42], table="shop.log")
    drained(database)
    until(lambda: set(r.hkeys("gearsync:main:fence:0")), {b"epoch", b"number", b"created"})


def test_shards_that_are_written_together_are_appended_to_once_however_often_the_worker_is_killed(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    """Few changes in each shard all the time: most of a worker's life is in their transaction, between
    Redis and the commit for much of it.
    """
    shards = range(6, 10)
    lists = {
        "table": "shop.log",
        "columns": ["shard", "id"],
        "write": [{"type": "list", "key": "list:{shard}", "value": "{id}"}],
    }
    worker = start_worker({**config, "tables": [lists]})
    stopping = threading.Event()
    written = dict.fromkeys(shards, 0)

    def write() -> None:
        while not stopping.wait(0.01):
            for shard in shards:
                database.put(
                    ("insert", {"new": {"shard": shard, "id": written[shard]}}), shard=shard, table="shop.log"
                )
                written[shard] += 1

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        for _ in range(6):
            length = redis_server.client.llen("list:6")
            until(lambda before=length: redis_server.client.llen("list:6") > before + 5)
            # At any time of its work.
            time.sleep(random.uniform(0.0, 0.2))
            worker.kill()
            database.expire_leases()
            worker.start()
    finally:
        stopping.set()
        writer.join()
    drained(database)
    for shard in shards:
        assert redis_server.client.lrange(f"list:{shard}", 0, -1) == [
            str(number).encode() for number in range(written[shard])
        ]


# Shards


def test_processes_share_the_shards_and_give_them_back(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    def owners() -> list[int]:
        return sorted(
            number
            for (number,) in database.execute(
                "SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL GROUP BY owner"
            )
        )

    shop(database, shards=8)
    # Short, since the leases of the killed process must expire.
    config["worker"]["lease"] = 3.0
    first = start_worker({**config, "worker": {**config["worker"], "drainers": 2}})
    until(owners, [4, 4])
    second = start_worker(config)
    database.execute(*[f"INSERT INTO shop.item VALUES ({number}, 'x', 1)" for number in range(100)])
    # Shards are released after a batch.
    until(lambda: [database.execute("UPDATE shop.item SET price = price + 1"), owners()][1], [2, 3, 3])
    second.kill()
    until(owners, [4, 4])
    assert first.terminate() == 0
    assert database.execute("SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL") == [(0,)]
    until(lambda: database.execute("SELECT COUNT(*) FROM gearsync.worker WHERE expires_at > NOW(6)"), [(0,)])
    second.start()
    assert_equal(database, redis_server)


def test_another_number_of_shards_keeps_the_order(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
) -> None:
    """Changes in the shards of the former generation come first, whichever process drains them and when."""
    shop(database, shards=4)
    database.execute(
        "INSERT INTO shop.item VALUES (1, 'first', 1), (2, 'first', 1)",
        "UPDATE shop.item SET name = 'second'",
    )
    shop(database, shards=2)
    database.execute("UPDATE shop.item SET name = 'third'", "DELETE FROM shop.item WHERE id = 2")
    shop(database, shards=4)
    database.execute("UPDATE shop.item SET name = 'fourth'", "INSERT INTO shop.item VALUES (2, 'again', 1)")
    # Another process holds the shards of generation 2: nothing is applied before it releases them.
    database.execute(
        "REPLACE INTO gearsync.lease (shard, owner, epoch, expires_at) SELECT DISTINCT shard, 'another', 5, "
        "NOW() + INTERVAL 60 SECOND"
        " FROM gearsync.outbox WHERE shard < 6"
    )
    waiting = database.waiting
    worker = start_worker(config)
    worker.says("action=lease_taken", times=4)
    database.execute("UPDATE shop.item SET name = 'fifth' WHERE id = 1")
    time.sleep(0.5)
    assert database.waiting == waiting + 1
    assert not redis_server.client.exists("item:1")
    database.execute("UPDATE gearsync.lease SET expires_at = NOW() WHERE owner = 'another'")
    assert_equal(database, redis_server)


# Wakes and barriers


#: Seconds in which a worker looks again and again after a wake.
LINGER = 0.5


@pytest.fixture
def woken(config: dict[str, Any], gearmand: Gearmand, start_worker: Callable[..., Worker]) -> Worker:
    """A worker that does not look by itself."""
    config["worker"].update(sweep=100_000.0, linger=LINGER)
    config["job_servers"] = [gearmand.address]
    worker = start_worker(config)
    until(lambda: gearmand.queue("gearsync.barrier.main")[2], 1)
    return worker


def test_a_wake_is_followed_by_a_look_even_when_it_comes_before_its_commit(
    woken: Worker, gearmand: Gearmand, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    database.execute("INSERT INTO gearsync.lease (shard) VALUES (0)")
    until(lambda: gearmand.queue("gearsync.drain.main.0")[2], 1)
    until(lambda: database.execute("SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL"), [(1,)])
    for number in range(4):
        # Long after the last look of the wake before it.
        time.sleep(1.5 * LINGER if number == 1 else 0)
        while True:
            waked = time.monotonic()
            gearmand.submit("gearsync.drain.main.0", b"")
            time.sleep(0.003)
            database.put(insert(number))
            if time.monotonic() - waked < LINGER / 2:
                break
            # The host was paused: a change that is committed long after its wake has none.
        until(lambda key=number: redis_server.client.exists(f"item:{key}"), 1)


def test_a_drain_holds_its_wake_while_changes_come_and_looks_for_those_whose_wakes_were_merged_into_it(
    woken: Worker, gearmand: Gearmand, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    function = "gearsync.drain.main.0"
    database.execute("INSERT INTO gearsync.lease (shard) VALUES (0)")
    until(lambda: gearmand.queue(function)[2], 1)
    until(lambda: database.execute("SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL"), [(1,)])
    gearmand.submit(function, b"", unique="0")
    number, held = 0, 0
    deadline = time.monotonic() + 20.0
    while held < 50 and time.monotonic() < deadline:
        number += 1
        database.put(insert(number))
        if gearmand.queue(function)[:2] == (1, 1):
            held += 1
        else:
            # It is answered when this test is paused.
            gearmand.submit(function, b"", unique="0")
    assert held == 50
    # What is submitted now has no job of its own.
    gearmand.submit(function, b"", unique="0")
    until(lambda: gearmand.queue(function)[:2], (0, 0))
    released = time.monotonic()
    database.put(insert(0))
    if time.monotonic() - released > LINGER / 2:
        gearmand.submit(function, b"", unique="0")
    until(lambda: redis_server.client.exists("item:0"), 1)


def test_the_wake_of_a_process_that_is_killed_comes_to_the_next_one(
    woken: Worker,
    gearmand: Gearmand,
    database: OutboxDatabase,
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
) -> None:
    function = "gearsync.drain.main.0"
    database.execute("INSERT INTO gearsync.lease (shard) VALUES (0)")
    until(lambda: gearmand.queue(function)[2], 1)
    for number in itertools.count(1):
        gearmand.submit(function, b"", unique="0")
        database.put(insert(number))
        woken.pause()
        if gearmand.queue(function)[:2] == (1, 1):
            break
        # It was not taken yet, or is answered.
        woken.resume()
        time.sleep(0.01)
    woken.kill()
    until(lambda: gearmand.queue(function)[1:], (0, 0))
    assert gearmand.queue(function)[0] == 1
    start_worker(config)
    until(lambda: gearmand.queue(function)[:2], (0, 0))


def test_a_barrier_answers_when_everything_is_in_redis(
    woken: Worker, gearmand: Gearmand, database: OutboxDatabase, redis_server: RedisServer
) -> None:
    def in_order(source: bytes) -> bool:
        return bool(json.loads(gearmand.do("gearsync.barrier", source)[-1][1])["ok"])

    database.execute(*[f"INSERT INTO gearsync.lease (shard) VALUES ({shard})" for shard in range(6, 10)])
    until(lambda: gearmand.queue("gearsync.drain.main.9")[2], 1)
    for number, source in enumerate([b"", b"main"]):
        for shard in range(6, 10):
            database.put(*[insert(number * 100_000 + shard * 1000 + row) for row in range(500)], shard=shard)
        # After ten seconds it answers in any case.
        until(lambda source=source: in_order(source))
        assert (
            redis_server.client.exists(
                *[
                    f"item:{number * 100_000 + shard * 1000 + row}"
                    for shard in range(6, 10)
                    for row in range(500)
                ]
            )
            == 2000
        )
    assert "not 'other'" in json.loads(gearmand.do("gearsync.barrier", b"other")[-1][1])["error"]


class Recorded(edge.Database):
    """Records its queries."""

    def __init__(self, database: OutboxDatabase) -> None:
        super().__init__(MySQLSettings(**database.account), 120.0)
        self.asked: list[str] = []

    def rows(self, sql: str | bytes, arguments: Any = None) -> list[tuple[Any, ...]]:
        self.asked.append(str(sql))
        return super().rows(sql, arguments)


class Inner:
    """A drain within the test, with two databases of which the first one is recorded."""

    def __init__(self, config: dict[str, Any], gearmand: Gearmand, database: OutboxDatabase) -> None:
        settings = msgspec.convert(config, Config)
        self.gearmand, self.database = gearmand, Recorded(database)
        self.jobs = JobServers(
            [(gearmand.host, gearmand.port)], [], prefetch=1, timeout=120.0, reconnect_max=0.2
        )
        self.drain = Drain(
            settings,
            Servers(self.jobs, ServerTarget(settings.redis, 120.0), self.database, Recorded(database)),
            {},
            Tally(),
        )

    def until(self, condition: Callable[[], bool]) -> None:
        def step() -> bool:
            self.drain.step(0.1)
            return condition()

        until(step)

    def barrier(self) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        client = threading.Thread(
            target=lambda: answers.append(json.loads(self.gearmand.do("gearsync.barrier.main", b"")[-1][1]))
        )
        client.start()
        self.until(lambda: bool(answers))
        client.join()
        return answers[0]

    def close(self) -> None:
        self.drain.close()
        self.jobs.close()
        self.drain.target.close()


@pytest.fixture
def inner(
    config: dict[str, Any],
    gearmand: Gearmand,
    database: OutboxDatabase,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Inner]:
    # A worker waits for ten seconds; this one, within the test, for less.
    monkeypatch.setattr("gearsync.apply.drain.Barrier", lambda outbox, applied: Barrier(outbox, applied, 0.2))
    inner = Inner({**config, "tables": [ITEM]}, gearmand, database)
    yield inner
    inner.close()


def test_what_was_read_before_its_fence_was_claimed_is_read_again(
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
    gearmand: Gearmand,
    database: OutboxDatabase,
    redis_server: RedisServer,
    *,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    r = redis_server.client
    worker = start_worker({**config, "worker": {**config["worker"], "keep": 3600.0}})
    database.put(insert(1, "old"))
    until(lambda: r.exists("item:1"), 1)
    worker.kill()
    database.expire_leases()
    claims: list[Any] = []

    def late(fences: Fences, *arguments: Any) -> Any:
        if not claims:
            # The former owner is still alive: it applies a later change, and both are deleted and forgotten.
            r.hset("item:1", "name", "new")
            database.execute("DELETE FROM gearsync.outbox")
            for fence in r.keys("gearsync:main:fence:*"):
                r.hdel(fence, *[field for field in r.hkeys(fence) if field[:1] == b"b"])
        claims.append(arguments)
        return claim(fences, *arguments)

    claim = Fences.claim
    monkeypatch.setattr(Fences, "claim", late)
    inner = Inner(
        {**config, "tables": [ITEM], "worker": {**config["worker"], "keep": 0.0}}, gearmand, database
    )
    inner.until(lambda: bool(claims))
    database.put(insert(2))
    inner.until(lambda: bool(r.exists("item:2")))
    inner.close()
    assert r.hget("item:1", "name") == b"new"


def test_a_barrier_reports_what_is_missing(inner: Inner, database: OutboxDatabase) -> None:
    database.put(insert(1), insert(2), table="shop.unknown", shard=3)
    answer = inner.barrier()
    assert (answer["ok"], answer["missing"]) == (False, {"shop.unknown": 2})


def test_a_barrier_looks_after_the_ids_that_are_applied(
    inner: Inner, database: OutboxDatabase, redis_server: RedisServer
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
