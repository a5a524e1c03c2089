#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the workers of several sources on one host cost while nothing is written: memory and CPU.

Each source has a database server of its own; they share a Redis and a job server. The workers run in an
environment as the role makes it: without what only the tests need.
"""

from __future__ import annotations

import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from peers.gearsync import Gearsync
from peers.processes import cpu_exactly, pss
from servers import (
    RELAXED,
    ROOT,
    Gearmand,
    OutboxDatabase,
    Process,
    Redis,
    arguments,
    cleaned_up,
    free_port,
    machine,
    scratch,
    until,
)

NAMES = ("item", "customer", "order")
#: Megabytes of one source's worker, and percent of a core of all together, at most.
MEMORY, IDLE = 45.0, 2.0
#: Seconds without a change after which a worker is idle.
REST = 60.0


class Source:
    """One source with a worker that has default settings and shows its metrics."""

    def __init__(self, name: str, redis: Redis, gearmand: Gearmand, python: Path) -> None:
        self.name, self._redis = name, redis
        self.database = OutboxDatabase(*RELAXED, "--innodb-buffer-pool-size=32M")
        self.database.reset()
        self.database.add_functions(gearmand)
        tables = [self._declared(table) for table in NAMES]
        listen = f"127.0.0.1:{free_port()}"
        self._metrics = f"http://{listen}/metrics"
        config = scratch("sources") / f"{name}.yml"
        members = {
            "source": name,
            "job_servers": [gearmand.address],
            "redis": {"port": redis.port},
            "mysql": {"user": "root", "host": "127.0.0.1", "port": self.database.port},
            "worker": {"metrics_listen": listen},
            "tables": tables,
        }
        config.write_text(yaml.safe_dump(members))
        self.worker = Process(
            name,
            [python, "-m", "gearsync", "run", "--config", config],
            config.with_suffix(".log"),
        )

    def _declared(self, table: str) -> dict[str, Any]:
        self.database.execute(f"CREATE TABLE shop.`{table}` (id INT PRIMARY KEY, name VARCHAR(100))")
        write = [{"type": "hash", "key": f"{self.name}:{table}:{{id}}"}]
        declared: dict[str, Any] = {"table": f"shop.{table}", "columns": ["id", "name"], "write": write}
        self.database.modules.ok("sync_table", **declared)
        return declared

    def use(self) -> None:
        """Change some rows, and show the metrics: after that it has done all that it does."""
        for number in range(1, 101):
            self.database.execute(f"REPLACE INTO shop.item VALUES ({number}, 'name {number}')")
        until(lambda: self._redis.client.exists(f"{self.name}:item:100"), 1)
        for _time in range(3):
            until(self._shows_metrics, True)

    def _shows_metrics(self) -> bool:
        try:
            with urllib.request.urlopen(self._metrics) as answer:
                return bool(answer.read())
        except urllib.error.URLError:
            # It may not serve yet.
            return False

    @property
    def pids(self) -> list[int]:
        leader = self.worker.process.pid
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        return [leader, *map(int, children)]


def idle(pids: Mapping[str, list[int]], seconds: float) -> dict[str, float]:
    """Percent of a core that each of the named groups of processes takes."""
    before = {name: sum(map(cpu_exactly, group)) for name, group in pids.items()}
    time.sleep(seconds)
    return {
        name: (sum(map(cpu_exactly, group)) - before[name]) / seconds * 100 for name, group in pids.items()
    }


def report(used: dict[str, float], workers: list[int], number: int) -> bool:
    """Print the figures; whether they keep the bars."""
    memory = pss(workers) * 2**20 / 1e6 / number
    for name, share in used.items():
        print(f"{name:<10} {share:5.2f} % of a core in all, {share / number:.2f} % for each source")
    print(f"workers    {memory:5.1f} MB (PSS) for each source, {len(workers) / number:g} processes")
    passed = memory <= MEMORY and used["workers"] <= IDLE
    print(f"bars: {MEMORY:g} MB each, {IDLE:g} % in all: {'passed' if passed else 'missed'}")
    return passed


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--sources", type=int, default=8, metavar="N")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which the CPU is measured")
    parser.add_argument("--times", type=int, default=3, help="how often; the least counts")
    options = parser.parse_args()
    installed = Gearsync(ROOT / ".work/peers")
    installed.install()
    with cleaned_up():
        gearmand, redis = Gearmand(), Redis()
        sources = [
            Source(f"source{number}", redis, gearmand, installed.work / "bin/python")
            for number in range(options.sources)
        ]
        for source in sources:
            source.use()
        time.sleep(REST)
        workers = [pid for source in sources for pid in source.pids]
        pids = {
            "workers": workers,
            "databases": [source.database.process.pid for source in sources],
            "Redis": [redis.process.pid],
            "gearmand": [gearmand.process.pid],
        }
        looks = [idle(pids, options.seconds) for _time in range(options.times)]
        print(machine())
        passed = report(min(looks, key=lambda used: used["workers"]), workers, len(sources))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
