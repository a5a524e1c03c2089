# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that has lost its lease is refused, and a new owner reads again what it read before its claim."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from gearsync.apply.fences import Fences
from harness.gearmand import Gearmand
from harness.inner_drain import InnerDrain
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import ITEM, ShopWriters, assert_equal, drained, insert, shop, update
from harness.waiting import until
from harness.worker import Worker


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
    writers = ShopWriters(database)
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
    inner = InnerDrain(
        {**config, "tables": [ITEM], "worker": {**config["worker"], "keep": 0.0}}, gearmand, database
    )
    inner.until(lambda: bool(claims))
    database.put(insert(2))
    inner.until(lambda: bool(r.exists("item:2")))
    inner.close()
    assert r.hget("item:1", "name") == b"new"
