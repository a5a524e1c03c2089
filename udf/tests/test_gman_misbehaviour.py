# SPDX-License-Identifier: GPL-2.0-or-later
"""Answers of job servers that misbehave, are slow, or close kept connections."""

from __future__ import annotations

import pytest
from fake_server import FakeServer
from gman_calls import at_once, configure, patient, server, submit, use
from harness.waiting import until
from sanitized import Driver


@pytest.mark.parametrize(
    ("mode", "kind", "opens"),
    [
        ("close", "closed", True),
        ("half", "closed", True),
        ("garbage", "protocol", True),
        ("error", "rejected", False),
        ("huge", "protocol", True),
        ("flood", "protocol", True),
        ("large", "protocol", True),
    ],
)
def test_misbehaviour(gman: Driver, fake: FakeServer, mode: str, kind: str, opens: bool) -> None:
    fake.mode = mode
    use(gman, fake.address)
    configure(gman, breaker_retry_ms=20)
    assert at_once(gman, "gman_do_background", "f", "x") is None
    state = server(gman, fake.address)
    assert state["failures"][kind] == 1
    assert state["last_error"]
    assert state["state"] == ("open" if opens else "closed")
    fake.mode = "good"
    until(lambda: submit(gman))


@pytest.mark.parametrize("mode", ["slow", "drip"])
def test_slow_but_in_time(gman: Driver, fake: FakeServer, mode: str) -> None:
    fake.mode = mode
    use(gman, fake.address)
    assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"
    assert server(gman, fake.address)["breaker_openings"] == 0


def test_late_answer_is_not_taken_for_the_next_one(gman: Driver, fake: FakeServer) -> None:
    fake.mode = "held"
    use(gman, fake.address)
    configure(gman, io_timeout_ms=100, breaker_retry_ms=20)
    assert gman.call("gman_do_background", "f", "first") is None
    patient(gman)
    until(lambda: len(fake.jobs), 1)
    fake.mode = "good"
    fake.release()
    until(lambda: gman.call("gman_do_background", "f", "second"))
    assert gman.call("gman_do_background", "f", "third") == b"H:fake:%d" % len(fake.jobs)


def test_kept_connection_that_the_server_has_closed(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    for expected in range(1, 4):
        assert gman.call("gman_do_background", "f", "x") == b"H:fake:%d" % expected
        fake.hang_up()
    state = server(gman, fake.address)
    assert state["breaker_openings"] == 0
    assert state["failures"]["closed"] == 0
    assert state["connects"] == 3


@pytest.mark.parametrize("kind", ["gman_do", "gman_sum"])
def test_progress_without_end_ends_at_the_job_timeout(gman: Driver, fake: FakeServer, kind: str) -> None:
    """Without the timeout the call would not end."""
    fake.mode = "endless"
    use(gman, fake.address)
    configure(gman, job_timeout_ms=300)
    assert (gman.call("gman_do", "f", "x") if kind == "gman_do" else gman.sum("f", [1, 2, 3])) is None
    assert server(gman, fake.address)["failures"]["job_timeout"] == 1


def test_connections_are_counted(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    gman.storm(8, 0.2, "gman_do_background", "f", "x")
    state = server(gman, fake.address)
    assert state["connects"] >= 1
    assert (state["reconnects"], state["busy_connections"]) == (
        0,
        0,
    )  # connections in parallel are not reconnects
    fake.mode = "held"
    gman.start("gman_do_background", "f", "x")
    until(lambda: server(gman, fake.address)["busy_connections"], 1)
    fake.release()
    gman.join()
    assert server(gman, fake.address)["busy_connections"] == 0
    fake.mode = "good"
    fake.hang_up()
    until(lambda: submit(gman))
    assert server(gman, fake.address)["reconnects"] >= 1
