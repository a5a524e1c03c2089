# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole worker on a Redis Cluster of three nodes: shapes in many slots, crashes, nodes that are away,
slots that move.
"""

from __future__ import annotations

import pathlib
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from harness.changes import named
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_cluster import SOON, Cluster, Node
from harness.waiting import until
from harness.worker import Worker, worker_config
from redis.crc import key_slot

TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "set", "key": "by-name:{name}", "member": "{id}"},
        {"type": "list", "key": "log:{id}", "value": "{name}"},
        {"type": "json", "key": "doc:{id}", "ttl": 86400},
        {"type": "zset", "key": "ranked:{name}", "member": "{id}", "score": "{id}"},
    ],
}


@pytest.fixture
def config(cluster: Cluster, database: OutboxDatabase) -> dict[str, Any]:
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(100)) ENGINE=InnoDB")
    database.sync_table(**TABLE)
    return worker_config({"cluster": cluster.addresses}, [TABLE], database.account, lease=5.0)


def test_a_cluster_holds_what_the_table_holds_and_verify_proves_it(
    config: dict[str, Any],
    cluster: Cluster,
    database: OutboxDatabase,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    commands = Commands(config, tmp_path)
    worker = start_worker(config)
    database.execute(
        "INSERT INTO shop.item VALUES "
        + ", ".join(f"({number}, 'n{number % 7}')" for number in range(1, 301))
    )
    commands.done("barrier")
    commands.done("verify")
    assert cluster.client.lrange("log:7", 0, -1) == [b"n0"]

    worker.kill()
    database.execute("UPDATE shop.item SET name = CONCAT(name, 'b')", "DELETE FROM shop.item WHERE id <= 10")
    database.expire_leases()
    worker.start()
    commands.done("barrier")
    status, output = commands.verify()
    assert (status, output["different"], output["rows"]) == (0, {}, 290)
    assert cluster.client.lrange("log:17", 0, -1) == [b"n3", b"n3b"]
    # The fences forget appends that are deleted from the outbox.
    database.execute("UPDATE shop.item SET name = 'last' WHERE id BETWEEN 17 AND 26")
    commands.done("barrier")
    until(lambda: fields_kept(cluster), 0)

    cluster.client.delete("item:20")
    cluster.client.hset("item:999", "id", "999")
    cluster.client.zadd("ranked:last", {"999": 1})
    assert commands.verify()[1]["different"] == {"missing": 1, "orphaned": 2}
    commands.done("verify", "--repair", "--prune")
    # Changes in the outbox would be applied again.
    until(lambda: database.waiting, 0)
    cluster.client.flushall(target_nodes="primaries")
    commands.done("resync")
    commands.done("verify")
    assert commands.run("selftest")[1].count("ok: Redis") == 1


def fields_kept(cluster: Cluster) -> int:
    """The number of fields of the fences beside their epochs and numbers."""
    fences = list(cluster.client.scan_iter("gearsync:*:fence:*", count=10_000))
    return sum(len(set(cluster.client.hkeys(key)) - {b"epoch", b"number", b"created"}) for key in fences)


def test_nothing_is_lost_while_slots_move_and_a_node_is_unreachable(
    config: dict[str, Any],
    cluster: Cluster,
    database: OutboxDatabase,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    commands = Commands(config, tmp_path)
    worker = start_worker(config)
    stop = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        with database.connect() as connection, connection.cursor() as cursor:
            while not stop.wait(0.002):
                written += 1
                cursor.execute(f"REPLACE INTO shop.item VALUES ({written % 200}, 'v{written % 50}')")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(cluster.client.dbsize)
        cluster.move_slots(500)
        cluster.nodes[2].stop()
        # Until the other nodes consider it dead, they work without its slots; then they accept no writes.
        worker.says("action=redis_lost ")
        cluster.give_up_after(SOON)
        until(lambda: [node.state for node in cluster.nodes[:2]], ["fail"] * 2)
        before = written
        until(lambda: written > before + 10)
        cluster.recover()
        before = written
        until(lambda: written > before + 10)
    finally:
        stop.set()
        writer.join()
    commands.done("barrier")
    status, output = commands.verify()
    assert (status, output["different"]) == (0, {})


class Histories:
    """Rows whose values are all different, and what their lists must hold."""

    def __init__(self, database: OutboxDatabase, rows: int) -> None:
        self.database, self.rows, self.rounds = database, rows, 0

    def write(self) -> None:
        """Change every row once, each in a transaction of its own."""
        self.rounds += 1
        with self.database.connect() as connection, connection.cursor() as cursor:
            for number in range(self.rows):
                cursor.execute(
                    f"INSERT INTO shop.item VALUES ({number}, 'r{self.rounds}') ON DUPLICATE KEY UPDATE "
                    "name = VALUES(name)"
                )

    def name(self, cluster: Cluster, number: int) -> bytes | None:
        value: bytes | None = cluster.client.hget(f"item:{number}", "name")
        return value

    def check(self, cluster: Cluster) -> None:
        """Every list has each value once and in order, every set has the current values, and there is no
        dead letter.
        """
        until(lambda: self.database.waiting, 0)
        assert self.database.execute("SELECT * FROM gearsync.dead_letter") == []
        wanted = [b"r%d" % number for number in range(1, self.rounds + 1)]
        assert {
            number: cluster.client.lrange(f"log:{number}", 0, -1) for number in range(self.rows)
        } == dict.fromkeys(range(self.rows), wanted)
        assert {self.name(cluster, number) for number in range(self.rows)} == {wanted[-1]}
        members = [cluster.client.smembers(f"by-name:{name.decode()}") for name in wanted]
        assert members == [set()] * (self.rounds - 1) + [{b"%d" % number for number in range(self.rows)}]


def waiting_elsewhere(
    database: OutboxDatabase, cluster: Cluster, histories: Histories, away: Node
) -> set[int]:
    """The rows of the changes that wait, of those without a key on this node."""

    def elsewhere(row: int) -> bool:
        names = range(1, histories.rounds + 1)
        keys = (f"item:{row}", f"log:{row}", f"doc:{row}", *(f"by-name:r{number}" for number in names))
        return all(cluster.client.get_node_from_key(key).port != away.port for key in keys)

    changes = database.execute("SELECT table_name, operation, payload FROM gearsync.outbox")
    waiting = {int(named(database, *change)["new"]["id"]) for change in changes}
    return {row for row in waiting if elsewhere(row)}


@pytest.mark.parametrize("way", ["killed", "frozen"])
def test_an_unreachable_node_delays_only_its_own_changes(
    config: dict[str, Any],
    cluster: Cluster,
    database: OutboxDatabase,
    start_worker: Callable[..., Worker],
    way: str,
) -> None:
    config["worker"]["io_timeout"] = 1.0
    worker, histories, away = start_worker(config), Histories(database, 60), cluster.nodes[2]
    histories.write()
    until(lambda: database.waiting, 0)
    others = [
        number
        for number in range(histories.rows)
        if cluster.client.get_node_from_key(f"item:{number}").port != away.port
    ]
    assert 0 < len(others) < histories.rows
    if way == "killed":
        away.stop()
    else:
        away.signal(signal.SIGSTOP)
    try:
        for number in range(3):
            histories.write()
            until(lambda: {histories.name(cluster, row) for row in others}, {b"r%d" % histories.rounds})
            worker.says("action=redis_lost ", times=number + 1)
            if number == 2:
                break
            # The next owner learns which changes are written in part, also when the batch's other changes are
            # deleted.
            until(lambda: waiting_elsewhere(database, cluster, histories, away), set())
            worker.kill()
            database.expire_leases()
            worker.start()
        assert database.waiting > 0
    finally:
        away.signal(signal.SIGCONT)
    cluster.recover()
    histories.write()
    histories.check(cluster)
    worker.says("action=redis_back ")


def test_a_list_gets_each_entry_once_though_half_of_the_batch_waits_for_a_node(
    config: dict[str, Any], cluster: Cluster, database: OutboxDatabase, start_worker: Callable[..., Worker]
) -> None:
    away = cluster.nodes[2]
    log = next(
        key
        for key in map("every{}".format, range(100))
        if cluster.client.get_node_from_key(key).port != away.port
    )
    every = {
        "table": "shop.every",
        "delivery": "durable",
        "columns": ["id"],
        "write": [{"type": "list", "key": log, "value": "{id}"}, {"type": "hash", "key": "every:{id}"}],
    }
    database.execute("CREATE TABLE shop.every (id INT PRIMARY KEY) ENGINE=InnoDB")
    database.sync_table(**every, shards=1)
    config["tables"].append(every)
    worker = start_worker(config)
    database.execute("INSERT INTO shop.every VALUES (1000)")
    until(lambda: database.waiting, 0)
    numbers = list(range(60))
    late = [
        number for number in numbers if cluster.client.get_node_from_key(f"every:{number}").port == away.port
    ]
    away.stop()
    database.execute("INSERT INTO shop.every VALUES " + ", ".join(f"({number})" for number in numbers))
    until(lambda: database.waiting, len(late))
    # The next batches delete the fields of deleted rows.
    for number in range(1001, 1006):
        database.execute(f"INSERT INTO shop.every VALUES ({number})")
        numbers.append(number)
        until(lambda: cluster.client.llen(log), 1 + len(numbers))
    late = [
        number for number in numbers if cluster.client.get_node_from_key(f"every:{number}").port == away.port
    ]
    until(lambda: database.waiting, len(late))
    worker.kill()
    database.expire_leases()
    worker.start()
    cluster.recover()
    until(lambda: database.waiting, 0)
    assert sorted(map(int, cluster.client.lrange(log, 0, -1))) == sorted([*numbers, 1000])
    assert cluster.client.exists(*[f"every:{number}" for number in numbers]) == len(numbers)


def test_slots_that_move_under_load_lose_and_repeat_nothing(
    config: dict[str, Any], cluster: Cluster, database: OutboxDatabase, start_worker: Callable[..., Worker]
) -> None:
    start_worker(config)
    histories, stop = Histories(database, 100), threading.Event()
    histories.write()

    def write() -> None:
        while not stop.is_set():
            histories.write()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            cluster.move_slots(600)
    finally:
        stop.set()
        writer.join()
    histories.check(cluster)


def test_a_slot_that_has_moved_in_part_waits_and_restores_nothing_old(
    config: dict[str, Any], cluster: Cluster, database: OutboxDatabase, start_worker: Callable[..., Worker]
) -> None:
    worker, histories = start_worker(config), Histories(database, 20)
    histories.write()
    until(lambda: database.waiting, 0)
    slot, port = key_slot(b"log:7"), cluster.client.get_node_from_key("log:7").port
    origin = next(node for node in cluster.nodes if node.port == port)
    goal = next(node for node in cluster.nodes if node.port != port)
    goal.cluster("SETSLOT", slot, "IMPORTING", origin.cluster("MYID"))
    origin.cluster("SETSLOT", slot, "MIGRATING", goal.cluster("MYID"))

    def move(keys: list[bytes]) -> None:
        for key in keys:
            origin.client.execute_command("MIGRATE", "127.0.0.1", goal.port, key, 0, 60_000, "REPLACE")

    def there() -> list[bytes]:
        keys: list[bytes] = origin.client.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 1000)
        return keys

    move([key for key in there() if b":fence:" in key])
    assert b"log:7" in there()
    histories.write()
    worker.says("action=redis_lost ")
    others = [
        number
        for number in range(20)
        if slot not in {key_slot(f"{kind}:{number}".encode()) for kind in ("item", "log", "doc")}
    ]
    until(lambda: {histories.name(cluster, number) for number in others}, {b"r2"})
    move(there())
    for node in cluster.nodes:
        node.cluster("SETSLOT", slot, "NODE", goal.cluster("MYID"))
    histories.check(cluster)


def test_a_table_without_rights_in_the_cluster_waits_alone(
    config: dict[str, Any], cluster: Cluster, database: OutboxDatabase, start_worker: Callable[..., Worker]
) -> None:
    other = {
        "table": "shop.other",
        "delivery": "durable",
        "columns": ["id"],
        "write": [{"type": "hash", "key": "other:{id}"}],
    }
    database.execute("CREATE TABLE shop.other (id INT PRIMARY KEY) ENGINE=InnoDB")
    database.sync_table(**other)

    def rights(*rules: str) -> None:
        for node in cluster.nodes:
            node.client.execute_command("ACL", "SETUSER", "worker", *rules)

    rights("on", ">secret", "+@all", "~gearsync:*", "~item:*", "~by-name:*", "~log:*", "~doc:*", "~ranked:*")
    try:
        config["redis"] |= {"username": "worker", "password": "secret"}
        config["tables"].append(other)
        worker, histories = start_worker(config), Histories(database, 20)
        database.execute("INSERT INTO shop.other VALUES (1), (2), (3), (4)")
        histories.write()
        worker.says("action=table_held")
        until(lambda: {histories.name(cluster, number) for number in range(20)}, {b"r1"})
        until(lambda: database.waiting, 4)
        rights("~*")
        histories.check(cluster)
        assert cluster.client.hget("other:4", "id") == b"4"
    finally:
        worker.kill()
        for node in cluster.nodes:
            node.client.acl_deluser("worker")
