# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS to servers that misbehave: nothing is sent in plain text, and no call waits for too long."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from fake_server import FakeServer
from gman_calls import (
    BOUND,
    at_once,
    configure,
    patient,
    secure,
    server,
    stats,
    submit,
    use,
    wakes_at_once,
)
from harness.gearmand import Gearmand
from harness.ports import free_port
from harness.tls import Certificates
from harness.waiting import until
from sanitized import Driver

#: A connection's state in /proc/net/tcp.
SYN_SENT = "02"


def hurry(gman: Driver) -> None:
    """For servers that hang."""
    configure(gman, connect_timeout_ms="default", io_timeout_ms="default", breaker_retry_ms=20)


@pytest.mark.parametrize("mode", ["good", "silent", "garbage"])
def test_plain_server_gets_nothing(gman: Driver, certificates: Certificates, mode: str) -> None:
    with FakeServer(mode) as fake:
        secure(gman, certificates)
        hurry(gman)
        use(gman, fake.address)
        assert at_once(gman, "gman_do_background", "f", "secret") is None
        gman.integer("gman_wake", "f", "secret")
        assert fake.jobs == []
        assert b"secret" not in fake.foreign
        assert server(gman)["failures"]["tls"] == 1


def test_real_gearmand_without_tls(gman: Driver, certificates: Certificates, gearmand: Gearmand) -> None:
    secure(gman, certificates)
    hurry(gman)
    use(gman, gearmand.address)
    assert at_once(gman, "gman_do", "echo", "secret") is None
    assert server(gman)["failures"]["tls"] == 1


def test_server_that_sends_garbage_at_once(gman: Driver, certificates: Certificates) -> None:
    listener = socket.create_server(("127.0.0.1", free_port()))
    secure(gman, certificates)
    use(gman, f"127.0.0.1:{listener.getsockname()[1]}")
    with listener:
        gman.process.stdin.write("call gman_do_background S:0:1::66 S:0:1::78\n")  # type: ignore[union-attr]
        gman.process.stdin.flush()  # type: ignore[union-attr]
        listener.settimeout(180)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
            assert gman.process.stdout.readline() == "null\n"  # type: ignore[union-attr]
    assert server(gman)["failures"]["tls"] == 1
    assert "TLS: wrong version number" in server(gman)["last_error"]


def test_hanging_handshake_costs_one_timeout(gman: Driver, certificates: Certificates) -> None:
    with FakeServer("silent") as fake:
        secure(gman, certificates)
        hurry(gman)
        use(gman, fake.address)
        began = time.monotonic()
        assert at_once(gman, "gman_do_background", "f", "x") is None
        assert time.monotonic() - began >= 0.1
        assert "no answer to the handshake" in server(gman)["last_error"]
        until(
            lambda: (
                (gman.storm(4, 0.1, "gman_do_background", "f", "x"), server(gman)["failures"]["tls"])[1] > 2
            )
        )
        # No call waits until a probe is given up.
        patient(gman)
        calls, nulls, worst, _ = gman.storm(4, 0.5, "gman_do_background", "f", "x")
        assert calls == nulls
        assert worst < BOUND * 1e6
        assert (server(gman)["breaker_openings"], server(gman)["jobs_sent"]) == (1, 0)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("silent", "timeout"),
        ("deaf", "timeout"),
        ("close", "closed"),
        ("half", "closed"),
        ("garbage", "protocol"),
        ("error", "rejected"),
        ("huge", "protocol"),
        ("flood", "protocol"),
    ],
)
def test_misbehaviour_inside_of_tls(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer, mode: str, kind: str
) -> None:
    tls_fake.mode = mode
    secure(gman, certificates)
    configure(gman, breaker_retry_ms=20)
    if kind == "timeout":
        configure(gman, io_timeout_ms=250)
    use(gman, tls_fake.address)
    assert at_once(gman, "gman_do_background", "f", "x" * 200_000) is None
    assert server(gman)["failures"][kind] == 1
    patient(gman)
    tls_fake.mode = "good"
    until(lambda: submit(gman))


