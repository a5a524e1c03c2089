"""Calls of the Gearman library and looks at what it counts, as most of its tests need them."""

from __future__ import annotations

import json
import time

from harness.waiting import until
from sanitized import Driver

#: Seconds: the longest time-outs that the library takes. No test waits for them, and none is ended by them on a busy machine.
LONG = 60.0
#: A call that took less did not wait for one of them, not even when the machine stood still for a while.
BOUND = 30.0


def configure(gman: Driver, **settings: object) -> None:
    for name, value in settings.items():
        gman.call("gman_configure", name, value)


def patient(gman: Driver) -> None:
    """The longest time-outs."""
    configure(gman, connect_timeout_ms=int(LONG * 1000), io_timeout_ms=int(LONG * 1000))


def stats(gman: Driver) -> dict:
    answer = gman.call("gman_stats")
    assert answer is not None
    return json.loads(answer)


def server(gman: Driver, address: str | None = None) -> dict:
    """What is known of a job server, or of the first one."""
    return next(one for one in stats(gman)["servers"] if address in (None, one["address"]))


def use(gman: Driver, *addresses: str, function: str | None = None) -> None:
    text = ",".join(addresses)
    answer = gman.call("gman_servers_set", text) if function is None else gman.call("gman_servers_set", text, function)
    assert answer == text.encode()


def submit(gman: Driver, *more: object) -> bytes | None:
    """A job in the background: its handle."""
    return gman.call("gman_do_background", "f", "x", *more)


def at_once(gman: Driver, *call: object) -> bytes | None:
    """A call that waits for no time-out, while all of them are long."""
    began = time.monotonic()
    answer = gman.call(*call)  # type: ignore[arg-type]  # the first one is a name
    assert time.monotonic() - began < BOUND, call
    return answer


def wake(gman: Driver, function: str, unique: str) -> None:
    """A wake-up that gets out: connecting to loopback can take longer than a call, which does not wait."""
    until(lambda: gman.integer("gman_wake", function, unique) == 1)


def wakes_at_once(gman: Driver, count: int) -> None:
    """So many wake-ups, none of which waits for a time-out."""
    for _ in range(count):
        began = time.monotonic()
        gman.integer("gman_wake", "f", "x")
        assert time.monotonic() - began < BOUND
