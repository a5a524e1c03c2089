# SPDX-License-Identifier: GPL-2.0-or-later
"""Job servers that cannot be reached or hang: no write waits for them longer than the settings allow."""

from __future__ import annotations

import select
import socket
import time

import pytest
from fake_server import FakeServer
from gman_calls import BOUND, at_once, configure, patient, server, submit, use
from harness.ports import free_port
from harness.waiting import until
from sanitized import Driver


def test_refused_connections_cost_nothing(gman: Driver) -> None:
    port = free_port()
    use(gman, f"127.0.0.1:{port}")
    configure(gman, breaker_retry_ms=600_000)
    assert submit(gman) is None
    assert gman.rows(3000, "gman_do_background", "f", "x") == (3000, None)
    state = server(gman, f"127.0.0.1:{port}")
    assert (state["breaker_openings"], state["failures"]["connect"], state["refused"]) == (1, 1, 3000)


@pytest.mark.parametrize("mode", ["silent", "deaf"])
def test_hanging_server_costs_one_timeout(gman: Driver, fake: FakeServer, mode: str) -> None:
    fake.mode = mode
    use(gman, fake.address)
    configure(gman, io_timeout_ms=250, breaker_retry_ms=20)
    began = time.monotonic()
    assert at_once(gman, "gman_do_background", "f", "x") is None
    assert time.monotonic() - began >= 0.250
    # After that there are only probes, and no call waits until they are answered or given up.
    configure(gman, io_timeout_ms=100)
    until(
        lambda: (
            (
                gman.storm(4, 0.1, "gman_do_background", "f", "x"),
                server(gman, fake.address)["failures"]["timeout"],
            )[1]
            >= 3
        )
    )
    configure(gman, io_timeout_ms=60_000)
    calls, nulls, worst, _ = gman.storm(4, 0.5, "gman_do_background", "f", "x")
    assert nulls == calls
    assert worst < BOUND * 1e6
    state = server(gman, fake.address)
    assert state["state"] in ("open", "half-open")
    assert (state["breaker_openings"], state["jobs_sent"]) == (1, 1)
    assert state["refused"] > 0


def test_many_threads_meet_a_hanging_server(gman: Driver, fake: FakeServer) -> None:
    """They wait at the same time, not one after the other."""
    fake.mode = "silent"
    use(gman, fake.address)
    configure(gman, io_timeout_ms=2000)
    calls, nulls, worst, _ = gman.storm(32, 0, "gman_do_background", "f", "x")
    assert nulls == calls == 32
    assert worst < BOUND * 1e6


def test_recovery_after_silence(gman: Driver, fake: FakeServer) -> None:
    fake.mode = "silent"
    use(gman, fake.address)
    configure(gman, io_timeout_ms=100, breaker_retry_ms=500)
    began = time.monotonic()
    assert submit(gman) is None
    patient(gman)
    fake.mode = "good"
    until(lambda: submit(gman))
    assert time.monotonic() - began >= 0.6
    assert server(gman, fake.address)["state"] == "closed"


def test_first_call_after_an_outage_finds_the_server(gman: Driver) -> None:
    """A single write long after the outage is not lost to a probe: the probe itself waits a little."""
    configure(gman, breaker_retry_ms=10, probe_wait_ms=1000)

    def finds() -> bool:
        port = free_port()
        use(gman, f"127.0.0.1:{port}")
        assert submit(gman) is None
        with FakeServer(port=port):
            time.sleep(0.02)
            return submit(gman) == b"H:fake:1"

    # A busy machine may take longer for an answer than a probe can wait.
    until(finds)


def test_unroutable_server_costs_the_connect_timeout(gman: Driver) -> None:
    with socket.create_server(("127.0.0.1", free_port()), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):  # fill the queue, so that a SYN is not answered
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        # One connection fits into the queue.
        assert select.select([], fillers, [], 180)[1]
        use(gman, f"127.0.0.1:{port}")
        configure(gman, connect_timeout_ms=100, breaker_retry_ms=600_000)
        began = time.monotonic()
        assert at_once(gman, "gman_do_background", "f", "x") is None
        assert time.monotonic() - began >= 0.1
        assert submit(gman) is None
        state = server(gman, f"127.0.0.1:{port}")
        assert (state["failures"]["connect"], state["refused"]) == (1, 1)
        for filler in fillers:
            filler.close()


def test_server_that_answers_probes_and_accepts_no_job(gman: Driver, fake: FakeServer) -> None:
    """One job at a time is tried, after pauses that double."""
    fake.mode = "echo"
    use(gman, fake.address)
    configure(gman, breaker_retry_ms=20, io_timeout_ms=50)

    def tried() -> int:
        calls, nulls, _, _ = gman.storm(8, 0.2, "gman_do_background", "f", "x")
        assert nulls == calls
        return int(server(gman, fake.address)["jobs_sent"])

    # All threads at first.
    began = time.monotonic()
    most = tried()
    until(lambda: tried() >= most + 2)
    trials, pauses = (
        server(gman, fake.address)["jobs_sent"] - 8,
        [0.020 * 2**doublings for doublings in range(6)],
    )
    pauses += [pauses[-1]] * trials
    assert sum(pauses[: max(trials - 1, 0)]) <= time.monotonic() - began
    assert server(gman, fake.address)["breaker_openings"] == 1
    patient(gman)
    fake.mode = "good"
    until(lambda: submit(gman))
    # After that the pause is short again, and not the longest one of 30 seconds.
    fake.mode = "silent"
    configure(gman, breaker_retry_ms=1000, io_timeout_ms=50)
    assert submit(gman) is None
    patient(gman)
    fake.mode = "good"
    began = time.monotonic()
    until(lambda: submit(gman))
    assert time.monotonic() - began < 25


def test_timeout_of_an_old_call_does_not_open_the_breaker_again(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    configure(gman, io_timeout_ms=3000, breaker_retry_ms=10)
    fake.mode = "silent"
    gman.start("gman_do_background", "f", "old")
    until(lambda: len(fake.jobs), 1)
    patient(gman)
    fake.mode = "close"
    assert submit(gman) is None
    assert server(gman, fake.address)["state"] != "closed"
    fake.mode = "good"
    until(lambda: submit(gman))
    assert gman.join()
    state = server(gman, fake.address)
    assert (state["state"], state["breaker_openings"], state["failures"]["timeout"]) == ("closed", 1, 1)
