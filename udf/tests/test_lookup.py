# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of job servers: a lookup never blocks a call, and is repeated when a server cannot be reached. The
resolver is the driver's, which can hang.
"""

from __future__ import annotations

import time

import pytest
from fake_server import FakeServer
from gman_calls import BOUND, LONG, configure, server, stats, use
from harness.waiting import until
from sanitized import Driver

NAME = "job.example"


@pytest.fixture(autouse=True)
def quick(gman: Driver) -> None:
    configure(gman, breaker_retry_ms=100)


def sent(gman: Driver) -> bool:
    return gman.call("gman_do_background", "f", "x") is not None


def test_a_resolver_that_fails_or_hangs_blocks_no_write(gman: Driver) -> None:
    gman.name(job="!")
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
    gman.name(job="~")
    asked = len(gman.asked)
    until(lambda: (gman.storm(4, 0.1, "gman_do_background", "f", "x"), len(gman.asked))[1] > asked)
    calls, nulls, worst, _ = gman.storm(4, 0.5, "gman_do_background", "f", "x")
    assert nulls == calls
    assert worst < 0.8 * BOUND * 1e6


def test_a_resolver_that_hangs_blocks_no_wake_up(gman: Driver) -> None:
    gman.name(job="!")
    use(gman, f"{NAME}:4730")
    gman.name(job="~")
    _, _, worst, _ = gman.mix(4, 0.5, *(("gman_wake", "f", n) for n in range(4)))
    assert worst < 0.8 * BOUND * 1e6
    assert stats(gman)["wakes"]["sent"] == 0


def test_list_is_set_in_bounded_time_while_the_resolver_hangs(gman: Driver) -> None:
    names = [f"job{number}" for number in range(8)]
    gman.name(**dict.fromkeys(names, "~"))
    began = time.monotonic()
    use(gman, *(f"{name}.example:4730" for name in names))  # a minute for each, but five seconds for all
    assert time.monotonic() - began < LONG
    with FakeServer() as last:
        gman.name(**{name: "127.0.0.1" if name == "job7" else "" for name in names})
        use(gman, *(f"{name}.example:{last.port}" for name in names))
        until(lambda: sent(gman))


def test_an_abandoned_lookup_harms_nothing(gman: Driver, fake: FakeServer) -> None:
    """Its list is gone, and then the library, while the resolver still works for it."""
    gman.name(job="~", other="~")
    use(gman, f"{NAME}:4730,other.example:4730")
    use(gman, fake.address)
    assert sent(gman)
    gman.name(job="127.0.0.1")
    use(gman, f"{NAME}:{fake.port}")
    until(lambda: sent(gman))
    gman.unload()
    gman.name(other="127.0.0.1 127.0.0.2")
    gman.load()
    use(gman, fake.address)
    until(lambda: sent(gman))


def test_name_that_resolves_later(gman: Driver, fake: FakeServer) -> None:
    use(gman, f"{NAME}:{fake.port}")
    assert not sent(gman)
    assert server(gman, f"{NAME}:{fake.port}")["failures"]["resolve"] == 1
    gman.name(job="127.0.0.1")
    until(lambda: sent(gman))


def test_name_that_resolves_later_with_gman_wake_alone(gman: Driver, fake: FakeServer) -> None:
    use(gman, f"{NAME}:{fake.port}")
    assert gman.integer("gman_wake", "f", "x") == 0
    assert not fake.jobs
    gman.name(job="127.0.0.1")
    until(lambda: gman.integer("gman_wake", "f", "x") == 1)
    until(lambda: fake.jobs)


@pytest.mark.parametrize("way", ["write", "wake"])
def test_change_of_address_is_followed(gman: Driver, way: str) -> None:
    def goes() -> bool:
        return sent(gman) if way == "write" else gman.integer("gman_wake", "f", "x") == 1

    gman.name(job="127.0.0.2")
    with FakeServer(host="127.0.0.2") as old:
        use(gman, f"{NAME}:{old.port}")
        until(goes)
        until(lambda: old.jobs)
    with FakeServer(host="127.0.0.3", port=old.port) as new:
        gman.name(job="127.0.0.3")
        until(lambda: goes() and new.jobs)


@pytest.mark.parametrize("answer", ["~", "!", ""])
def test_address_is_kept_while_there_is_no_new_one(gman: Driver, answer: str) -> None:
    gman.name(job="127.0.0.1")
    with FakeServer() as first:
        use(gman, f"{NAME}:{first.port}")
        until(lambda: sent(gman))
    assert not sent(gman)
    gman.name(job=answer)
    with FakeServer(port=first.port):
        until(lambda: sent(gman))


def test_ipv6_alone(gman: Driver) -> None:
    gman.name(job="::1")
    with FakeServer(host="::1") as six:
        use(gman, f"{NAME}:{six.port}")
        until(lambda: sent(gman))


def test_a_dot_at_the_end_of_a_name_is_not_looked_up(gman: Driver, fake: FakeServer) -> None:
    """/etc/hosts has none."""
    gman.name(job="127.0.0.1")
    use(gman, f"{NAME}.:{fake.port}")
    until(lambda: sent(gman))
    assert set(gman.asked) == {NAME}


def test_all_addresses_of_a_name_are_tried_in_a_probe(gman: Driver) -> None:
    gman.name(job=" ".join(f"127.0.0.{number}" for number in (5, 6, 7, 1)))
    with FakeServer() as first:
        use(gman, f"{NAME}:{first.port}")
        until(lambda: sent(gman))
    configure(gman, breaker_retry_ms=500)
    assert not sent(gman)
    with FakeServer(port=first.port):
        until(lambda: sent(gman))
        assert sum(server(gman, f"{NAME}:{first.port}")["failures"].values()) == 1  # no probe has failed


def test_a_probe_goes_on_to_the_next_address_when_one_never_answers(gman: Driver) -> None:
    gman.name(job="127.0.0.5 127.0.0.1")
    with FakeServer("silent", host="127.0.0.5") as hanging, FakeServer(port=hanging.port) as working:
        use(gman, f"{NAME}:{hanging.port}")
        configure(gman, io_timeout_ms=100)
        assert not sent(gman)
        until(lambda: sent(gman))
        assert working.jobs
