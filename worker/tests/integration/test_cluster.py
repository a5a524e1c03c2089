"""The whole worker on a Redis Cluster of three nodes: shapes in many slots, crashes, a stale owner, slots that move."""

from __future__ import annotations

import pathlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from gearsync.change import decode_outbox
from gearsync.cluster import SLOTS, ClusterTarget, by_slot, tags
from gearsync.commands import Writer
from gearsync.config import RedisSettings
from gearsync.declaration import Table, Write
from gearsync.target import Fence, Refused, Unavailable
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.ports import free_port
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config
from redis.crc import key_slot

TABLE: dict[str, Any] = {
    "table": "shop.item", "delivery": "durable", "columns": ["id", "name"],
    "write": [
        {"type": "hash", "key": "item:{id}"}, {"type": "set", "key": "by-name:{name}", "member": "{id}"},
        {"type": "list", "key": "log:{id}", "value": "{name}"}, {"type": "json", "key": "doc:{id}", "ttl": 86400},
    ],
}


#: Milliseconds after which a silent node is taken for dead: an hour, and soon.
NEVER, SOON = 3_600_000, 2000


class Node(RedisServer):
    """One node of the cluster."""

    def __init__(self) -> None:
        self.bus = free_port()
        super().__init__("--cluster-enabled", "yes", "--cluster-port", str(self.bus), "--cluster-node-timeout", str(NEVER))

    def cluster(self, *words: str | int) -> str:
        """What it answers to a command about its cluster."""
        answer = self.client.execute_command("CLUSTER", *words)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    @property
    def state(self) -> str:
        """Whether it takes the cluster for whole: "ok" or "fail"."""
        return str(self.client.cluster("INFO")["cluster_state"])


class Cluster:
    """Three nodes, each with a third of the slots."""

    def __init__(self) -> None:
        self.nodes = [Node() for _ in range(3)]
        self.addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        self._redis_cli("--cluster", "create", *self.addresses, "--cluster-yes")
        until(self.whole)
        self.client = redis.RedisCluster(host="127.0.0.1", port=self.nodes[0].port, socket_timeout=120)

    @staticmethod
    def _redis_cli(*words: str) -> None:
        done = subprocess.run(["redis-cli", *words], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        assert done.returncode == 0, done.stdout

    def whole(self) -> bool:
        """Whether all nodes take all for alive."""
        return all(node.state == "ok" for node in self.nodes)

    def recover(self) -> None:
        """Start what was stopped, and wait until all nodes take all for alive."""
        for node in self.nodes:
            if not node.running:
                node.start()

        def settled() -> bool:
            # Twice that time after its failure one is taken for alive again.
            alive = self.whole()
            self.give_up_after(NEVER if alive else SOON)
            return alive and self.whole()

        until(settled)

    def reset(self) -> None:
        """Whole and without data."""
        self.recover()
        self.client.flushall(target_nodes="primaries")

    def give_up_after(self, milliseconds: int) -> None:
        """When the running nodes take a silent one for dead."""
        for node in self.nodes:
            if node.running:
                node.client.config_set("cluster-node-timeout", milliseconds)

    def move_slots(self, number: int) -> None:
        """Move slots of the first node to the second, while others write."""
        ids = [node.cluster("MYID") for node in self.nodes[:2]]
        self._redis_cli(
            "--cluster", "reshard", self.addresses[0], "--cluster-from", ids[0], "--cluster-to", ids[1], "--cluster-slots", str(number), "--cluster-yes")

    def remove(self) -> None:
        """End all nodes and remove their data."""
        self.client.close()
        for node in self.nodes:
            node.remove()


@pytest.fixture(scope="module")
def module_cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    yield cluster
    cluster.remove()


@pytest.fixture
def cluster(module_cluster: Cluster) -> Cluster:
    """A cluster, whole, without data."""
    module_cluster.reset()
    return module_cluster


@pytest.fixture
def config(cluster: Cluster, database: OutboxDatabase) -> dict[str, Any]:
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(100)) ENGINE=InnoDB")
    database.sync_table(**TABLE)
    return worker_config({"cluster": cluster.addresses}, [TABLE], database.account, lease=5.0)


def test_every_slot_has_a_tag() -> None:
    assert [key_slot(f"x:{{{tag}}}:y".encode()) for tag in tags()] == list(range(SLOTS))


