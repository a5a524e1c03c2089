# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook verify with a `gearsync` of our own: it passes only when somebody has compared, and found
both sides equal.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.playbook import LOCAL, ansible_playbook

TABLE = {
    "table": "shop.item",
    "rows": 3,
    "repaired": 0,
    "different": {},
    "unsettled": 0,
    "error": None,
    "not_compared": ["write[1] (list log)"],
    "examples": [],
}


def play(directory: Path, script: str, **variables: Any) -> tuple[int, str]:
    """Exit status and output of the playbook, for a command that is the shell script ``script``."""
    command = directory / "bin/gearsync"
    command.parent.mkdir(parents=True)
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    (directory / "worker.yml").write_text("{}")
    more = {
        "gearsync_tables": [{"table": "shop.item", "columns": ["id"], "write": []}],
        "gearsync_worker_mysql": {"host": "db"},
        "__worker_command": [str(command)],
        "__worker_venv": str(directory),
        "__worker_config": str(directory / "worker.yml"),
        **LOCAL,
        **variables,
    }
    inventory = directory / "inventory.yml"
    inventory.write_text(json.dumps({"gearsync_workers": {"hosts": {"one": {}}}}))
    return ansible_playbook("-i", inventory, "--extra-vars", json.dumps(more), "playbooks/verify.yml")


def answer(status: int, **table: Any) -> str:
    return f"echo '{json.dumps({'tables': [{**TABLE, **table}]})}'; exit {status}"


CASES = {
    "equal": (answer(0), {}, True, "Not compared: write[1] (list log)"),
    "different": (answer(1, different={"stale": 2}), {}, False, "Both sides differ"),
    "refused": (
        answer(1, different={"orphaned": 99}, refused="99 of 100 keys"),
        {},
        False,
        "More would be removed than gearsync_verify_max_prune allows",
    ),
    "limit": (
        f'[ "$*" = "${{*#*--prune --max-prune 7%}}" ] || {{ {answer(0)}; }}',
        {"gearsync_verify_prune": True, "gearsync_verify_max_prune": "7%"},
        True,
        "3 rows",
    ),
    "undecided": (
        answer(2, error="changes wait"),
        {},
        False,
        "Whether both sides are equal is not known: changes wait",
    ),
    "too long": ("sleep 60", {"worker_verify_limit": 1}, False, "Whether both sides are equal is not known"),
    "no worker": (
        answer(0),
        {"__worker_config": "/nosuch"},
        False,
        "Nothing of the source main was compared",
    ),
    "no table": (answer(0), {"gearsync_tables": []}, True, "there is nothing to compare"),
}


def test_it_is_green_only_with_a_result(tmp_path: Path) -> None:
    # At a time, because a play waits for its command most of the time.
    with ThreadPoolExecutor(max_workers=3) as pool:
        plays = {
            name: pool.submit(play, tmp_path / name, script, **variables)
            for name, (script, variables, *_expected) in CASES.items()
        }
    for name, (_script, _variables, passes, words) in CASES.items():
        status, output = plays[name].result()
        assert (status == 0) == passes, f"{name}: {output}"
        assert words in output, f"{name}: {output}"
