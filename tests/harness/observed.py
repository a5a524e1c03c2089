# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker with an exporter, and what its exporter and `gearsync status` answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from harness.commands import Commands
from harness.http_client import Http
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker

TABLE = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}


class Exporter(Http):
    """The worker's web server."""

    def value(self, name: str, **labels: str) -> float | None:
        """One sample; None when it is absent, or the exporter does not answer."""
        status, text = self.get("/metrics")
        for family in text_string_to_metric_families(text if status == 200 else ""):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return float(sample.value)
        return None


@dataclasses.dataclass
class Pipeline:
    """All parts of what is observed."""

    config: dict[str, Any]
    commands: Commands
    database: OutboxDatabase
    redis: RedisServer
    exporter: Exporter
    start: Callable[[], Worker]

    def status(self) -> tuple[int, dict[str, Any]]:
        code, output = self.commands.run("status", "--json")
        return code, json.loads(output)

    def in_database(self) -> dict[str, Any]:
        """What `gearsync status` finds in the database, which may be late once."""
        answers: list[dict[str, Any]] = []

        def look() -> bool:
            found = self.status()[1]["database"]
            answers.extend([found] if found is not None else [])
            return bool(answers)

        until(look)
        return answers[0]
