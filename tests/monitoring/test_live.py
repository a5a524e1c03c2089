# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's Prometheus beside a worker that works: every query of the dashboard has an answer, every rule
can be evaluated and means what it says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from harness.monitored import DASHBOARD, RULES, Pipeline, Prometheus, alerts
from harness.waiting import until

# What Grafana puts in place of its variables when everything is chosen, and a range of several readings.
VARIABLES = {"$source": ".*", "$instance": ".*", "$__rate_interval": "1m"}
NAME = re.compile(r"\bgearsync_[a-z_]+\b")


def queries() -> Iterator[tuple[str, str]]:
    """Title and expression of everything that the dashboard asks."""
    found = json.loads(DASHBOARD.read_text())
    for panel in found["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in found["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]


def substituted(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, expression
    return expression


def test_the_dashboard_and_the_rules_name_all_metrics_that_are_there_and_no_others(
    pipeline: Pipeline,
) -> None:
    # Without exceptions: the pipeline of these tests is in the state in which a worker shows everything.
    named = {name for text in (DASHBOARD.read_text(), RULES.read_text()) for name in NAME.findall(text)}
    # A look at the servers is shown for two seconds.
    until(lambda: named ^ pipeline.metrics(), set())


@pytest.mark.parametrize(
    "expression", [pytest.param(expression, id=title) for title, expression in queries()]
)
def test_every_query_of_the_dashboard_has_an_answer(prometheus: Prometheus, expression: str) -> None:
    # Also that of the annotation: the verification found a difference, which is an alert.
    until(lambda: bool(prometheus.query(substituted(expression))))


def test_every_rule_is_evaluated_without_an_error(prometheus: Prometheus) -> None:
    for rule in alerts():
        prometheus.query(rule["expr"])

    def unwell() -> list[str]:
        groups = json.loads(prometheus.get("/api/v1/rules")[1])["data"]["groups"]
        return [
            f"{rule['name']}: {rule['health']} {rule.get('lastError', '')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "ok"
        ]

    until(unwell, [])


def test_a_pipeline_in_order_has_no_other_alert_than_what_verify_found(prometheus: Prometheus) -> None:
    until(prometheus.alerts, {"GearsyncVerifyDifferences"})


def test_a_mended_difference_ends_its_alert(prometheus: Prometheus, pipeline: Pipeline) -> None:
    assert pipeline.commands.run("verify", "--repair")[0] == 0
    until(prometheus.alerts, set())


def test_redis_lost_data_is_seen(prometheus: Prometheus, pipeline: Pipeline) -> None:
    pipeline.redis.client.flushall()
    pipeline.write(20)
    until(prometheus.alerts, {"GearsyncRedisLostData"})
    assert pipeline.commands.run("resync")[0] == 0
    assert pipeline.commands.run("verify")[0] == 0


def test_the_alerts_see_each_server_that_is_away(prometheus: Prometheus, pipeline: Pipeline) -> None:
    before = prometheus.alerts()
    pipeline.redis.stop()
    until(lambda: prometheus.alerts() - before, {"GearsyncRedisDown"})
    pipeline.redis.start()
    until(lambda: prometheus.alerts() - before, set())

    pipeline.redis.client.config_set("maxmemory", "1mb")
    pipeline.write(1)
    until(lambda: prometheus.alerts() - before, {"GearsyncRedisTakesNoWrites"})
    pipeline.redis.client.config_set("maxmemory", "0")
    # It looks back for two minutes, in which the writes have failed.
    before = before | {"GearsyncRedisTakesNoWrites"}

    pipeline.job_server.stop()
    until(lambda: prometheus.alerts() - before, {"GearsyncNoJobServer"})
    pipeline.job_server.start()
    until(lambda: prometheus.alerts() - before, set())

    pipeline.database.stop()
    until(lambda: prometheus.alerts() - before, {"GearsyncMySQLDown"})
    pipeline.database.start()
    until(lambda: prometheus.alerts() - before, set())


def test_a_worker_that_stops_is_seen(prometheus: Prometheus, pipeline: Pipeline) -> None:
    before = prometheus.alerts()
    assert pipeline.worker.terminate() == 0
    until(lambda: prometheus.alerts() - before, {"GearsyncAllTargetsDown"})
