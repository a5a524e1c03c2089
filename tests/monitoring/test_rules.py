# SPDX-License-Identifier: GPL-3.0-or-later
"""The alert rules by themselves: what promtool says of them, and that each is tested and explained."""

from __future__ import annotations

import re
import subprocess

import yaml
from harness.monitored import RULES, RULES_TEST, alerts, anchors
from harness.places import ROOT

PAGE = "https://github.com/gearsync/mysql_redis/blob/main/docs/operations.md#"


def promtool(*words: str) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", str(RULES))


def test_each_alert_fires_when_it_should_and_not_when_not() -> None:
    promtool("test", "rules", str(RULES_TEST))


def test_each_alert_fires_in_some_test() -> None:
    tests = yaml.safe_load(RULES_TEST.read_text())["tests"]
    fires = {
        rule["alertname"] for test in tests for rule in test.get("alert_rule_test", []) if rule["exp_alerts"]
    }
    samples = [
        sample["labels"]
        for test in tests
        for query in test.get("promql_expr_test", [])
        for sample in query["exp_samples"]
    ]
    fires |= {
        name for labels in samples for name in re.findall(r'alertname="(\w+)", alertstate="firing"', labels)
    }
    assert {rule["alert"] for rule in alerts()} == fires


def test_each_alert_says_how_urgent_it_is_and_what_to_do() -> None:
    known = anchors((ROOT / "docs/operations.md").read_text())
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule["alert"]
        address = rule["annotations"]["runbook_url"]
        assert address.startswith(PAGE), rule["alert"]
        assert address[len(PAGE) :] in known, (
            f"{rule['alert']}: operations.md has no heading for #{address[len(PAGE) :]}"
        )
