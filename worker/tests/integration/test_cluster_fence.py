# SPDX-License-Identifier: GPL-3.0-or-later
"""The fence on a Redis Cluster: one in each slot, a stale owner, replicas that are waited for."""

from __future__ import annotations

from typing import Any

import pytest
from gearsync.apply.fence import BATCH, FenceRefused, batch
from gearsync.apply.fences import Fences
from gearsync.declare.configuration import RedisSettings
from gearsync.declare.declaration import Table, Write
from gearsync.project.commands import Writer
from gearsync.project.payload import decode_outbox
from gearsync.servers.redis_cluster import SLOTS, ClusterTarget, tags
from gearsync.servers.redis_errors import Unavailable
from gearsync.shapes.shape import Step
from harness.redis_cluster import Cluster, Node
from harness.waiting import until
from redis.crc import key_slot


def test_every_slot_has_a_tag() -> None:
    assert [key_slot(f"x:{{{tag}}}:y".encode()) for tag in tags()] == list(range(SLOTS))


class Process:
    """A process that holds shard 0, from the view of the cluster."""

    def __init__(self, target: ClusterTarget, epoch: int) -> None:
        self.target = target
        self.fences = Fences(target, "main")
        self.fences.follow({0: epoch})

    def claim(self, steps: list[Step]) -> None:
        self.fences.claim(
            [(slot, 0) for slot in self.target.by_slot(steps)],
            lambda asked: dict.fromkeys(asked.numbers, 0),
        )

    def write(self, steps: list[Step], ids: list[int]) -> list[Any]:
        slots = self.target.by_slot(steps).items()
        answers = self.target.run(
            BATCH,
            [(slot, batch([self.fences.at((slot, 0)).mark(ids, b"now")], its, ids)) for slot, its in slots],
        )
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers


def test_a_batch_waits_for_the_replicas_of_the_nodes_that_it_is_written_to(cluster: Cluster) -> None:
    replica, first = Node(), cluster.nodes[0]
    try:
        owner = first.cluster("MYID")
        replica.cluster("MEET", "127.0.0.1", first.port, first.bus)
        until(lambda: owner in replica.cluster("NODES"))
        replica.cluster("REPLICATE", owner)
        until(lambda: replica.client.info("replication").get("master_link_status"), "up")
        table = Writer(Table(table="s.t", columns=["id"], write=[Write(type="hash", key="k:{id}")]))
        steps = [
            step
            for number in range(100)
            for step in table.steps(decode_outbox("s.t", "insert", b'{"new":{"id":%d}}' % number))
        ]
        covered = [step for step in steps if cluster.client.get_node_from_key(step.key).port == first.port]
        assert 0 < len(covered) < len(steps)
        patient = ClusterTarget(
            RedisSettings(cluster=cluster.addresses, replicas=1, replicas_timeout=100.0), 120.0
        )
        process = Process(patient, 7)
        process.claim(covered)
        assert all(answer == [b"ok"] for answer in process.write(covered, [1]))
        patient.close()
        target = ClusterTarget(
            RedisSettings(cluster=cluster.addresses, replicas=1, replicas_timeout=0.5), 120.0
        )
        uncovered = [step for step in steps if step not in covered]
        process = Process(target, 7)
        process.claim(uncovered)
        with pytest.raises(Unavailable, match=r"0 of 1 replicas had the batch after 0\.5 s"):
            process.write(uncovered, [1])
        target.close()
    finally:
        gone = replica.cluster("MYID")
        replica.remove()
        for node in cluster.nodes:
            node.cluster("FORGET", gone)


def test_a_stale_owner_is_refused_in_every_slot_that_was_written(cluster: Cluster) -> None:
    table = Writer(
        Table(
            table="s.t",
            columns=["id"],
            write=[Write(type="hash", key="k:{id}"), Write(type="list", key="l:{id}", value="{id}")],
        )
    )
    target = ClusterTarget(RedisSettings(cluster=cluster.addresses), 120.0)

    def steps(*numbers: int) -> list[Any]:
        return [
            step
            for number in numbers
            for step in table.steps(decode_outbox("s.t", "insert", b'{"new":{"id":%d}}' % number))
        ]

    both = steps(1, 2)
    first, second = Process(target, 5), Process(target, 6)
    first.claim(both)
    assert first.write(both, [1]) == [[b"ok"]] * 4
    # The next owner learns in each slot what is applied.
    second.claim(both)
    assert all(1 in second.fences.at((slot, 0)).applied for slot in target.by_slot(both))
    assert first.write(both, [2]) == [[b"moved", 1]] * 4
    with pytest.raises(FenceRefused, match="epoch 6"):
        first.claim(both)
    assert (cluster.client.lrange("l:1", 0, -1), cluster.client.lrange("l:2", 0, -1)) == ([b"1"], [b"2"])
    cluster.client.set("k:3", "no hash")
    three = steps(3)
    second.claim(three)
    (refused, appended) = second.write(three, [3])
    assert refused[:2] == [b"ok", 3]
    assert appended == [b"ok"]
    target.close()
    for node in cluster.nodes:
        node.stop()
    with pytest.raises(Unavailable):
        second.write(three, [3])
