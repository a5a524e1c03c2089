"""Names of job servers: looked up without ever holding a call up, and again when a server cannot be reached."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from conftest import BUILD, Driver, wait_until
from fake_dns import FakeDns
from fake_server import FakeServer
from test_gman import SLACK, jitter, server, stats, use

NAME = "job.example"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as one:
        yield one


@pytest.fixture
def dns(gman: Driver) -> Iterator[FakeDns]:
    gman.call("gman_configure", "breaker_retry_ms", 100)
    with FakeDns(gman.dns_port) as one:
        yield one


def sent(gman: Driver) -> bool:
    return gman.call("gman_do_background", "f", "x") is not None


def test_name_server_that_never_answers_costs_a_write_no_more_than_a_probe(gman: Driver, dns: FakeDns) -> None:
    dns.mode = "silent"
    use(gman, f"{NAME}:4730")
    gman.ask("name", NAME, "~")  # the system's resolver would hang, too
    calls, nulls, worst, _ = gman.storm(4, 3.0, "gman_do_background", "f", "x")
    assert nulls == calls > 1000
    assert worst < (0.010 + SLACK) * 1e6 + 3 * jitter(gman, 4)
    assert server(gman, f"{NAME}:4730")["failures"]["resolve"] >= 2
    assert len(dns.asked) > 4


def test_name_server_that_never_answers_holds_no_wake_up(gman: Driver, dns: FakeDns) -> None:
    dns.mode = "silent"
    use(gman, f"{NAME}:4730")
    gman.ask("name", NAME, "~")
    calls, _, worst, _ = gman.mix(4, 2.0, *(("gman_wake", "f", n) for n in range(4)))
    assert calls > 1000
    assert worst < SLACK * 1e6 + 3 * jitter(gman, 4)
    assert stats(gman)["wakes"]["sent"] == 0


def test_list_is_set_in_bounded_time_while_no_name_server_answers(gman: Driver, dns: FakeDns) -> None:
    dns.mode = "silent"
    began = time.monotonic()
    use(gman, *(f"job{n}.example:4730" for n in range(8)))  # a second for each, and five for all
    assert time.monotonic() - began < 7
    dns.mode = "good"
    with FakeServer() as last:
        dns.names["job7.example"] = ["127.0.0.1"]
        use(gman, *(f"job{n}.example:{last.port}" for n in range(8)))
        assert sent(gman)


def test_name_that_resolves_later(gman: Driver, dns: FakeDns, fake: FakeServer) -> None:
    use(gman, f"{NAME}:{fake.port}")
    assert not sent(gman)
    assert server(gman, f"{NAME}:{fake.port}")["failures"]["resolve"] == 1
    dns.names[NAME] = ["127.0.0.1"]
    wait_until(lambda: sent(gman), seconds=30, what="the name is found")


def test_name_that_resolves_later_is_found_by_gman_wake_alone(gman: Driver, dns: FakeDns, fake: FakeServer) -> None:
    use(gman, f"{NAME}:{fake.port}")
    assert gman.integer("gman_wake", "f", "x") == 0
    assert not fake.jobs
    dns.names[NAME] = ["127.0.0.1"]
    wait_until(lambda: gman.integer("gman_wake", "f", "x") == 1, seconds=30, what="the name is found")
    wait_until(lambda: fake.jobs, what="the wake-up arrives")


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
        wait_until(goes, what="the first address is used")
        wait_until(lambda: old.jobs, what="it gets there")
    with FakeServer(host="127.0.0.3", port=old.port) as new:
        say("127.0.0.3")
        wait_until(lambda: goes() and new.jobs, seconds=30, what="the new address is found")


def test_address_is_kept_while_no_name_server_answers(gman: Driver, dns: FakeDns) -> None:
    dns.names[NAME] = ["127.0.0.1"]
    with FakeServer() as first:
        use(gman, f"{NAME}:{first.port}")
        assert sent(gman)
    assert not sent(gman)
    dns.mode = "silent"
    with FakeServer(port=first.port):
        wait_until(lambda: sent(gman), seconds=30, what="the known address is used")
    assert not sent(gman)
    dns.mode = "good"
    del dns.names[NAME]
    with FakeServer(port=first.port):
        wait_until(lambda: sent(gman), seconds=30, what="the known address is used")


@pytest.mark.parametrize("mode", ["silent", "fails", "garbage", "stranger"])
def test_next_name_server_is_asked(gman: Driver, dns: FakeDns, fake: FakeServer, mode: str) -> None:
    gman.resolv_conf.write_text("nameserver 127.0.0.1\nnameserver 127.0.0.2\noptions timeout:1 attempts:1\n")
    dns.mode, dns.names[NAME] = mode, ["127.0.0.1"]
    with FakeDns(gman.dns_port, host="127.0.0.2") as second:
        second.names[NAME] = ["127.0.0.1"]
        use(gman, f"{NAME}:{fake.port}")
        wait_until(lambda: sent(gman), seconds=30, what="the second name server's answer")
        assert NAME in second.asked


@pytest.mark.parametrize("mode", ["alias", "only4", "truncated"])
def test_answers_of_all_kinds(gman: Driver, dns: FakeDns, fake: FakeServer, mode: str) -> None:
    dns.mode, dns.names[NAME] = mode, ["127.0.0.1", "127.0.0.9"]
    use(gman, f"{NAME}:{fake.port}")
    assert sent(gman)


def test_ipv6_alone(gman: Driver, dns: FakeDns) -> None:
    dns.names[NAME] = ["::1"]
    with FakeServer(host="::1") as six:
        use(gman, f"{NAME}:{six.port}")
        assert sent(gman)


def test_search_domains_and_dots(gman: Driver, dns: FakeDns, fake: FakeServer) -> None:
    gman.resolv_conf.write_text("domain wrong.example\nsearch one.example two.example ; the last one holds\nnameserver 127.0.0.1\n")
    dns.names["job.two.example"] = ["127.0.0.1"]
    use(gman, f"job:{fake.port}")
    assert sent(gman)
    assert list(dict.fromkeys(dns.asked)) == ["job.one.example", "job.two.example"]
    dns.asked.clear()
    use(gman, "a.b:4730")
    assert list(dict.fromkeys(dns.asked)) == ["a.b", "a.b.one.example", "a.b.two.example"]


def test_all_addresses_of_a_name_are_tried_in_a_probe(gman: Driver, dns: FakeDns) -> None:
    dns.names[NAME] = [f"127.0.0.{n}" for n in (5, 6, 7, 1)]
    with FakeServer() as first:
        use(gman, f"{NAME}:{first.port}")
        assert sent(gman)
    gman.call("gman_configure", "breaker_retry_ms", 2000)
    assert not sent(gman)
    with FakeServer(port=first.port):
        wait_until(lambda: sent(gman), seconds=30, what="a probe finds it")
        assert sum(server(gman, f"{NAME}:{first.port}")["failures"].values()) == 1  # no probe has failed


def test_what_points_the_lookup_elsewhere_is_in_no_production_library() -> None:
    assert b"GMAN_TEST" in (BUILD / "sanitized/libgearman_mysql_udf.so").read_bytes()
    assert b"GMAN_TEST" not in (BUILD / "libgearman_mysql_udf.so").read_bytes()
