# SPDX-License-Identifier: GPL-2.0-or-later
"""Several job servers: which one gets a job, and which jobs are sent again."""

from __future__ import annotations

import pytest
from fake_server import FakeServer
from gman_calls import configure, patient, server, submit, use
from harness.ports import free_port
from harness.waiting import until
from sanitized import Driver, RowError


def test_order_and_failover(gman: Driver) -> None:
    with FakeServer() as first, FakeServer() as second:
        use(gman, first.address, second.address)
        assert gman.call("gman_do_background", "f", "1")
        first.stop()
        assert gman.call("gman_do_background", "f", "2")
        assert [job[3] for job in first.jobs] == [b"1"]
        assert [job[3] for job in second.jobs] == [b"2"]
        assert server(gman, first.address)["state"] == "open"
        assert server(gman, second.address)["state"] == "closed"


@pytest.mark.parametrize("mode", ["close", "silent", "half"])
def test_no_blind_resubmission(gman: Driver, mode: str) -> None:
    with FakeServer(mode) as first, FakeServer() as second:
        use(gman, first.address, second.address)
        if mode == "silent":
            configure(gman, io_timeout_ms=250)
        assert submit(gman) is None
        until(lambda: len(first.jobs), 1)
        assert not second.jobs


@pytest.mark.parametrize("mode", ["close", "silent", "half"])
def test_a_job_with_unique_is_sent_again(gman: Driver, mode: str) -> None:
    if mode == "silent":
        configure(gman, io_timeout_ms=500)

    def again() -> bool:
        with FakeServer(mode) as first, FakeServer() as second:
            use(gman, first.address, second.address)
            handle = submit(gman, "key")
            # On a busy machine the second server may need longer than the timeout that is meant for the
            # first.
            if handle is None and mode == "silent":
                return False
            assert handle == b"H:fake:1"
            until(lambda: len(first.jobs), 1)
            assert len(second.jobs) == 1
            return True

    until(again)


def test_refused_job_goes_to_the_next_server(gman: Driver) -> None:
    with FakeServer("error") as first, FakeServer() as second:
        use(gman, first.address, second.address)
        assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"
        assert len(second.jobs) == 1
        assert server(gman, first.address)["last_error"] == "refused with ERR_QUEUE_FULL: Job queue is full"


def test_all_servers_together_stay_within_the_bound(gman: Driver) -> None:
    """connect_timeout_ms and io_timeout_ms apply once to all servers: the call ends at the second of five
    that hang.
    """
    fakes = [FakeServer("silent") for _ in range(5)]
    try:
        use(gman, *(one.address for one in fakes))
        configure(gman, connect_timeout_ms=300, io_timeout_ms=300)
        assert submit(gman, "key") is None  # with a unique key a job may try all servers
        sent = [server(gman, one.address)["jobs_sent"] for one in fakes]
        assert sent[0] == 1
        assert sum(sent) <= 2
    finally:
        for one in fakes:
            one.stop()


def test_time_used_up_by_another_server_is_not_blamed_on_the_next(gman: Driver) -> None:
    def blamed() -> bool:
        with FakeServer("silent") as first, FakeServer("held") as second:
            use(gman, first.address, second.address)
            configure(gman, connect_timeout_ms=200, io_timeout_ms=600)
            assert submit(gman, "key") is None  # the second server has connect_timeout_ms at most
            state = server(gman, second.address)
            # On a busy machine the first server may have used up all the time.
            if state["jobs_sent"] == 0:
                return False
            assert server(gman, first.address)["state"] != "closed"
            assert (state["state"], state["breaker_openings"], state["failures"]["timeout"]) == (
                "closed",
                0,
                1,
            )
            patient(gman)
            second.mode = "good"
            assert submit(gman, "key")
            return True

    until(blamed)


def test_background_errors_can_fail_the_statement(gman: Driver) -> None:
    use(gman, f"127.0.0.1:{free_port()}")
    assert gman.call("gman_do_background", "f", "x") is None
    assert gman.call("gman_configure", "background_errors", "error") == b"error"
    with pytest.raises(RowError):
        gman.call("gman_do_background", "f", "x")
    assert gman.call("gman_do", "f", "x") is None
