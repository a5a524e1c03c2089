# SPDX-License-Identifier: GPL-2.0-or-later
"""libgearman_mysql_udf against a real gearmand."""

from __future__ import annotations

import resource
import signal
import time
from pathlib import Path

from fake_server import FakeServer
from gman_calls import at_once, configure, server, use, wake
from harness.gearmand import Gearmand
from sanitized import Driver


def test_foreground(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    for function in ["gman_do", "gman_do_high", "gman_do_low"]:
        assert gman.call(function, "reverse", "hello world!") == b"!dlrow olleh"
    assert gman.call("gman_do", "echo", bytes(range(256)) * 300) == bytes(range(256)) * 300
    assert gman.call("gman_do", "echo", None) == b""
    assert gman.call("gman_do", "chatty", "x") == b"done"
    assert gman.call("gman_do", "fail", "x") is None
    assert gman.rows(50, "gman_do", "reverse", "ab") == (0, b"ba")
    assert server(gman, gearmand.address)["connects"] == 1


def test_result_of_16_mib_but_not_more(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    answer = gman.call("gman_do", "large", 16 * 1024 * 1024)
    assert answer is not None
    assert len(answer) == 16 * 1024 * 1024
    assert gman.call("gman_do", "large", 16 * 1024 * 1024 + 1000) is None
    assert gman.call("gman_do", "reverse", "ab") == b"ba"


def test_an_idle_connection_keeps_little_memory(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    size = 8 * 1024 * 1024
    assert gman.call("gman_do", "reverse", "ab")
    before = int(gman.ask("allocated"))
    assert gman.call("gman_do", "large", size)
    assert server(gman, gearmand.address)["idle_connections"] == 1
    assert int(gman.ask("allocated")) - before < 128 * 1024


def test_a_workers_exception_is_a_failed_job(gman: Driver, gearmand: Gearmand) -> None:
    """gearmand tells it with a NUL after the handle. Nothing is wrong with the connection."""
    use(gman, gearmand.address)
    for _ in range(3):
        assert gman.call("gman_do", "raise", "ValueError") is None
    state = server(gman, gearmand.address)
    assert (state["failures"]["job_failed"], state["failures"]["protocol"], state["connects"]) == (3, 0, 1)


def test_too_many_open_files_here_cost_no_breaker(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    pid, most = gman.process.pid, resource.prlimit(gman.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (int(gman.ask("fds")), most[1]))
    for _ in range(3):
        assert gman.call("gman_do_background", "f", "x") is None
    state = server(gman, gearmand.address)
    assert (state["state"], state["breaker_openings"], state["failures"]["memory"]) == ("closed", 0, 3)
    assert "Too many open files" in state["last_error"]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, most)
    assert gman.call("gman_do_background", "f", "x")


def test_large_workload(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    assert gman.call("gman_do", "count", "x" * 9_000_000) == b"9000000"


def test_job_timeout_costs_no_breaker(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    configure(gman, job_timeout_ms=200)
    began = time.monotonic()
    assert at_once(gman, "gman_do", "no worker does this", "x") is None
    assert time.monotonic() - began >= 0.2
    state = server(gman, gearmand.address)
    assert state["state"] == "closed"
    assert state["failures"]["job_timeout"] == 1
    configure(gman, job_timeout_ms=60_000)
    assert gman.call("gman_do", "reverse", "ab") == b"ba"


def test_background_and_unique(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    first = gman.call("gman_do_background", "nobody", "x", "one")
    assert first
    assert first.startswith(b"H:")
    assert gman.call("gman_do_background", "nobody", "y", "one") == first
    assert gman.call("gman_do_background", "nobody", "y", "two") != first
    long = "k" * 63
    assert gman.call("gman_do_background", "nobody", "y", long + "1") != gman.call(
        "gman_do_background", "nobody", "y", long + "2"
    )
    assert gearmand.queue("nobody")[0] == 4


def test_sum(gman: Driver, gearmand: Gearmand) -> None:
    use(gman, gearmand.address)
    assert gman.sum("echo", [1, 2, 3, -10]) == -4
    assert gman.sum("echo", ["1.25", "2.5"]) == 4
    assert gman.sum("echo", [" 7 \n"]) == 7
    assert gman.sum("count", ["x" * n for n in range(200)]) == 19900
    assert gman.sum("echo", [2**62, 2**62 - 1, 0]) == 2**63 - 1
    assert gman.sum("echo", [2**62, 2**62]) is None
    for wrong in ["", "abc", "1 2", "0x10", "inf", "nan", "1e999", None, "9" * 30, "9" * 70, "1\0"]:
        assert gman.sum("echo", [1, wrong]) is None, wrong
    assert gman.sum("fail", [1]) is None
    assert gman.sum("echo", []) == 0
    assert gman.sum("echo", [5]) == 5


def test_sum_runs_the_jobs_in_parallel(gman: Driver, gearmand: Gearmand, tmp_path: Path) -> None:
    use(gman, gearmand.address)
    configure(gman, job_timeout_ms=600_000)
    # Each waits until the other one runs.
    assert gman.sum("meet", [str(tmp_path / "one"), str(tmp_path / "other")]) == 2


def test_ipv6(gman: Driver) -> None:
    with FakeServer(host="::1") as six:
        use(gman, six.address)
        assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"


def test_gearmand_restart_costs_no_job(gman: Driver, own_gearmand: Gearmand) -> None:
    use(gman, own_gearmand.address)
    gman.call(
        "gman_configure", "breaker_retry_ms", 10
    )  # a connection that lasted as long is replaced at once
    for round_ in range(3):
        assert gman.call("gman_do_background", "f", "x"), round_
        wake(gman, "w", "x")
        own_gearmand.stop(signal.SIGKILL)
        own_gearmand.start()
    state = server(gman, own_gearmand.address)
    assert state["breaker_openings"] == 0
    assert state["stale_connections"] == 2
    assert state["reconnects"] == 2
    assert gman.call("gman_do_background", "f", "x")
