# SPDX-License-Identifier: GPL-3.0-or-later
"""Two worker hosts of which one reaches only the former primary: one server is drained at a time, and nothing
of the former one replaces what Redis has of the new one.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.commands import Commands
from harness.failover import TABLE, Member, Pair
from harness.redis_cluster import Cluster
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, unused_port, worker_config

START_WORKER = Callable[..., Worker]
RECORD = "gearsync:main:fence:term"
#: In the log of a worker that may not drain the server that it reaches, and why.
REFUSED = "action=former_primary"
UNKNOWN, STILL_DRAINED = "has no data of that term", "was drained before"


@pytest.fixture
def config(pair: Pair, redis_server: RedisServer) -> dict[str, Any]:
    # Leases end soon: those of a worker that does not reach the new primary are needed there.
    times = {"keep": 0.2, "remember": 60.0, "lease": 5.0, "reconnect_max": 2.0}
    return worker_config(redis_server.port, [TABLE], pair.account, **times)


def reaching(config: dict[str, Any], member: Member) -> dict[str, Any]:
    """The configuration of a host from which only one of the members is reachable."""
    members = [f"127.0.0.1:{unused_port()}", member.address]
    return {**config, "mysql": {**config["mysql"], "members": members}}


def item(member: Member, row: int, version: int) -> None:
    """Write a row there."""
    member.execute(
        f"INSERT INTO shop.item VALUES ({row}, {version}, 'n{row}') ON DUPLICATE KEY UPDATE "
        f"version = {version}"
    )


def entries(redis_server: RedisServer) -> list[tuple[int, int]]:
    """Row and version of each entry of the stream."""
    found = redis_server.client.xrange("changes")
    return [(int(fields[b"id"]), int(fields[b"version"])) for _id, fields in found]


def in_redis(redis_server: RedisServer, row: int, version: int) -> None:
    """Wait until Redis has this version of a row."""
    until(lambda: redis_server.client.hget(f"item:{row}", "version"), b"%d" % version)


class Hosts:
    """Two worker hosts: each reaches one member. The first one has drained the primary."""

    def __init__(self, pair: Pair, config: dict[str, Any], start: START_WORKER, redis: RedisServer) -> None:
        self.pair, self.redis = pair, redis
        self.first, self.second = pair.members
        self.config = reaching(config, self.first)
        self.of_first = start(self.config)
        item(self.first, 1, 1)
        in_redis(redis, 1, 1)
        pair.wait()
        self.of_second = start(reaching(config, self.second))

    def part(self, *, unnoticed: bool) -> None:
        """The second member becomes the primary and is drained, and the first one is writable: because it
        has not noticed, or after it was a replica for a while.
        """
        if unnoticed:
            self.pair.replica.stop_receiving()
            self.pair.replica.promote()
            self.pair.primary, self.pair.replica = self.second, self.first
        else:
            self.pair.switch()
        item(self.second, 1, 2)
        in_redis(self.redis, 1, 2)
        until(lambda: self.redis.client.hget(RECORD, "term").startswith(b"2 "))
        if not unnoticed:
            self.pair.wait()
            self.first.stop_replication()
            self.first.set_writable(True)


@pytest.fixture
def hosts(pair: Pair, config: dict[str, Any], start_worker: START_WORKER, redis_server: RedisServer) -> Hosts:
    return Hosts(pair, config, start_worker, redis_server)


@pytest.mark.parametrize("unnoticed", [True, False])
def test_a_former_primary_that_is_writable_is_not_drained(
    hosts: Hosts, redis_server: RedisServer, tmp_path: Path, unnoticed: bool
) -> None:
    hosts.part(unnoticed=unnoticed)
    item(hosts.first, 1, 3)
    item(hosts.first, 2, 3)
    hosts.of_first.says(REFUSED)
    assert (UNKNOWN if unnoticed else STILL_DRAINED) in hosts.of_first.said
    assert f"{hosts.second.address} is drained" in hosts.of_first.said
    for version in range(4, 8):
        item(hosts.second, 1, version)
        item(hosts.first, 1, version - 4)
        in_redis(redis_server, 1, version)
    commands = Commands(hosts.config, tmp_path)
    for words in (
        ("verify", "--repair", "--prune"),
        ("resync",),
        ("dead-letter", "retry", "--all"),
        ("dead-letter", "drop", "--all", "--yes"),
    ):
        code, output = commands.run(*words)
        assert code != 0
        assert f"{hosts.second.address} is drained, and {hosts.first.address} " in output
    in_redis(redis_server, 1, 7)
    until(lambda: "former primary" in commands.run("status")[1])
    code, output = commands.run("status", "--json")
    assert code == 1
    assert "former primary" in " ".join(json.loads(output.splitlines()[0])["mistakes"])
    hosts.pair.wait_until_drained()
    assert redis_server.client.exists("item:2") == 0
    assert entries(redis_server) == [(1, version) for version in (1, 2, 4, 5, 6, 7)]
    assert REFUSED not in hosts.of_second.said


@pytest.mark.parametrize("unnoticed", [True, False])
def test_a_former_primary_is_not_written_to(
    hosts: Hosts, start_worker: START_WORKER, unnoticed: bool
) -> None:
    hosts.part(unnoticed=unnoticed)
    hosts.of_first.says(REFUSED)
    # What it has of its own keeps it from becoming a replica again.
    before = hosts.first.gtids
    # Leases are renewed each second.
    time.sleep(3.0)
    assert hosts.first.gtids == before
    hosts.of_first.terminate()
    assert hosts.first.gtids == before
    # Nor when it is the first server that a worker sees.
    start_worker(hosts.config).says(REFUSED)
    time.sleep(3.0)
    assert hosts.first.gtids == before


def test_a_worker_that_was_refused_stays_so_when_redis_has_lost_the_new_term(
    hosts: Hosts, redis_server: RedisServer
) -> None:
    r = redis_server.client
    before = {key: r.dump(key) for key in r.keys("gearsync:main:fence:*")}
    hosts.part(unnoticed=True)
    hosts.of_first.says(REFUSED)
    hosts.of_second.pause()
    for key, content in before.items():
        r.restore(key, 0, content, replace=True)
    item(hosts.first, 1, 3)
    # It tries again after two seconds at the latest.
    time.sleep(3.0)
    hosts.of_second.resume()
    item(hosts.second, 1, 4)
    in_redis(redis_server, 1, 4)
    until(lambda: r.hget(RECORD, "term").startswith(b"2 "))
    assert (1, 3) not in entries(redis_server)


def test_an_operator_can_say_that_the_former_primary_is_the_right_one(
    hosts: Hosts, redis_server: RedisServer
) -> None:
    hosts.part(unnoticed=True)
    hosts.of_first.says(REFUSED)
    item(hosts.first, 1, 3)
    hosts.second.set_writable(False)
    found = re.search(r"REPLACE INTO .*\)", hosts.of_first.said)
    assert found, hosts.of_first.said
    hosts.first.execute(found[0].partition(" there")[0])
    in_redis(redis_server, 1, 3)
    assert redis_server.client.hget(RECORD, "term").startswith(b"3 ")


def test_the_new_primary_is_left_when_the_former_one_has_all_of_it(
    pair: Pair, config: dict[str, Any], start_worker: START_WORKER, redis_server: RedisServer
) -> None:
    first, second = pair.members
    of_first = start_worker(reaching(config, first))
    of_second = start_worker(reaching(config, second))
    for version in range(1, 5):
        item(pair.primary, 1, version)
        in_redis(redis_server, 1, version)
        pair.switch()
    assert entries(redis_server) == [(1, version) for version in range(1, 5)]
    for worker in (of_first, of_second):
        assert UNKNOWN not in worker.said


def test_fences_of_the_former_release_are_taken_over(
    pair: Pair, config: dict[str, Any], start_worker: START_WORKER, redis_server: RedisServer
) -> None:
    r, (first, _second) = redis_server.client, pair.members
    # With one member fences are as before.
    former = {**config, "mysql": {**config["mysql"], "members": [first.address]}}
    former["worker"] = {**config["worker"], "keep": 3600.0}
    worker = start_worker(former)
    for row in (1, 2):
        item(first, row, 1)
        in_redis(redis_server, row, 1)
    assert r.exists(RECORD) == 0
    fences = [key for key in r.keys("gearsync:main:fence:*") if not r.hexists(key, "term")]
    worker.kill()
    start_worker(config)
    item(first, 1, 2)
    in_redis(redis_server, 1, 2)
    pair.wait_until_drained()
    assert any(r.hexists(key, "term") for key in fences)
    assert r.hget(RECORD, "term").startswith(b"1 ")
    pair.switch()
    item(pair.primary, 2, 2)
    in_redis(redis_server, 2, 2)
    assert entries(redis_server) == [(1, 1), (2, 1), (1, 2), (2, 2)]


def test_terms_begin_when_the_schema_of_the_former_release_is_migrated(
    pair: Pair, config: dict[str, Any], start_worker: START_WORKER, redis_server: RedisServer
) -> None:
    r, (first, _second) = redis_server.client, pair.members
    first.execute("DROP TABLE gearsync.term", "DELETE FROM gearsync.schema_version WHERE version > 9")
    start_worker(config)
    item(first, 1, 1)
    in_redis(redis_server, 1, 1)
    assert r.exists(RECORD) == 0
    first.sync_table(**TABLE)
    until(lambda: r.exists(RECORD), 1)
    pair.switch()
    item(pair.primary, 1, 2)
    in_redis(redis_server, 1, 2)
    assert entries(redis_server) == [(1, 1), (1, 2)]


def test_a_worker_of_the_former_release_beside_does_no_harm(
    pair: Pair, config: dict[str, Any], start_worker: START_WORKER, redis_server: RedisServer
) -> None:
    first, _second = pair.members
    former = {**config, "mysql": {**config["mysql"], "members": [first.address]}}
    workers = [start_worker(former), start_worker(config)]
    for worker in workers:
        worker.says("action=lease_taken")
    for version in range(1, 20):
        for row in range(1, 6):
            item(first, row, version)
    workers[1].terminate()
    workers.append(start_worker(config))
    for row in range(1, 6):
        item(first, row, 20)
        in_redis(redis_server, row, 20)
    pair.wait_until_drained()
    found = entries(redis_server)
    assert len(found) == len(set(found)) == 100
    for worker in workers:
        assert REFUSED not in worker.said


def test_a_switch_is_followed_with_a_redis_cluster(
    pair: Pair, config: dict[str, Any], start_worker: START_WORKER, cluster: Cluster
) -> None:
    redis = cluster.client
    start_worker({**config, "redis": {"cluster": cluster.addresses}})
    for version in range(1, 4):
        for row in range(1, 9):
            item(pair.primary, row, version)
        until(lambda: {redis.hget(f"item:{row}", "version") for row in range(1, 9)}, {b"%d" % version})
        pair.switch()
