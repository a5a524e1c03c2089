# SPDX-License-Identifier: GPL-3.0-or-later
"""What check mode says of the first load of tables, whatever the host has already: the role's own tasks
with a `gearsync` of our own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.playbook import LOCAL, Run, ansible_playbook

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role: {name: gearsync.mysql_redis.worker, tasks_from: load}
"""


def table(name: str, **more: Any) -> dict[str, Any]:
    return {"table": name, "columns": ["id"], "write": [{"type": "hash", "key": f"{name}:{{id}}"}], **more}


A, B, DIRECT = table("shop.a"), table("shop.b"), table("shop.d", delivery="direct")
#: What is declared, what the worker has (None without a worker), what it says of that, and what would be
#: loaded.
CASES: dict[str, tuple[list[Any], list[Any] | None, list[str], list[str]]] = {
    "bare": ([A, B, DIRECT], None, [], ["shop.a", "shop.b"]),
    "first": ([A, DIRECT], [DIRECT], [], ["shop.a"]),
    "switched": ([A], [{**A, "delivery": "direct"}], [], ["shop.a"]),
    "loaded": ([A, B], [A, {**B, "events": ["insert"]}], [], []),
    "one": ([A, B], [A], ["shop.a: about 300 rows"], ["shop.b", "shop.a: about 300 rows"]),
    "other": ([{**A, "columns": ["id", "name"]}, B], [A, B], [], ["shop.a"]),
    "gone": ([A], [A, B], ["shop.b: about 7 rows"], []),
    "none": ([DIRECT], [DIRECT], [], []),
}


def install(home: Path, former: list[Any], said: list[str]) -> None:
    """A worker that was declared these tables, and whose command says this of their load."""
    (home / "bin/gearsync").write_text(
        f"#!/bin/sh\n{' '.join(['printf', '%s', *map(repr, said)]) if said else ':'}\n"
    )
    (home / "bin/gearsync").chmod(0o755)
    (home / "worker.yml").write_text(json.dumps({"mysql": {"password": "hush"}, "tables": former}))


def load_in_check_mode(directory: Path, hosts: dict[str, Any]) -> Run:
    (directory / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
    (directory / "play.yml").write_text(PLAY)
    # What the role's own variables set, only the command line sets otherwise.
    more = {
        "__worker_venv": "{{ home }}",
        "__worker_config": "{{ home }}/worker.yml",
        "__worker_command": ["{{ home }}/bin/gearsync"],
        "worker_mysql": {"unix_socket": "/run/s"},
    }
    options = ("--check", "--extra-vars", json.dumps(more))
    return ansible_playbook("-i", directory / "inventory.yml", *options, directory / "play.yml")


def test_check_mode_names_the_tables_that_would_be_loaded(tmp_path: Path) -> None:
    hosts: dict[str, Any] = {}
    for name, (declared, former, said, _wanted) in CASES.items():
        home = tmp_path / name
        (home / "bin").mkdir(parents=True)
        if former is not None:
            install(home, former, said)
        hosts[name] = {
            "home": str(home),
            "worker_tables": declared,
            **LOCAL,
        }
    done = load_in_check_mode(tmp_path, hosts)
    assert done.status == 0, done.output
    assert "hush" not in done.output
    for name, (*_given, wanted) in CASES.items():
        found = [
            line.partition("=> (item=")[2].rpartition(")")[0]
            for line in done.output.splitlines()
            if line.startswith(f"changed: [{name}]")
        ]
        assert found == wanted, (name, done.output)
