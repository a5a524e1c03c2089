# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers of all benchmarks: those of the tests' harness, with their data on disk and the durability
of a primary in production.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from harness import process, storm
from harness.database import server_program
from harness.gearmand import Gearmand
from harness.modules import JSON_LIBRARY, libraries
from harness.outbox_database import OutboxDatabase, collection
from harness.places import scratch
from harness.ports import free_port
from harness.process import Process
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker

__all__ = [
    "JSON_LIBRARY",
    "ROOT",
    "Database",
    "Gearmand",
    "OutboxDatabase",
    "Pipeline",
    "Process",
    "Redis",
    "arguments",
    "cleaned_up",
    "collection",
    "free_port",
    "libraries",
    "machine",
    "scratch",
    "storm",
    "until",
]

DURABLE = (
    "--sync-binlog=1",
    "--innodb-flush-log-at-trx-commit=1",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
)
RELAXED = ("--skip-log-bin", "--innodb-flush-log-at-trx-commit=2")
#: As Debian's package has it, with a buffer pool for the tables that the benchmarks make.
SIZES = {
    "mariadb": ("--innodb-buffer-pool-size=512M", "--innodb-log-file-size=96M"),
    "mysql": ("--innodb-buffer-pool-size=512M",),
}


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the options of all benchmarks, described by the first line of a module's text."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument(
        "--relaxed", action="store_true", help="no binary log, and no sync of the redo log at a commit"
    )
    return parser


def machine() -> str:
    """One line about where this runs."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({model.group(1) if model else platform.machine()}), {memory:.0f} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    )


class Database(OutboxDatabase):
    """A database with the collection's schema and a schema ``bench``."""

    def __init__(self, *options: str, durable: bool = True) -> None:
        super().__init__(
            *SIZES[server_program()[0]], "--skip-name-resolve", *(DURABLE if durable else RELAXED), *options
        )
        self.execute("CREATE DATABASE bench", *collection("_outbox").migration_statements(0))

    def declare(self, *tables: dict[str, Any]) -> None:
        """Make the triggers of tables, with the collection's own module and its defaults."""
        for table in tables:
            self.modules.ok("sync_table", **table)

    def binary_log(self) -> int:
        """The bytes of all binary logs."""
        return sum(int(row[1]) for row in self.execute("SHOW BINARY LOGS"))

    @property
    def version(self) -> str:
        return str(self.execute("SELECT VERSION()")[0][0])


class Redis(RedisServer):
    """A Redis that keeps its data in memory only, so that the pipeline is measured and not Redis' disk."""

    def __init__(self, *options: str) -> None:
        super().__init__("--appendonly", "no", "--save", "", *options)

    @property
    def version(self) -> str:
        return str(self.client.info("server")["redis_version"])


class Pipeline:
    """A database, a Redis and a gearmand, and a worker when it is started."""

    def __init__(self, durable: bool = True) -> None:
        self.gearmand, self.redis, self.database = Gearmand(), Redis(), Database(durable=durable)
        self.database.add_functions(self.gearmand)
        self.directory = scratch("bench")

    @property
    def versions(self) -> str:
        return f"{self.database.engine} {self.database.version}, Redis {self.redis.version}"

    def worker(
        self, tables: list[dict[str, Any]], mysql: dict[str, Any] | None = None, **settings: Any
    ) -> Worker:
        """A started worker; ``settings``: those of its ``worker`` that are not the defaults."""
        config = {
            "job_servers": [self.gearmand.address],
            "redis": {"port": self.redis.port},
            "mysql": mysql or self.database.account,
            "worker": settings,
            "tables": tables,
        }
        return Worker(config, self.directory, program=True)


@contextlib.contextmanager
def cleaned_up() -> Iterator[None]:
    """What is started within has its data on disk and is ended at the end; an error shows the end of each
    log.
    """
    # The tests take memory. What a synced commit costs is part of every figure.
    os.environ.setdefault("GEARSYNC_SCRATCH", "/var/tmp")
    # As an interrupt does, so that nothing is left running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        yield
    except BaseException:
        for name, text in process.logs().items():
            print(f"--- the end of the log of {name}\n{text}", file=sys.stderr)
        raise
    finally:
        process.kill_all()
