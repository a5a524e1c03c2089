# SPDX-License-Identifier: GPL-2.0-or-later
"""libgearman_mysql_udf against a real gearmand and against job servers that misbehave: no write waits for
them longer than the settings allow.
"""

from __future__ import annotations

import hashlib
import select
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from fake_server import FakeServer
from gman_calls import BOUND, at_once, configure, patient, server, stats, submit, use, wake, wakes_at_once
from harness.gearmand import Gearmand
from harness.ports import free_port
from harness.waiting import until
from sanitized import Driver, Refused, RowError, Value

# --- the server list ---


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("127.0.0.1", "127.0.0.1:4730"),
        ("127.0.0.1:4731", "127.0.0.1:4731"),
        (" localhost , 127.0.0.1:1 ", "localhost:4730,127.0.0.1:1"),
        ("LocalHost:65535", "localhost:65535"),
        ("[::1]", "[::1]:4730"),
        ("[::1]:4731,[FE80::1]:1", "[::1]:4731,[fe80::1]:1"),
        (",".join(f"127.0.0.{n}" for n in range(1, 33)), ",".join(f"127.0.0.{n}:4730" for n in range(1, 33))),
        ("", ""),
        ("  ", ""),
    ],
)
@pytest.mark.parametrize("constant", [True, False])
def test_list_is_stored_in_one_form(gman: Driver, text: str, stored: str, constant: bool) -> None:
    assert gman.call("gman_servers_set", Value(text, constant=constant)) == stored.encode()
    assert stats(gman)["server_lists"] == ({"": stored} if stored else {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("127.0.0.1:0", "'127.0.0.1:0': the port"),
        ("127.0.0.1:65536", "'127.0.0.1:65536': the port"),
        ("127.0.0.1:99999999999999999999", "the port"),
        ("127.0.0.1:", "'127.0.0.1:': the port"),
        ("127.0.0.1:47a", "the port"),
        ("127.0.0.1:-1", "the port"),
        (":4730", "':4730': the host is missing"),
        ("a,,b", "entry 2 is empty"),
        ("a,", "entry 2 is empty"),
        (",", "entry 1 is empty"),
        ("two words", "'two words': a host name consists of"),
        ("10.0.0.256", "'10.0.0.256': not an IPv4"),
        ("1.2.3", "not an IPv4"),
        ("::1", "'::1': an IPv6 address must be in"),
        ("[::1", "the ] is missing"),
        ("[::1]4730", "after ] only :port may follow"),
        ("[::g]:1", "not an IPv6"),
        ("[1.2.3.4]:1", "not an IPv6"),
        ("[fe80::1%]:1", "not an IPv6"),
        ("-x", "must not begin with -"),
        ("a..b", "part of the host name is empty"),
        ("h;rm", "a host name consists of"),
        ("a\0b", "a host name consists of"),
        ("x" * 254, "the host name is too long"),
        ("good:1,good:1", "'good:1' is in the list twice"),
        ("good,[::1],bäd", "'b??d': a host name consists of"),
        (",".join(f"h{n}" for n in range(33)), "more than 32 servers"),
    ],
)
def test_invalid_list_is_an_sql_error(gman: Driver, text: str, says: str) -> None:
    use(gman, "127.0.0.1:4730")
    with pytest.raises(Refused) as refused:
        gman.call("gman_servers_set", Value(text, constant=True))
    assert says in str(refused.value)
    assert len(str(refused.value)) < 80
    with pytest.raises(RowError):
        gman.call("gman_servers_set", text)
    assert stats(gman)["server_lists"] == {"": "127.0.0.1:4730"}


def test_null_list_is_an_error(gman: Driver) -> None:
    with pytest.raises(RowError):
        gman.call("gman_servers_set", None)


def test_lists_per_function(gman: Driver) -> None:
    with FakeServer() as common, FakeServer() as own:
        use(gman, common.address)
        use(gman, own.address, function="special")
        assert stats(gman)["server_lists"] == {"": common.address, "special": own.address}
        assert [(one["address"], one["functions"]) for one in stats(gman)["servers"]] == [
            (common.address, None),
            (own.address, "special"),
        ]
        assert gman.call("gman_do_background", "special", "x")
        assert gman.call("gman_do_background", "other", "x")
        assert [job[1] for job in own.jobs] == [b"special"]
        assert [job[1] for job in common.jobs] == [b"other"]
        use(gman, "", function="special")
        assert gman.call("gman_do_background", "special", "y")
        assert len(common.jobs) == 2
        assert stats(gman)["server_lists"] == {"": common.address}


