# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers that are down for long: what the worker uses meanwhile, and that it recovers by itself."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

#: Seconds for which a server is down.
OUTAGE = float(os.environ.get("GEARSYNC_TEST_OUTAGE", "3"))
#: Bytes by which the whole worker may grow, and its descriptors.
GROWTH, DESCRIPTORS = 16_000_000, 64

ITEM: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}
DIRECT: dict[str, Any] = {
    **ITEM,
    "table": "shop.direct",
    "delivery": "direct",
    "function": "shop",
    "write": [{"type": "hash", "key": "direct:{id}"}],
}


def memory(worker: Worker) -> int:
    """Bytes of the worker's processes: their own or shared among them, and the mapped files of the
    largest, whatever else maps them.
    """
    own, files = 0, [0]
    for pid in (worker.process.pid, *worker.children):
        sizes = dict(
            re.findall(r"^(\w+): +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        )
        own += int(sizes["Pss_Anon"]) * 1024
        files.append(int(sizes["Rss"]) * 1024 - int(sizes["Anonymous"]) * 1024)
    return own + max(files)


def descriptors(worker: Worker) -> int:
    """Open descriptors of the worker's processes together."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (worker.process.pid, *worker.children))


def outlast(worker: Worker, away: str) -> None:
    """Wait for the length of the outage, and see what it has cost."""
    before = memory(worker)
    ends = time.monotonic() + OUTAGE
    while time.monotonic() < ends:
        time.sleep(1)
        worker.check()
    print(
        f"after {OUTAGE:g} s without {away}: {before / 1e6:.1f} and then {memory(worker) / 1e6:.1f} MB, "
        f"{descriptors(worker)} descriptors"
    )
    assert memory(worker) <= before + GROWTH
    assert descriptors(worker) <= DESCRIPTORS


@pytest.mark.timeout(OUTAGE + 900)
@pytest.mark.parametrize("away", ["mysql over TCP", "mysql over its socket", "redis", "job servers"])
def test_a_long_outage_costs_no_memory_and_no_descriptors(
    database: OutboxDatabase,
    redis_server: RedisServer,
    gearmand: Gearmand,
    start_worker: Callable[..., Worker],
    away: str,
) -> None:
    r = redis_server.client
    account = database.account
    if away == "mysql over TCP":
        account = {"user": "root", "host": "127.0.0.1", "port": database.port}
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    database.sync_table(**ITEM)
    # It tries again five times a second, so that a short outage is as many attempts as a long one.
    worker = start_worker(
        worker_config(redis_server.port, [ITEM, DIRECT], account, gearmand.address), program=True
    )

    def change(number: int) -> None:
        if away != "job servers" or gearmand.running:
            gearmand.submit(
                "shop",
                b'{"$gearsync": 1, "table": "shop.direct", "event": "insert", "new": {"id": %d, "name": "x"}}'
                % number,
            )
        if database.running:
            database.execute(f"INSERT INTO shop.item VALUES ({number}, 'x')")

    change(1)
    until(lambda: r.exists("item:1", "direct:1"), 2)
    server = {"redis": redis_server, "job servers": gearmand}.get(away, database)
    server.stop()
    change(2)
    outlast(worker, away)
    server.start()
    change(3)
    until(lambda: r.exists("item:3", "direct:3"), 2)
    assert r.exists("item:2") == (server is not database)
