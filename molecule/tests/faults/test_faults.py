# SPDX-License-Identifier: GPL-3.0-or-later
"""Each part is away for a minute, or dies at once, while eight writers write; afterwards both sides are
equal with no one's help.
"""

from __future__ import annotations

import os
import time

import pytest
from harness.hosts import SECRET, Host
from harness.waiting import until
from harness.writing import equal, writing

SECONDS = float(os.environ.get("GEARSYNC_FAULT_SECONDS", "60"))


def redis_unit(host: Host) -> str:
    return host.run(
        "for u in redis-server redis valkey-server valkey; do systemctl is-active --quiet $u && echo $u && "
        "break; done"
    )


@pytest.mark.parametrize("part", ["gearmand", "redis", "worker"])
def test_a_part_may_be_away(host: Host, part: str) -> None:
    unit = {"gearmand": "gearmand", "redis": redis_unit(host), "worker": host.worker}[part]
    with writing(host) as written:
        time.sleep(2)
        host.run(f"systemctl stop {unit}")
        time.sleep(SECONDS)
        host.run(f"systemctl start {unit}")
        time.sleep(2)
    assert written["refused"] == []
    equal(host)


def test_the_database_server_may_be_killed(host: Host) -> None:
    unit = host.mysql_unit
    with writing(host) as written:
        for _number in range(3):
            time.sleep(3)
            host.run(f"systemctl kill --signal=KILL {unit}")
            time.sleep(1)
            host.run(f"systemctl start {unit}")
            until(lambda: host.sql("SELECT 1;", ok=False), "1")
    assert written["refused"] == []
    equal(host)


def test_the_worker_may_be_killed_and_paused(host: Host) -> None:
    with writing(host):
        for number in range(6):
            time.sleep(1)
            host.run(f"systemctl kill --signal={'KILL' if number % 2 else 'STOP'} {host.worker}")
            time.sleep(2 if number % 2 else 12)
            host.run(f"systemctl kill --signal=CONT {host.worker} || true; systemctl start {host.worker}")
    equal(host)


def test_no_secret_has_come_to_the_journal(host: Host) -> None:
    assert SECRET not in host.run(f"journalctl --no-pager --unit {host.worker}")