@pytest.mark.parametrize("mode", ["slow", "drip"])
def test_slow_but_in_time(gman: Driver, certificates: Certificates, tls_fake: FakeServer, mode: str) -> None:
    tls_fake.mode = mode
    secure(gman, certificates)
    use(gman, tls_fake.address)
    assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"


@pytest.mark.parametrize("mode", ["good", "silent", "deaf", "close", "garbage", "flood"])
def test_wake_never_waits(gman: Driver, certificates: Certificates, tls_fake: FakeServer, mode: str) -> None:
    tls_fake.mode = mode
    secure(gman, certificates)
    use(gman, tls_fake.address)
    configure(gman, wake_interval_ms=1)
    wakes_at_once(gman, 300)
    if mode in ("silent", "deaf"):
        configure(gman, io_timeout_ms=1000)

    def dropped() -> bool:
        gman.integer("gman_wake", "f", "x")
        counts = stats(gman)["wakes"]
        return counts["sent"] > 0 and (mode in ("good", "garbage") or counts["dropped"] > 0)

    until(dropped)
    if mode == "good":
        until(lambda: len(tls_fake.jobs) == stats(gman)["wakes"]["sent"])
        assert set(tls_fake.jobs) == {(18, b"f", b"x", b"")}


def test_wake_does_not_wait_for_a_hanging_handshake(gman: Driver, certificates: Certificates) -> None:
    with FakeServer("silent") as fake:
        secure(gman, certificates)
        use(gman, fake.address)
        wakes_at_once(gman, 200)
    assert stats(gman)["wakes"]["sent"] == 0


def test_kept_connection_that_the_server_has_closed(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer
) -> None:
    secure(gman, certificates)
    use(gman, tls_fake.address)
    assert gman.call("gman_do_background", "f", "1")
    for n in range(2, 6):
        tls_fake.hang_up()
        assert gman.call("gman_do_background", "f", n), n
    assert server(gman)["stale_connections"] == 4
    assert server(gman)["breaker_openings"] == 0


def test_probe_from_before_tls_is_not_used_after(gman: Driver, certificates: Certificates) -> None:
    """A probe in plain text is answered after TLS was enabled: nothing may be sent over that connection."""
    with FakeServer("close") as fake:
        use(gman, fake.address)
        configure(gman, breaker_retry_ms=10)
        assert gman.call("gman_do_background", "f", "plain") is None
        fake.mode = "late"
        accepted = fake.accepted
        until(lambda: (gman.call("gman_do_background", "f", "plain"), fake.accepted > accepted)[1])
        secure(gman, certificates)
        before = len(fake.jobs)
        fake.release()
        for _ in range(200):
            assert gman.call("gman_do_background", "f", "secret") is None
            time.sleep(0.001)
        assert len(fake.jobs) == before


def connecting(port: int) -> set[int]:
    """The local ports of connections to the port that are not answered yet."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        int(local.rpartition(":")[2], 16)
        for _, local, remote, state, *_ in rows
        if state == SYN_SENT and int(remote.rpartition(":")[2], 16) == port
    }


@pytest.mark.parametrize("way", ["gman_wake", "probe"])
def test_calls_go_on_with_the_same_connection(gman: Driver, certificates: Certificates, way: str) -> None:
    """Otherwise no server whose answer takes longer than a call is ever reached."""
    with socket.create_server(("127.0.0.1", free_port()), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]  # fill the queue, so that a SYN is not answered
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        others = connecting(port)
        secure(gman, certificates)
        use(gman, f"127.0.0.1:{port}")
        if way == "probe":
            configure(gman, connect_timeout_ms=1, breaker_retry_ms=10, probe_wait_ms=0)
            assert submit(gman) is None
            patient(gman)
        seen: set[int] = set()
        for _ in range(50):
            if way == "probe":
                assert submit(gman) is None
            else:
                assert gman.integer("gman_wake", "f", "x") == 0
            seen |= connecting(port) - others
            time.sleep(0.02)
        assert len(seen) == 1
        for filler in fillers:
            filler.close()
