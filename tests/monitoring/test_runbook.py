# SPDX-License-Identifier: GPL-3.0-or-later
"""The runbook names what there is: alerts, log lines, commands with their options, role variables,
playbooks and its own sections.
"""

from __future__ import annotations

import contextlib
import io
import re

import pytest
import yaml
from gearsync.cli.main import _COMMANDS, main
from harness.monitored import alerts, anchors
from harness.places import ROOT

TEXT = (ROOT / "docs/operations.md").read_text()

#: Files that are not the collection's playbooks.
OTHERS = (
    "inventory.yml",
    "worker.yml",
    "NAME.yml",
    "SOURCE.yml",
    "prometheus.yml",
    "rules.yml",
    "staging.yml",
)


def test_it_knows_every_alert_and_no_other() -> None:
    assert set(re.findall(r"\bGearsync[A-Z]\w+", TEXT)) == {rule["alert"] for rule in alerts()}


def test_its_links_lead_somewhere() -> None:
    for page, anchor in re.findall(r"\]\(([\w.]*)#([\w-]+)\)", TEXT):
        assert anchor in anchors((ROOT / "docs" / page).read_text() if page else TEXT), (page, anchor)


def test_the_log_lines_are_those_of_the_worker() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "worker/src/gearsync").rglob("*.py"))
    named = {name for group in re.findall(r"action=\(?([a-z_|]+)", TEXT) for name in group.split("|")}
    assert named, "the runbook names no log line any more"
    # Those of an outage are made of the server's kind: mysql and redis.
    assert {name for name in named if f'"{name}"' not in sources} <= {"mysql_lost", "redis_lost"}


def test_the_commands_take_these_options() -> None:
    uses = re.findall(
        r"gearsync ((?:dead-letter "
        r")?(?:status|verify|resync|barrier|list|show|retry|drop|check-config|selftest))\b([^`#&\n]*)",
        TEXT,
    )
    assert len(uses) > 30
    helps: dict[str, str] = {}
    for command, rest in uses:
        if command not in helps:
            output = io.StringIO()
            with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as end:
                main([*command.split(), "--help"])
            assert end.value.code == 0
            helps[command] = output.getvalue()
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in helps[command], f"gearsync {command} has no {option}"


def test_the_exit_statuses_are_those_of_the_commands() -> None:
    for name, command in _COMMANDS.items():
        statuses = dict(words.split(" ", 1) for words in command.statuses.split("; "))
        assert (
            "".join(
                [
                    "| ",
                    f"`{name}` |",
                    *(f" {statuses[number]} |" if number in statuses else " |" for number in "012"),
                ]
            )
            in TEXT
        ), name


def test_the_variables_are_those_of_the_roles() -> None:
    known = {
        name for path in ROOT.glob("roles/*/defaults/main.yml") for name in yaml.safe_load(path.read_text())
    }
    known |= {path.name for path in (ROOT / "roles").iterdir()}
    named = set(re.findall(r"`((?:worker|redis|gearmand|mysql|sync_triggers)_[a-z_]+)[`:]", TEXT))
    assert {name for name in named if name not in known and not name.endswith(("_lost", "_back"))} == set()


def test_the_playbooks_are_there() -> None:
    for name in set(re.findall(r"\b(?:playbooks/)?\w+\.yml\b", TEXT)):
        if name not in OTHERS:
            assert (ROOT / name).exists(), name
