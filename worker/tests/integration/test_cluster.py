"""The whole worker on a Redis Cluster of three nodes: shapes in many slots, crashes, a stale owner, slots that move."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from conftest import Database, Server, Worker, free_port, until
from gearsync.change import decode_outbox
from gearsync.cluster import SLOTS, ClusterTarget, by_slot, tags
from gearsync.commands import Writer
from gearsync.config import RedisSettings
from gearsync.declaration import Table, Write
from gearsync.target import Fence, Refused, Unavailable
from redis.crc import key_slot
from test_operate import Commands, sync_table

TABLE: dict[str, Any] = {
    "table": "shop.item", "delivery": "durable", "columns": ["id", "name"],
    "write": [
        {"type": "hash", "key": "item:{id}"}, {"type": "set", "key": "by-name:{name}", "member": "{id}"},
        {"type": "list", "key": "log:{id}", "value": "{name}"}, {"type": "json", "key": "doc:{id}", "ttl": 86400},
    ],
}


class Node(Server):
    """One node of the cluster."""

    def __init__(self, directory: pathlib.Path) -> None:
        directory.mkdir()
        port, self.bus = free_port(), free_port()
        super().__init__(
            [shutil.which("redis-server") or "valkey-server", "--port", str(port), "--dir", str(directory), "--cluster-enabled", "yes",
             "--cluster-port", str(self.bus), "--cluster-node-timeout", "2000", "--appendonly", "yes", "--appendfsync", "always"], port)


class Cluster:
    """Three nodes, each with a third of the slots."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.nodes = [Node(directory / f"node{number}") for number in range(3)]
        self.addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        subprocess.run(["redis-cli", "--cluster", "create", *self.addresses, "--cluster-yes"], check=True, capture_output=True, timeout=60)
        self.client = redis.RedisCluster(host="127.0.0.1", port=self.nodes[0].port, socket_timeout=20)
        until(lambda: all(self._state(node) == "ok" for node in self.nodes))

    def _state(self, node: Node) -> str:
        with redis.Redis(port=node.port) as client:
            return str(client.cluster("INFO")["cluster_state"])

    def move_slots(self, number: int) -> None:
        """Move slots of the first node to the second, while whoever wants writes."""
        ids = []
        for node in self.nodes[:2]:
            with redis.Redis(port=node.port) as client:
                ids.append(client.execute_command("CLUSTER", "MYID").decode())
        subprocess.run(
            ["redis-cli", "--cluster", "reshard", self.addresses[0], "--cluster-from", ids[0], "--cluster-to", ids[1], "--cluster-slots", str(number),
             "--cluster-yes"], check=True, capture_output=True, timeout=120)

    def stop(self) -> None:
        self.client.close()
        for node in self.nodes:
            if node.process.poll() is None:
                node.stop()


@pytest.fixture
def cluster(tmp_path: pathlib.Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    yield found
    found.stop()


@pytest.fixture
def config(cluster: Cluster, database: Database) -> dict[str, Any]:
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(100)) ENGINE=InnoDB")
    sync_table(database, **TABLE)
    return {
        "job_servers": [f"127.0.0.1:{free_port()}"], "redis": {"cluster": cluster.addresses}, "mysql": {"user": "root", "unix_socket": database.socket},
        "worker": {"lease": 1.5, "io_timeout": 2.0, "sweep": 0.02, "reconnect_max": 0.2}, "tables": [TABLE],
    }


def test_every_slot_has_a_tag() -> None:
    found = tags()
    assert [key_slot(f"x:{{{tag}}}:y".encode()) for tag in found] == list(range(SLOTS))


