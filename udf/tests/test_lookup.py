# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of job servers: a lookup never blocks a call, and is repeated when a server cannot be reached."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fake_dns import FakeDns
from fake_server import FakeServer
from gman_calls import BOUND, LONG, configure, server, stats, use
from harness.waiting import until
from sanitized import BUILD, Driver

NAME = "job.example"


@pytest.fixture
def dns(gman: Driver) -> Iterator[FakeDns]:
    configure(gman, breaker_retry_ms=100)
    with FakeDns(gman.dns_port) as one:
        yield one


def sent(gman: Driver) -> bool:
    return gman.call("gman_do_background", "f", "x") is not None


def hang(gman: Driver) -> None:
    """From now on, waiting for the name server or the system's resolver takes long."""
    gman.resolv_conf.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:2\n")
    gman.ask("name", NAME, "~")


def test_name_server_that_never_answers_blocks_no_write(gman: Driver, dns: FakeDns) -> None:
    dns.mode = "silent"
    use(gman, f"{NAME}:4730")
    until(
        lambda: (
            (
                gman.storm(4, 0.1, "gman_do_background", "f", "x"),
                server(gman, f"{NAME}:4730")["failures"]["resolve"],
            )[1]
            >= 2
        )
    )
    hang(gman)
    asked = len(dns.asked)
    until(lambda: (gman.storm(4, 0.1, "gman_do_background", "f", "x"), len(dns.asked))[1] > asked)
    calls, nulls, worst, _ = gman.storm(4, 0.5, "gman_do_background", "f", "x")
    assert nulls == calls
    assert worst < 0.8 * BOUND * 1e6


def test_name_server_that_never_answers_blocks_no_wake_up(gman: Driver, dns: FakeDns) -> None:
    dns.mode = "silent"
    use(gman, f"{NAME}:4730")
    hang(gman)
    _, _, worst, _ = gman.mix(4, 0.5, *(("gman_wake", "f", n) for n in range(4)))
    assert worst < 0.8 * BOUND * 1e6
    assert stats(gman)["wakes"]["sent"] == 0


def test_list_is_set_in_bounded_time_while_no_name_server_answers(gman: Driver, dns: FakeDns) -> None:
    dns.mode = "silent"
    hang(gman)
    began = time.monotonic()
    use(gman, *(f"job{n}.example:4730" for n in range(8)))  # a minute for each, but five seconds for all
    assert time.monotonic() - began < LONG
    gman.resolv_conf.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    dns.mode = "good"
    with FakeServer() as last:
        dns.names["job7.example"] = ["127.0.0.1"]
        use(gman, *(f"job{n}.example:{last.port}" for n in range(8)))
        until(lambda: sent(gman))


def test_name_that_resolves_later(gman: Driver, dns: FakeDns, fake: FakeServer) -> None:
    use(gman, f"{NAME}:{fake.port}")
    assert not sent(gman)
    assert server(gman, f"{NAME}:{fake.port}")["failures"]["resolve"] == 1
    dns.names[NAME] = ["127.0.0.1"]
    until(lambda: sent(gman))


def test_name_that_resolves_later_with_gman_wake_alone(gman: Driver, dns: FakeDns, fake: FakeServer) -> None:
    use(gman, f"{NAME}:{fake.port}")
    assert gman.integer("gman_wake", "f", "x") == 0
    assert not fake.jobs
    dns.names[NAME] = ["127.0.0.1"]
    until(lambda: gman.integer("gman_wake", "f", "x") == 1)
    until(lambda: fake.jobs)