def test_a_cluster_holds_what_the_table_holds_and_verify_proves_it(
    config: dict[str, Any], cluster: Cluster, database: OutboxDatabase, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    commands = Commands(config, tmp_path)
    worker = start_worker(config)
    database.execute("INSERT INTO shop.item VALUES " + ", ".join(f"({number}, 'n{number % 7}')" for number in range(1, 301)))
    commands.done("barrier")
    commands.done("verify")
    assert cluster.client.lrange("log:7", 0, -1) == [b"n0"]

    worker.kill()
    database.execute("UPDATE shop.item SET name = CONCAT(name, 'b')", "DELETE FROM shop.item WHERE id <= 10")
    database.expire_leases()
    worker.start()
    commands.done("barrier")
    status, found = commands.verify()
    assert (status, found["different"], found["rows"]) == (0, {}, 290)
    assert cluster.client.lrange("log:17", 0, -1) == [b"n3", b"n3b"]
    # What was appended and is deleted from the outbox is forgotten by the fences.
    database.execute("UPDATE shop.item SET name = 'last' WHERE id BETWEEN 17 AND 26")
    commands.done("barrier")
    assert ids_kept(cluster) <= 10

    cluster.client.delete("item:20")
    cluster.client.hset("item:999", "id", "999")
    assert commands.verify()[1]["different"] == {"missing": 1, "orphaned": 1}
    commands.done("verify", "--repair", "--prune")
    cluster.client.flushall(target_nodes="primaries")
    commands.done("resync")
    commands.done("verify")
    assert commands.run("selftest")[1].count("ok: Redis") == 1


def ids_kept(cluster: Cluster) -> int:
    """How many appended ids the fences remember."""
    fences = list(cluster.client.scan_iter("gearsync:*:fence:*", count=10_000))
    return sum(len((cluster.client.hget(key, "ids") or b"").split(b",")) for key in fences if cluster.client.hexists(key, "ids"))


def test_a_batch_waits_for_the_replicas_of_the_nodes_that_it_is_written_to(cluster: Cluster) -> None:
    replica, first = Node(), cluster.nodes[0]
    try:
        owner = first.cluster("MYID")
        replica.cluster("MEET", "127.0.0.1", first.port, first.bus)
        until(lambda: owner in replica.cluster("NODES"))
        replica.cluster("REPLICATE", owner)
        until(lambda: replica.client.info("replication").get("master_link_status"), "up")
        table = Writer(Table(table="s.t", columns=["id"], write=[Write(type="hash", key="k:{id}")]))
        steps = [step for number in range(100) for step in table.steps(decode_outbox("s.t", "insert", b'{"new":{"id":%d}}' % number))]
        covered = [step for step in steps if cluster.client.get_node_from_key(step.key).port == first.port]
        assert 0 < len(covered) < len(steps)
        patient = ClusterTarget(RedisSettings(cluster=cluster.addresses, replicas=1, replicas_timeout=100.0), 120.0)
        assert patient.apply_fenced(Fence("main", 0, 7), covered, [""] * len(covered)).errors == []
        patient.close()
        target = ClusterTarget(RedisSettings(cluster=cluster.addresses, replicas=1, replicas_timeout=0.5), 120.0)
        uncovered = [step for step in steps if step not in covered]
        with pytest.raises(Unavailable, match=r"0 of 1 replicas had the batch after 0\.5 s"):
            target.apply_fenced(Fence("main", 0, 7), uncovered, [""] * len(uncovered))
        target.close()
    finally:
        gone = replica.cluster("MYID")
        replica.remove()
        for node in cluster.nodes:
            node.cluster("FORGET", gone)


def test_nothing_is_lost_while_slots_move_and_a_node_is_away(
    config: dict[str, Any], cluster: Cluster, database: OutboxDatabase, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
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
        # Until the others take it for dead they go on without its slots; then they take no writes at all.
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
    status, found = commands.verify()
    assert (status, found["different"]) == (0, {})


def test_a_stale_owner_is_refused_in_every_slot_that_was_written(cluster: Cluster) -> None:
    table = Writer(Table(table="s.t", columns=["id"], write=[Write(type="hash", key="k:{id}"), Write(type="list", key="l:{id}", value="{id}")]))
    target = ClusterTarget(RedisSettings(cluster=cluster.addresses), 120.0)

    def steps(*numbers: int) -> list[Any]:
        return [step for number in numbers for step in table.steps(decode_outbox("s.t", "insert", b'{"new":{"id":%d}}' % number))]

    def ids(made: list[Any], *numbers: int) -> list[str]:
        return [f"{numbers[position // 2]}.0" if position % 2 else "" for position in range(len(made))]

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
