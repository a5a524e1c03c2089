# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker's host that loses its power: no connection is closed, and other processes take its shards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.network import Network, Unavailable
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

LEASE = 5.0
ROWS = 16
ITEM: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "version"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "list", "key": "log:{id}", "value": "{version}"},
    ],
}


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        network = Network()
    except Unavailable as error:
        pytest.skip(f"no network of its own: {error}")
    yield network
    network.remove()


@pytest.fixture
def reachable(network: Network) -> Iterator[OutboxDatabase]:
    """A database server that listens at the link."""
    with OutboxDatabase("--skip-log-bin", "--bind-address=0.0.0.0") as server:
        server.reset()
        server.execute("CREATE USER far@'%'", "GRANT ALL ON *.* TO far@'%'")
        yield server


class Probe(threading.Thread):
    """Changes a row again and again, each time when the change before is in Redis."""

    def __init__(self, database: OutboxDatabase, redis_server: RedisServer, row: int) -> None:
        super().__init__(daemon=True)
        self.database, self.redis, self.row = database, redis_server.client, row
        #: When each change was committed, and the seconds until it was seen.
        self.seen: list[tuple[float, float]] = []
        self.stopping = threading.Event()
        self.start()

    def run(self) -> None:
        with self.database.connect() as connection, connection.cursor() as cursor:
            while not self.stopping.is_set():
                version = len(self.seen) + 1
                cursor.execute(f"UPDATE shop.item SET version = {version} WHERE id = {self.row}")
                committed = time.monotonic()
                while self.redis.hget(f"item:{self.row}", "version") != b"%d" % version:
                    time.sleep(0.002)
                self.seen.append((committed, time.monotonic() - committed))
                time.sleep(0.05)

    def go_on(self, changes: int) -> None:
        """Wait until so many more are seen."""
        wanted = len(self.seen) + changes
        until(lambda: len(self.seen) >= wanted)


def shards_of_rows(database: OutboxDatabase) -> list[int]:
    """Make the table and its rows; the shard of each."""
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, version INT) ENGINE=InnoDB")
    database.sync_table(**ITEM, shards=8)
    shards = []
    for row in range(ROWS):
        database.execute(f"INSERT INTO shop.item VALUES ({row}, 0)")
        ((shard,),) = database.execute("SELECT shard FROM gearsync.outbox ORDER BY id DESC LIMIT 1")
        shards.append(shard)
    return shards


def configurations(
    database: OutboxDatabase, redis_server: RedisServer, network: Network
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of a worker on this host and of one on the other, for which Redis listens at the link too."""
    redis_server.client.config_set("bind", f"127.0.0.1 {network.near}")
    redis_server.client.config_set("protected-mode", "no")
    times = {"lease": LEASE, "io_timeout": 2.0}
    redis = {"host": network.near, "port": redis_server.port}
    account = {"user": "far", "host": network.near, "port": database.port}
    return (
        worker_config(redis_server.port, [ITEM], database.account, **times),
        worker_config(redis, [ITEM], account, **times),
    )


def held_shards(database: OutboxDatabase, network: Network) -> dict[str, set[int]]:
    """The shards that processes "here" and on the host "there" hold."""
    held: dict[str, set[int]] = {"here": set(), "there": set()}
    for owner, shard in database.execute(
        "SELECT owner, shard FROM gearsync.lease WHERE owner IS NOT NULL AND expires_at > NOW(6)"
    ):
        held["there" if network.name in owner else "here"].add(shard)
    return held


def back_after(probes: list[Probe], cut: float) -> float:
    """When the last of the changes that the cut delayed was seen."""
    return max(
        committed + seconds
        for probe in probes
        for committed, seconds in probe.seen
        if committed < cut + LEASE and seconds > 0.5
    )


def p99(probes: list[Probe], begin: float, end: float) -> float:
    """Of changes committed between two times, in seconds."""
    delays = sorted(
        seconds for probe in probes for committed, seconds in probe.seen if begin <= committed < end
    )
    return delays[int(0.99 * len(delays))]


@pytest.mark.long
def test_the_shards_of_a_host_without_power_are_drained_elsewhere_and_delay_no_others(
    reachable: OutboxDatabase,
    redis_server: RedisServer,
    network: Network,
    start_worker: Callable[..., Worker],
) -> None:
    database = reachable
    shards = shards_of_rows(database)
    here, there = configurations(database, redis_server, network)
    start_worker(here)
    lost = start_worker(there, prefix=network.prefix)
    until(lambda: all(len(held) > 1 for held in held_shards(database, network).values()))
    probes = [Probe(database, redis_server, row) for row in range(ROWS)]
    for probe in probes:
        probe.go_on(60)
    held = held_shards(database, network)
    theirs, ours = (
        [probe for probe in probes if shards[probe.row] in held[place]] for place in ("there", "here")
    )
    assert theirs
    assert ours
    before = probes[0].seen[-40][0]
    cut = time.monotonic()
    network.cut()
    for probe in theirs:
        probe.go_on(3)
    back = back_after(theirs, cut)
    for probe in probes:
        probe.stopping.set()
    for probe in probes:
        probe.join()
    print(
        f"{len(theirs)} rows of the lost host go on after {back - cut:.2f} s (lease {LEASE:g} s);"
        f" p99 of the other {len(ours)}: {p99(ours, before, cut) * 1000:.1f} ms before, "
        f"{p99(ours, cut, back) * 1000:.1f} ms meanwhile"
    )
    until(lambda: database.waiting, 0)
    for probe in probes:
        assert redis_server.client.lrange(f"log:{probe.row}", 0, -1) == [
            b"%d" % version for version in range(len(probe.seen) + 1)
        ]
    lost.kill()
