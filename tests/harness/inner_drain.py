# SPDX-License-Identifier: GPL-3.0-or-later
"""A drain within the test's process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import msgspec
from gearsync.apply.drain import Drain
from gearsync.apply.drain_servers import Servers
from gearsync.declare.configuration import Config, MySQLSettings
from gearsync.servers import mysql as edge
from gearsync.servers.gearman import JobServers
from gearsync.servers.redis import ServerTarget
from gearsync.telemetry.metrics import Tally

from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase
from harness.waiting import until


class Recorded(edge.Database):
    """Records its queries."""

    def __init__(self, database: OutboxDatabase) -> None:
        super().__init__(MySQLSettings(**database.account), 120.0)
        self.asked: list[str] = []

    def rows(self, sql: str | bytes, arguments: Any = None) -> list[tuple[Any, ...]]:
        self.asked.append(str(sql))
        return super().rows(sql, arguments)


class InnerDrain:
    """A drain within the test, with two databases of which the first one is recorded."""

    def __init__(self, config: dict[str, Any], gearmand: Gearmand, database: OutboxDatabase) -> None:
        settings = msgspec.convert(config, Config)
        self.gearmand, self.database = gearmand, Recorded(database)
        self.jobs = JobServers(
            [(gearmand.host, gearmand.port)], [], prefetch=1, timeout=120.0, reconnect_max=0.2
        )
        self.drain = Drain(
            settings,
            Servers(self.jobs, ServerTarget(settings.redis, 120.0), self.database, Recorded(database)),
            {},
            Tally(),
        )

    def until(self, condition: Callable[[], bool]) -> None:
        def step() -> bool:
            self.drain.step(0.1)
            return condition()

        until(step)

    def barrier(self) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []
        client = threading.Thread(
            target=lambda: answers.append(json.loads(self.gearmand.do("gearsync.barrier.main", b"")[-1][1]))
        )
        client.start()
        self.until(lambda: bool(answers))
        client.join()
        return answers[0]

    def close(self) -> None:
        self.drain.close()
        self.jobs.close()
        self.drain.target.close()