def test_a_cluster_holds_what_the_table_holds_and_verify_proves_it(
    config: dict[str, Any], cluster: Cluster, database: Database, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    commands = Commands(config, tmp_path)
    worker = start_worker(config)
    database.execute("INSERT INTO shop.item VALUES " + ", ".join(f"({number}, 'n{number % 7}')" for number in range(1, 301)))
    assert commands.run("barrier")[0] == 0
    assert commands.run("verify")[0] == 0
    assert cluster.client.lrange("log:7", 0, -1) == [b"n0"]

    worker.kill()
    database.execute("UPDATE shop.item SET name = CONCAT(name, 'b')", "DELETE FROM shop.item WHERE id <= 10")
    worker.start()
    assert commands.run("barrier")[0] == 0
    status, found = commands.verify()
    assert (status, found["different"], found["rows"]) == (0, {}, 290)
    assert cluster.client.lrange("log:17", 0, -1) == [b"n3", b"n3b"]
    # What was appended and is deleted from the outbox is forgotten by the fences.
    database.execute("UPDATE shop.item SET name = 'last' WHERE id BETWEEN 17 AND 26")
    assert commands.run("barrier")[0] == 0
    assert ids_kept(cluster) <= 10

    cluster.client.delete("item:20")
    cluster.client.hset("item:999", "id", "999")
    assert commands.verify()[1]["different"] == {"missing": 1, "orphaned": 1}
    assert commands.run("verify", "--repair", "--prune")[0] == 0
    cluster.client.flushall(target_nodes="primaries")
    assert commands.run("resync")[0] == 0
    assert commands.run("verify")[0] == 0
    assert commands.run("selftest")[1].count("ok: Redis") == 1


def ids_kept(cluster: Cluster) -> int:
    """How many appended ids the fences remember."""
    fences = list(cluster.client.scan_iter("gearsync:*:fence:*", count=10_000))
    return sum(len((cluster.client.hget(key, "ids") or b"").split(b",")) for key in fences if cluster.client.hexists(key, "ids"))


def test_a_batch_waits_for_the_replicas_of_the_nodes_that_it_is_written_to(cluster: Cluster, tmp_path: pathlib.Path) -> None:
    replica = Node(tmp_path / "replica")
    try:
        with redis.Redis(port=replica.port) as client, redis.Redis(port=cluster.nodes[0].port) as first:
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", cluster.nodes[0].port, cluster.nodes[0].bus)
            owner = first.execute_command("CLUSTER", "MYID").decode()
            until(lambda: owner in str(client.execute_command("CLUSTER", "NODES")))
            client.execute_command("CLUSTER", "REPLICATE", owner)
            until(lambda: client.info("replication").get("master_link_status"), "up")
        table = Writer(Table(table="s.t", columns=["id"], write=[Write(type="hash", key="k:{id}")]))
        steps = [step for number in range(100) for step in table.steps(decode_outbox("s.t", "insert", b'{"new":{"id":%d}}' % number))]
        covered = [step for step in steps if cluster.client.get_node_from_key(step.key).port == cluster.nodes[0].port]
        assert 0 < len(covered) < len(steps)
        target = ClusterTarget(RedisSettings(cluster=cluster.addresses, replicas=1, replicas_timeout=0.5), 5.0)
        assert target.apply_fenced(Fence("main", 0, 7), covered, [""] * len(covered)).errors == []
        with pytest.raises(Unavailable, match=r"0 of 1 replicas had the batch after 0\.5 s"):
            target.apply_fenced(Fence("main", 0, 7), steps, [""] * len(steps))
        target.close()
    finally:
        replica.stop()


def test_nothing_is_lost_while_slots_move_and_a_node_is_away(
    config: dict[str, Any], cluster: Cluster, database: Database, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    commands = Commands(config, tmp_path)
    start_worker(config)
    stop = threading.Event()

    def write() -> None:
        with database.connect() as connection, connection.cursor() as cursor:
            number = 0
            while not stop.is_set():
                number += 1
                cursor.execute(f"REPLACE INTO shop.item VALUES ({number % 200}, 'v{number % 50}')")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        cluster.move_slots(2000)
        cluster.nodes[2].stop()
        threading.Event().wait(3)
        cluster.nodes[2].start()
    finally:
        threading.Event().wait(1)
        stop.set()
        writer.join()
    until(lambda: commands.run("barrier")[0], 0, seconds=60)
    status, found = commands.verify()
    assert (status, found["different"]) == (0, {})


def test_a_stale_owner_is_refused_in_every_slot_that_was_written(cluster: Cluster) -> None:
    table = Writer(Table(table="s.t", columns=["id"], write=[Write(type="hash", key="k:{id}"), Write(type="list", key="l:{id}", value="{id}")]))
    target = ClusterTarget(RedisSettings(cluster=cluster.addresses), 5.0)

    def steps(*numbers: int) -> list[Any]:
        return [step for number in numbers for step in table.steps(decode_outbox("s.t", "insert", b'{"new":{"id":%d}}' % number))]

    def ids(found: list[Any], *numbers: int) -> list[str]:
        return [f"{numbers[position // 2]}.0" if position % 2 else "" for position in range(len(found))]

    both = steps(1, 2)
    assert len(by_slot(both)) == 4
    target.apply_fenced(Fence("main", 0, 5), both, ids(both, 1, 2))
    # The same batch again: lists have no second entry.
    target.apply_fenced(Fence("main", 0, 6), both, ids(both, 1, 2))
    assert (cluster.client.lrange("l:1", 0, -1), cluster.client.lrange("l:2", 0, -1)) == ([b"1"], [b"2"])
    assert sorted(target.appended(Fence("main", 0, 6))) == ["1.0", "2.0"]
    with pytest.raises(Refused, match="epoch 6"):
        target.apply_fenced(Fence("main", 0, 5), steps(1), ["", "9.0"])
    assert cluster.client.lrange("l:1", 0, -1) == [b"1"]
    cluster.client.set("k:3", "no hash")
    three = steps(3)
    applied = target.apply_fenced(Fence("main", 0, 6), three, ids(three, 3), ["1.0", "2.0"])
    assert [number for number, _words in applied.errors] == [0]
    assert target.appended(Fence("main", 0, 6)) == ["3.0"]
    target.close()
    for node in cluster.nodes:
        node.stop()
    with pytest.raises(Unavailable):
        target.apply_fenced(Fence("main", 0, 6), three, ids(three, 3))
