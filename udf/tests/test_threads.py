# SPDX-License-Identifier: GPL-2.0-or-later
"""All functions of the Gearman library at the same time, under the sanitizer of threads."""

from __future__ import annotations

from fake_server import FakeServer
from gman_calls import configure, patient, submit
from harness.waiting import until
from sanitized import THREADS, Driver


def test_no_data_race() -> None:
    gman = Driver("libgearman_mysql_udf.so", THREADS)
    with FakeServer() as good, FakeServer("close") as ill:
        gman.name(job="127.0.0.1")
        name, both = f"job.example:{good.port}", f"{ill.address},{good.address}"
        configure(gman, breaker_retry_ms=20)
        gman.call("gman_servers_set", both)
        calls, *_ = gman.mix(
            10,
            3.0,
            ("gman_do_background", "f", "x"),
            ("gman_wake", "f", "x"),
            ("gman_stats",),
            ("gman_servers_set", both),
            ("gman_servers_set", name),
            ("gman_wake", "g", "y"),
            ("gman_do_background", "g", "y", "key"),
            ("gman_servers_set", ill.address, "g"),
            ("gman_servers_set", "", "g"),
            ("gman_configure", "io_timeout_ms", 100),
        )
        assert calls >= 10
        gman.call("gman_servers_set", good.address)
        patient(gman)
        until(lambda: submit(gman))
    gman.close()
