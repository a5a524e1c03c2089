"""The playbook verify with a `gearsync` of our own: it passes only when somebody has compared, and found both sides equal."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = {
    "table": "shop.item", "rows": 3, "repaired": 0, "different": {}, "unsettled": 0, "error": None, "not_compared": ["write 2 (list log)"], "examples": [],
}


def play(directory: Path, script: str, **variables: Any) -> tuple[int, str]:
    """Exit status and output of the playbook, for a command that is the shell script ``script``."""
    command = directory / "bin/gearsync"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    (directory / "worker.yml").write_text("{}")
    more = {
        "gearsync_tables": [{"table": "shop.item", "columns": ["id"], "write": []}], "gearsync_worker_mysql": {"host": "db"},
        "__worker_command": [str(command)], "__worker_venv": str(directory), "__worker_config": str(directory / "worker.yml"),
        "ansible_python_interpreter": sys.executable, **variables,
    }
    inventory = directory / "inventory.yml"
    inventory.write_text(json.dumps({"gearsync_workers": {"hosts": {"one": {"ansible_connection": "local"}}}}))
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory), "--extra-vars", json.dumps(more), "playbooks/verify.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def answer(status: int, **table: Any) -> str:
    return f"echo '{json.dumps({'tables': [{**TABLE, **table}]})}'; exit {status}"


@pytest.mark.parametrize(("script", "variables", "passes", "words"), [
    (answer(0), {}, True, "Not compared: write 2 (list log)"),
    (answer(1, different={"stale": 2}), {}, False, "Both sides differ"),
    (answer(2, error="changes wait"), {}, False, "Nobody can tell whether both sides are equal: changes wait"),
    ("sleep 60", {"worker_verify_limit": 1}, False, "Nobody can tell whether both sides are equal"),
    (answer(0), {"__worker_config": "/nosuch"}, False, "Nobody has compared anything"),
    (answer(0), {"gearsync_tables": []}, True, "there is nothing to compare"),
])
def test_it_is_green_only_with_a_result(tmp_path: Path, script: str, variables: dict[str, Any], passes: bool, words: str) -> None:
    status, output = play(tmp_path, script, **variables)
    assert (status == 0) == passes, output
    assert words in output, output