def test_without_a_list(gman: Driver) -> None:
    assert gman.call("gman_do_background", "f", "x") is None
    assert gman.call("gman_do", "f", "x") is None
    assert gman.integer("gman_wake", "f", "x") == 0
    assert stats(gman)["jobs"] == {"failed": 2, "without_server": 2}


# --- arguments ---


@pytest.mark.parametrize(
    "function",
    [
        "gman_do",
        "gman_do_high",
        "gman_do_low",
        "gman_do_background",
        "gman_do_high_background",
        "gman_do_low_background",
    ],
)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["f"], "takes (function, workload[, unique])"),
        (["f", "w", "u", "more"], "takes (function, workload[, unique])"),
        ([5, "w"], "the first argument, the function, must be a string"),
        ([Value("", constant=True), "w"], "the function name is empty"),
        ([Value("f" * 256, constant=True), "w"], "longer than 255 bytes"),
        ([Value("a\0b", constant=True), "w"], "holds a NUL"),
    ],
)
def test_wrong_arguments(gman: Driver, function: str, arguments: list[object], says: str) -> None:
    with pytest.raises(Refused) as refused:
        gman.call(function, *arguments)
    assert says in str(refused.value)
    assert str(refused.value).startswith(function)


def test_wrong_function_in_a_row_is_null_and_the_next_row_works(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    for name in [None, "", "f" * 256, "a\0b"]:
        assert gman.call("gman_do_background", name, "w") is None
    assert gman.call("gman_do_background", "f" * 255, "w") == b"H:fake:1"
    assert stats(gman)["jobs"]["failed"] == 4


def test_packets_that_are_sent(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    types = {"gman_do_background": 18, "gman_do_high_background": 32, "gman_do_low_background": 34}
    for function in types:
        assert gman.call(function, "f", "work\0load\xff", "key")
    assert fake.jobs == [(number, b"f", b"key", "work\0load\xff".encode()) for number in types.values()]
    fake.jobs.clear()
    for value in [None, 5, -1.5, Value("1.50", kind="D"), ""]:
        assert gman.call("gman_do_background", "f", value, value)
    assert [job[2:] for job in fake.jobs] == [(v, v) for v in (b"", b"5", b"-1.5", b"1.50", b"")]


@pytest.mark.parametrize(
    "unique", [b"k" * 63, b"k" * 64, b"k" * 64 + b"2", b"x" * 500, b"a\0b", b"y" * 55, b"z" * 119, b"-"]
)
def test_long_unique_is_hashed(gman: Driver, fake: FakeServer, unique: bytes) -> None:
    use(gman, fake.address)
    assert gman.call("gman_do_background", "f", "w", unique)
    plain = len(unique) <= 63 and b"\0" not in unique
    assert fake.jobs[0][2] == (
        unique if plain else b"sha256:" + hashlib.sha256(unique).hexdigest()[:56].encode()
    )


# --- a real gearmand ---


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


# --- failover, breaker, misbehaviour ---


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


def test_kept_connection_that_the_server_has_closed(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    for expected in range(1, 4):
        assert gman.call("gman_do_background", "f", "x") == b"H:fake:%d" % expected
        fake.hang_up()
    state = server(gman, fake.address)
    assert state["breaker_openings"] == 0
    assert state["failures"]["closed"] == 0
    assert state["connects"] == 3


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


def test_background_errors_can_fail_the_statement(gman: Driver) -> None:
    use(gman, f"127.0.0.1:{free_port()}")
    assert gman.call("gman_do_background", "f", "x") is None
    assert gman.call("gman_configure", "background_errors", "error") == b"error"
    with pytest.raises(RowError):
        gman.call("gman_do_background", "f", "x")
    assert gman.call("gman_do", "f", "x") is None


# --- gman_wake never waits ---


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


# --- settings ---


def test_settings(gman: Driver) -> None:
    configure(gman, connect_timeout_ms="default", io_timeout_ms="default")
    defaults = stats(gman)["settings"]
    assert defaults["connect_timeout_ms"] == 100
    assert defaults["io_timeout_ms"] == 250
    assert defaults["background_errors"] == "null"
    assert gman.call("gman_configure", "io_timeout_ms", 60) == b"60"
    assert stats(gman)["settings"]["io_timeout_ms"] == 60
    assert gman.call("gman_configure", "io_timeout_ms", "default") == b"default"
    assert stats(gman)["settings"] == defaults


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("nonsense", "1", "unknown setting 'nonsense'"),
        ("IO_TIMEOUT_MS", "1", "unknown setting"),
        ("x" * 100, "1", "unknown setting 'xxx"),
        ("io_timeout_ms", "0", "a number from 1 to 60000"),
        ("io_timeout_ms", 60001, "a number from 1 to 60000"),
        ("io_timeout_ms", -1, "a number from 1 to 60000"),
        ("io_timeout_ms", "60001", "a number from 1 to 60000"),
        ("io_timeout_ms", "99999999999999999999", "a number from 1 to 60000"),
        ("io_timeout_ms", "1.5", "a number from 1 to 60000"),
        ("io_timeout_ms", "", "a number from 1 to 60000"),
        ("background_errors", "1", "null or error"),
    ],
)
def test_wrong_settings(gman: Driver, name: str, value: str | int, says: str) -> None:
    with pytest.raises(Refused) as refused:
        gman.call("gman_configure", Value(name, constant=True), Value(value, constant=True))
    assert says in str(refused.value)
    assert len(str(refused.value)) < 80
    with pytest.raises(RowError):
        gman.call("gman_configure", name, value)


def test_null_settings(gman: Driver) -> None:
    with pytest.raises(RowError):
        gman.call("gman_configure", "io_timeout_ms", None)


def test_pool_limits(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    configure(gman, pool_max_idle=3)
    gman.storm(16, 0.2, "gman_do_background", "f", "x")
    assert server(gman, fake.address)["idle_connections"] <= 3
    configure(gman, pool_idle_ms=100)
    time.sleep(0.15)
    assert server(gman, fake.address)["idle_connections"] == 0


# --- the library inside the server ---


def test_many_loads_leak_nothing(gman: Driver, fake: FakeServer) -> None:
    gman.unload()
    before = gman.ask("fds")
    for _ in range(100):
        gman.load()
        patient(gman)
        use(gman, fake.address)
        assert submit(gman)
        wake(gman, "f", "x")
        gman.unload()
        assert gman.ask("fds") == before
    gman.load()
    assert stats(gman)["servers"] == []


def test_storm_through_restarts(gman: Driver, own_gearmand: Gearmand) -> None:
    """Sixteen threads while gearmand is killed and restarted: no call waits for it, no descriptor leaks."""

    def unrest() -> None:
        for _ in range(5):
            time.sleep(0.3)
            own_gearmand.stop(signal.SIGKILL)
            time.sleep(0.1)
            own_gearmand.start()

    gman.unload()
    before = gman.ask("fds")
    gman.load()
    patient(gman)
    configure(gman, breaker_retry_ms=100)
    use(gman, own_gearmand.address)
    restarts = threading.Thread(target=unrest)
    restarts.start()
    calls, nulls, worst, _ = gman.storm(16, 2.5, "gman_do_background", "f", "x")
    restarts.join()
    assert calls > nulls
    assert worst < BOUND * 1e6
    until(lambda: submit(gman))
    gman.unload()
    assert gman.ask("fds") == before
    gman.load()


def test_storm_of_all_functions(gman: Driver, own_gearmand: Gearmand) -> None:
    """Lists are set and removed during wake-ups and jobs."""
    gman.unload()
    before = gman.ask("fds")
    gman.load()
    patient(gman)
    use(gman, own_gearmand.address)
    here, away = own_gearmand.address, f"127.0.0.1:{free_port()}"
    calls, *_ = gman.mix(
        12,
        1.0,
        ("gman_do_background", "f", "x"),
        ("gman_wake", "f", "x"),
        ("gman_stats",),
        ("gman_servers_set", here),
        ("gman_servers_set", f"{away},{here}"),
        ("gman_wake", "f", "y"),
    )
    assert calls >= 12
    gman.unload()
    assert gman.ask("fds") == before
    gman.load()


def test_version(gman: Driver) -> None:
    version = gman.call("gman_version")
    assert version
    assert stats(gman)["version"] == version.decode()
    with pytest.raises(Refused, match="takes no arguments"):
        gman.call("gman_version", 1)
    with pytest.raises(Refused, match="takes no arguments"):
        gman.call("gman_stats", 1)
