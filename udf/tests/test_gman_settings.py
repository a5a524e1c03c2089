# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of libgearman_mysql_udf, and its version."""

from __future__ import annotations

import time

import pytest
from fake_server import FakeServer
from gman_calls import configure, server, stats, use
from sanitized import Driver, Refused, RowError, Value


def test_settings(gman: Driver) -> None:
    configure(gman, connect_timeout_ms="default", io_timeout_ms="default")
    defaults = stats(gman)["settings"]
    assert defaults["connect_timeout_ms"] == 100
    assert defaults["io_timeout_ms"] == 250
    assert defaults["background_errors"] == "null"
    assert gman.call("gman_configure", "io_timeout_ms", 60) == b"60"
    assert stats(gman)["settings"]["io_timeout_ms"] == 60
    assert stats(gman)["changed_settings"] == ["io_timeout_ms"]
    assert gman.call("gman_configure", "io_timeout_ms", "default") == b"default"
    assert stats(gman)["settings"] == defaults
    assert stats(gman)["changed_settings"] == []


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


def test_version(gman: Driver) -> None:
    version = gman.call("gman_version")
    assert version
    assert stats(gman)["version"] == version.decode()
    with pytest.raises(Refused, match="takes no arguments"):
        gman.call("gman_version", 1)
    with pytest.raises(Refused, match="takes no arguments"):
        gman.call("gman_stats", 1)
