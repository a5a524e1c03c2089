# SPDX-License-Identifier: GPL-2.0-or-later
"""gman_wake, which never waits."""

from __future__ import annotations

import time

import pytest
from fake_server import FakeServer
from gman_calls import configure, server, stats, use, wake, wakes_at_once
from harness.gearmand import Gearmand
from harness.ports import free_port
from harness.waiting import until
from sanitized import Driver


def test_wake(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    wake(gman, "drain", "shard-1")
    until(lambda: gearmand.queue("drain")[0], 1)
    gman.call("gman_configure", "wake_interval_ms", 60000)
    assert gman.integer("gman_wake", "drain", "shard-2") == 1
    assert gman.integer("gman_wake", "drain", "shard-2") == 0
    assert gman.integer("gman_wake", "other", "shard-2") == 1
    assert gman.integer("gman_wake", None, "x") is None
    counts = stats(gman)["wakes"]
    assert (counts["sent"], counts["skipped"]) == (3, 1)


@pytest.mark.parametrize("mode", ["good", "silent", "deaf", "close", "garbage", "flood"])
def test_wake_never_waits(gman: Driver, fake: FakeServer, mode: str) -> None:
    fake.mode = mode
    use(gman, fake.address)
    configure(gman, wake_interval_ms=1)
    wakes_at_once(gman, 300)
    if mode in ("silent", "deaf"):
        configure(gman, io_timeout_ms=100)

    def dropped() -> bool:
        gman.integer("gman_wake", "f", "x")
        counts = stats(gman)["wakes"]
        return counts["sent"] > 0 and (mode == "good" or counts["dropped"] > 0)

    until(dropped)


def test_wake_without_a_server_listening(gman: Driver) -> None:
    use(gman, f"127.0.0.1:{free_port()}")
    assert gman.integer("gman_wake", "f", "x") == 0
    assert stats(gman)["wakes"]["dropped"] == 1


@pytest.mark.parametrize(
    ("mode", "kind"), [("silent", "timeout"), ("close", "closed"), ("garbage", "protocol")]
)
def test_failures_of_wake_connections_are_counted(
    gman: Driver, fake: FakeServer, mode: str, kind: str
) -> None:
    fake.mode = mode
    use(gman, fake.address)
    if mode == "silent":
        configure(gman, io_timeout_ms=100)

    def counted() -> bool:
        gman.integer("gman_wake", "f", "x")
        return server(gman, fake.address)["failures"][kind] > 0

    until(counted)
    assert server(gman, fake.address)["last_error"].startswith("gman_wake: ")
    assert server(gman, fake.address)["breaker_openings"] == 0


def test_wakes_at_the_same_time_do_not_take_each_others_turn(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    wake(gman, "f", "first")
    configure(gman, wake_interval_ms=60_000)

    def sent() -> int:
        # On a busy machine the thread that sends may be descheduled for long, while all others drop their
        # wake-ups.
        gman.mix(64, 0.05, *(("gman_wake", "f", f"shard-{n}") for n in range(64)))
        return int(stats(gman)["wakes"]["sent"])

    # A dropped wake-up does not count as sent.
    until(lambda: sent() >= 65)
    assert stats(gman)["wakes"]["sent"] == 65
    until(lambda: len(fake.jobs), 65)
    assert {job[2] for job in fake.jobs} == {b"first", *(b"shard-%d" % n for n in range(64))}


def test_wake_goes_to_the_next_server(gman: Driver, fake: FakeServer) -> None:
    use(gman, f"127.0.0.1:{free_port()}", fake.address)
    wake(gman, "f", "x")
    until(lambda: fake.jobs, [(18, b"f", b"x", b"")])


def test_one_wake_per_interval(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    wake(gman, "f", "first")
    before = stats(gman)["wakes"]
    began = time.monotonic()
    for _ in range(1000):
        gman.integer("gman_wake", "f", "x")
    took = time.monotonic() - began
    counts = {kind: count - before[kind] for kind, count in stats(gman)["wakes"].items()}
    assert 1 <= counts["sent"] <= took / 0.010 + 1
    assert sum(counts.values()) == 1000
    until(lambda: len(fake.jobs), counts["sent"] + 1)
