# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole pipeline with a worker that shows its metrics, and a Prometheus that reads them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from harness.commands import Commands
from harness.gearmand import Gearmand
from harness.http_client import Http
from harness.outbox_database import OutboxDatabase
from harness.places import ROOT, scratch
from harness.ports import free_port
from harness.redis_server import RedisServer
from harness.server import Server
from harness.worker import Worker, worker_config

MONITORING = ROOT / "docs/monitoring"
RULES = MONITORING / "prometheus-rules.yml"
RULES_TEST = MONITORING / "prometheus-rules-test.yml"
DASHBOARD = MONITORING / "grafana-dashboard.json"

DURABLE = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}
DIRECT = {
    "table": "shop.visit",
    "delivery": "direct",
    "function": "countVisits",
    "columns": ["id", "page"],
    "write": [{"type": "hash", "key": "visit:{id}"}],
}
#: A single change that took more than five seconds is one, for minutes.
LATE = {"GearsyncLagHigh"}


def alerts() -> list[dict[str, Any]]:
    """The alerts among the rules."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


class Prometheus(Server, Http):
    """Debian's Prometheus, which reads one worker's metrics every second and evaluates the rules as often."""

    def __init__(self, target: int) -> None:
        Http.__init__(self, free_port())
        directory = scratch("prometheus")
        config = directory / "prometheus.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(RULES)],
                    "scrape_configs": [
                        {"job_name": "gearsync", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
                    ],
                }
            )
        )
        command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        Server.__init__(self, "prometheus", command, directory)

    def answers(self) -> bool:
        return self.get("/-/ready")[0] == 200

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now; fails with Prometheus' own words when it is wrong."""
        status, body = self.get("/api/v1/query", query=expression)
        assert status == 200, f"{expression}: {body}"
        answer = json.loads(body)
        assert "warnings" not in answer, f"{expression}: {answer['warnings']}"
        result = answer["data"]["result"]
        # A scalar is a pair of its own.
        return [{"metric": {}, "value": result}] if answer["data"]["resultType"] == "scalar" else result

    def alerts(self) -> set[str]:
        """The names of the alerts whose expressions are true, whether or not they have been so for long
        enough; but not what a busy machine raises.
        """
        return {sample["metric"]["alertname"] for sample in self.query("ALERTS")} - LATE


class Pipeline:
    """What the tests hold in their hands."""

    def __init__(
        self, database: OutboxDatabase, job_server: Gearmand, redis: RedisServer, directory: Path
    ) -> None:
        self.database, self.job_server, self.redis, self.exporter = (
            database,
            job_server,
            redis,
            Http(free_port()),
        )
        listen = f"127.0.0.1:{self.exporter.port}"
        config = worker_config(
            redis.port,
            [DURABLE, DIRECT],
            database.account,
            job_server.address,
            metrics_listen=listen,
            io_timeout=30.0,
        )
        self.worker, self.commands = Worker(config, directory), Commands(config, directory)
        self.rows = 0

    def write(self, number: int = 20) -> None:
        """New rows in both tables."""
        first, self.rows = self.rows + 1, self.rows + number
        for row in range(first, self.rows + 1):
            self.database.execute(
                f"INSERT INTO shop.item VALUES ({row}, 'n')", f"INSERT INTO shop.visit VALUES ({row}, 'p')"
            )

    def arrived(self) -> bool:
        return bool(self.redis.client.exists(f"item:{self.rows}", f"visit:{self.rows}") == 2)

    def metrics(self) -> set[str]:
        """The names of all series that the worker shows."""
        return {
            line.partition("{")[0].partition(" ")[0]
            for line in self.exporter.get("/metrics")[1].splitlines()
            if not line.startswith("#")
        }