@pytest.mark.parametrize("way", ["write", "wake"])
@pytest.mark.parametrize("source", ["dns", "hosts"])
def test_change_of_address_is_followed(gman: Driver, dns: FakeDns, way: str, source: str) -> None:
    def say(address: str) -> None:
        if source == "dns":
            dns.names[NAME] = [address]
        else:
            gman.hosts.write_text(f"# comment\n{address}\tother {NAME.upper()} # more\n")

    def goes() -> bool:
        return sent(gman) if way == "write" else gman.integer("gman_wake", "f", "x") == 1

    say("127.0.0.2")
    with FakeServer(host="127.0.0.2") as old:
        use(gman, f"{NAME}:{old.port}")
        until(goes)
        until(lambda: old.jobs)
    with FakeServer(host="127.0.0.3", port=old.port) as new:
        say("127.0.0.3")
        until(lambda: goes() and new.jobs)


def test_address_is_kept_while_no_name_server_answers(gman: Driver, dns: FakeDns) -> None:
    dns.names[NAME] = ["127.0.0.1"]
    with FakeServer() as first:
        use(gman, f"{NAME}:{first.port}")
        until(lambda: sent(gman))
    assert not sent(gman)
    dns.mode = "silent"
    with FakeServer(port=first.port):
        until(lambda: sent(gman))
    assert not sent(gman)
    dns.mode = "good"
    del dns.names[NAME]
    with FakeServer(port=first.port):
        until(lambda: sent(gman))


@pytest.mark.parametrize("mode", ["silent", "fails", "garbage", "stranger"])
def test_next_name_server_is_asked(gman: Driver, dns: FakeDns, fake: FakeServer, mode: str) -> None:
    gman.resolv_conf.write_text("nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:1 attempts:1\n")
    dns.mode, dns.names[NAME] = mode, ["127.0.0.1"]
    with FakeDns(gman.dns_port, host="127.0.0.2") as second:
        second.names[NAME] = ["127.0.0.1"]
        use(gman, f"{NAME}:{fake.port}")
        until(lambda: sent(gman))
        assert NAME in second.asked


@pytest.mark.parametrize("mode", ["alias", "only4", "truncated"])
def test_answers_of_all_kinds(gman: Driver, dns: FakeDns, fake: FakeServer, mode: str) -> None:
    dns.mode, dns.names[NAME] = mode, ["127.0.0.1", "127.0.0.9"]
    use(gman, f"{NAME}:{fake.port}")
    until(lambda: sent(gman))


def test_ipv6_alone(gman: Driver, dns: FakeDns) -> None:
    dns.names[NAME] = ["::1"]
    with FakeServer(host="::1") as six:
        use(gman, f"{NAME}:{six.port}")
        until(lambda: sent(gman))


def test_search_domains_and_dots(gman: Driver, dns: FakeDns, fake: FakeServer) -> None:
    gman.resolv_conf.write_text(
        "domain wrong.example\nsearch one.example two.example ; the last one holds\nnameserver 127.0.0.1\n"
    )
    dns.names["job.two.example"] = ["127.0.0.1"]
    use(gman, f"job:{fake.port}")
    until(lambda: sent(gman))
    assert list(dict.fromkeys(dns.asked)) == ["job.one.example", "job.two.example"]
    dns.asked.clear()
    use(gman, "a.b:4730")
    until(
        lambda: (sent(gman), list(dict.fromkeys(dns.asked)))[1], ["a.b", "a.b.one.example", "a.b.two.example"]
    )


def test_all_addresses_of_a_name_are_tried_in_a_probe(gman: Driver, dns: FakeDns) -> None:
    dns.names[NAME] = [f"127.0.0.{n}" for n in (5, 6, 7, 1)]
    with FakeServer() as first:
        use(gman, f"{NAME}:{first.port}")
        until(lambda: sent(gman))
    configure(gman, breaker_retry_ms=500)
    assert not sent(gman)
    with FakeServer(port=first.port):
        until(lambda: sent(gman))
        assert sum(server(gman, f"{NAME}:{first.port}")["failures"].values()) == 1  # no probe has failed


def test_settings_of_the_tests_are_not_in_the_production_library() -> None:
    assert b"GMAN_TEST" in (BUILD / "sanitized/libgearman_mysql_udf.so").read_bytes()
    assert b"GMAN_TEST" not in (BUILD / "libgearman_mysql_udf.so").read_bytes()
