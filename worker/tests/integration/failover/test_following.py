# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and a replica that become each other: the worker follows, and loses nothing."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from harness.commands import Commands
from harness.database import server_program
from harness.failover import Application, Pair, Stream, differences
from harness.ledger import Observer
from harness.redis_server import RedisServer
from harness.worker import Worker

SWITCHES = int(os.environ.get("GEARSYNC_TEST_SWITCHES", "2"))
WRITERS = int(os.environ.get("GEARSYNC_TEST_WRITERS", "3"))
pytestmark = pytest.mark.timeout(900 + 60 * SWITCHES)


def test_a_planned_switch_is_followed_and_nothing_is_lost_or_repeated(
    pair: Pair, worker: Worker, redis_server: RedisServer
) -> None:
    r = redis_server.client
    with Application(pair) as application, Observer(r, application.ids):
        for number in range(3):
            application.go_on()
            pair.switch()
            application.go_on()
            worker.says("action=primary_changed", times=number + 1)
    pair.wait_until_drained()
    assert differences(pair.primary, r) == {}
    stream = Stream(pair.primary, r)
    assert (stream.missing, stream.lost, stream.repeated) == (set(), set(), set())
    for action in ("epoch_raised", "lost_upstream", "split_brain"):
        assert f"action={action}" not in worker.said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_failover_that_loses_nothing_is_followed(
    pair: Pair, worker: Worker, redis_server: RedisServer, number: int
) -> None:
    r = redis_server.client
    with Application(pair) as application:
        application.go_on()
    pair.wait()
    pair.fail_over(number=number)
    with application, Observer(r, application.ids):
        application.go_on()
    pair.wait_until_drained()
    assert differences(pair.primary, r) == {}
    stream = Stream(pair.primary, r)
    assert (stream.missing, stream.lost, stream.repeated) == (set(), set(), set())


def test_commands_work_with_the_primary(
    pair: Pair, worker: Worker, redis_server: RedisServer, commands: Commands
) -> None:
    pair.primary.execute("INSERT INTO shop.item VALUES (1, 1, 'one')")
    commands.done("barrier")
    pair.switch()
    commands.done("barrier")
    assert commands.verify()[0] == 0
    redis_server.client.delete("item:1")
    assert commands.verify("--repair")[0] == 0
    assert redis_server.client.exists("item:1")
    commands.done("resync")
    # It fails without a job server.
    lines = commands.run("selftest")[1].splitlines()
    assert lines[-1] == f"ok: MySQL: the primary is {pair.primary.address}"
    assert next(line for line in lines if line.endswith("read-only")).startswith(
        f"ok: MySQL {pair.replica.address}"
    )
    pair.fail_over(number=signal.SIGSTOP)
    # One that does not answer is not waited for.
    commands.done("barrier")
    assert commands.verify()[0] == 0
    assert "does not answer" in commands.run("status")[1]


def seconds_until_seen(pair: Pair, redis_server: RedisServer, row: int, writable: float) -> float:
    """The seconds from the moment when the new primary was writable until Redis has a change of it."""
    pair.primary.execute(f"INSERT INTO shop.item VALUES ({row}, 1, 'seen')")
    while not redis_server.client.exists(f"item:{row}"):
        time.sleep(0.002)
    return time.monotonic() - writable


@pytest.mark.skipif(server_program()[0] == "mysql", reason="a copy is made by MariaDB's programs")
def test_switches_and_failovers_under_writers_lose_nothing_of_the_new_primary(
    pair: Pair, worker: Worker, redis_server: RedisServer, commands: Commands
) -> None:
    r = redis_server.client
    followed: dict[str, list[float]] = {"planned": [], "killed": []}
    with Application(pair, WRITERS) as application, Observer(r, application.ids):
        for number in range(SWITCHES):
            kind = "killed" if number % 2 else "planned"
            application.go_on()
            time.sleep(random.uniform(0.5, 1.5))
            writable = pair.switch() if kind == "planned" else pair.fail_over(lost=random.uniform(0.0, 0.5))
            followed[kind].append(seconds_until_seen(pair, redis_server, 1_000_000 + number, writable))
            application.go_on()
            if kind == "killed":
                pair.replica.become_copy(pair.primary)
            pair.wait_until_close()
    pair.wait_until_drained()
    stream = Stream(pair.primary, r)
    for kind, seconds in followed.items():
        print(
            f"{kind}: {', '.join(f'{each:.2f}' for each in sorted(seconds))} s until the first change",
            flush=True,
        )
    print(
        f"{stream.committed} changes, {len(stream.lost)} lost upstream, {len(stream.missing)} missing, "
        f"{len(stream.repeated)} repeated"
    )
    assert (stream.missing, stream.repeated) == (set(), set())
    commands.verify("--repair", "--prune", "--max-prune", "100%")
    assert commands.verify()[0] == 0
    assert differences(pair.primary, r) == {}
    assert pair.primary.execute("SELECT * FROM gearsync.dead_letter") == []
