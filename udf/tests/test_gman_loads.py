# SPDX-License-Identifier: GPL-2.0-or-later
"""libgearman_mysql_udf as a server uses it: loaded many times, and called by many threads."""

from __future__ import annotations

import signal
import threading
import time

from fake_server import FakeServer
from gman_calls import BOUND, configure, patient, stats, submit, use, wake
from harness.gearmand import Gearmand
from harness.ports import free_port
from harness.waiting import until
from sanitized import Driver


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
