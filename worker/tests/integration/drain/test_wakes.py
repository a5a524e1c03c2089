# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker that looks for changes only when a job asks for it: wakes, and the barrier."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import insert
from harness.waiting import until
from harness.worker import Worker

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


def test_a_wake_that_waits_comes_to_the_process_that_takes_its_shard(
    woken: Worker, gearmand: Gearmand, database: OutboxDatabase
) -> None:
    function = "gearsync.drain.main.0"
    # No process takes jobs of this function: all further wakes are merged into this one.
    gearmand.submit(function, b"", unique="0")
    database.execute("INSERT INTO gearsync.lease (shard) VALUES (0)")
    until(lambda: gearmand.queue(function), (0, 0, 1))


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


def test_a_worker_leaves_the_jobs_of_other_sources_at_a_shared_job_server(
    config: dict[str, Any], gearmand: Gearmand, start_worker: Callable[..., Worker]
) -> None:
    config["worker"].update(shared_job_servers=True)
    config["job_servers"] = [gearmand.address]
    config["tables"].append(
        {
            "table": "shop.direct",
            "delivery": "direct",
            "function": "shopToRedis",
            "columns": ["id"],
            "write": [{"type": "hash", "key": "direct:{id}"}],
        }
    )
    start_worker(config)
    for function in ("gearsync.barrier.main", "shopToRedis", "reverse"):
        until(lambda function=function: gearmand.queue(function)[2] > 0)
    assert [gearmand.queue(function)[2] for function in ("syncToRedis", "gearsync.barrier")] == [0, 0]
