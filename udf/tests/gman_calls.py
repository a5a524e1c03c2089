# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls of the Gearman library and checks of its counters, for most of its tests."""

from __future__ import annotations

import json
import time

from harness.tls import Certificates
from harness.waiting import until
from sanitized import Driver

#: Seconds: the longest timeouts that the library accepts. No test waits for them, and they fail no test on a
#: busy machine.
LONG = 60.0
#: A call that took less did not wait for a timeout, even on a busy machine.
BOUND = 30.0


def configure(gman: Driver, **settings: object) -> None:
    for name, value in settings.items():
        gman.call("gman_configure", name, value)


def patient(gman: Driver) -> None:
    """Set the longest timeouts."""
    configure(gman, connect_timeout_ms=int(LONG * 1000), io_timeout_ms=int(LONG * 1000))


def secure(gman: Driver, certificates: Certificates, ca: str = "ca", client: str = "") -> None:
    """Enable TLS."""
    configure(gman, tls_ca=certificates.path(f"{ca}.pem"))
    if client:
        configure(
            gman, tls_cert=certificates.path(f"{client}.pem"), tls_key=certificates.path(f"{client}.key")
        )
    assert gman.call("gman_configure", "tls", "on") == b"on"


def stats(gman: Driver) -> dict:
    answer = gman.call("gman_stats")
    assert answer is not None
    return json.loads(answer)


def server(gman: Driver, address: str | None = None) -> dict:
    """The state of a job server, the first one by default."""
    return next(one for one in stats(gman)["servers"] if address in (None, one["address"]))


def use(gman: Driver, *addresses: str, function: str | None = None) -> None:
    text = ",".join(addresses)
    answer = (
        gman.call("gman_servers_set", text)
        if function is None
        else gman.call("gman_servers_set", text, function)
    )
    assert answer == text.encode()


def submit(gman: Driver, *more: object) -> bytes | None:
    """Submit a background job and return its handle."""
    return gman.call("gman_do_background", "f", "x", *more)


def at_once(gman: Driver, *call: object) -> bytes | None:
    """A call that must not wait for a timeout; all of them are long."""
    began = time.monotonic()
    answer = gman.call(*call)  # type: ignore[arg-type]  # the first one is a name
    assert time.monotonic() - began < BOUND, call
    return answer


def wake(gman: Driver, function: str, unique: str) -> None:
    """Call gman_wake until it sends: a call does not wait until it is connected."""
    until(lambda: gman.integer("gman_wake", function, unique) == 1)


def wakes_at_once(gman: Driver, count: int) -> None:
    """Call gman_wake so many times; no call may wait for a timeout."""
    for _ in range(count):
        began = time.monotonic()
        gman.integer("gman_wake", "f", "x")
        assert time.monotonic() - began < BOUND
