# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that cannot be reached: who is left out, and who goes on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from harness.places import ROOT
from harness.playbook import LOCAL, run_plays

#: The exit status of a run in which hosts were unreachable.
UNREACHABLE = 4
#: Nothing listens on port 1.
AWAY = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
#: Then: which sources a worker would configure, when the servers of all that are there are prepared.
PLAYS = [
    {"import_playbook": str(ROOT / "playbooks/reach.yml")},
    {
        "hosts": "gearsync_mysql",
        "gather_facts": False,
        "tasks": [{"ansible.builtin.set_fact": {"__gearsync_prepared": True}}],
    },
    {
        "hosts": "gearsync_workers",
        "gather_facts": False,
        "vars": {"__gearsync_gate": True},
        "tasks": [
            {
                "ansible.builtin.include_role": {
                    "name": "gearsync.mysql_redis.worker",
                    "tasks_from": "find_sources",
                }
            },
            {
                "ansible.builtin.debug": {
                    "msg": "SERVES {{ __worker_instances | map(attribute='source') | join(',') }}"
                }
            },
        ],
    },
]


def run(directory: Path, databases: dict[str, Any], workers: dict[str, Any]) -> tuple[int, str]:
    """Exit status and output of the plays."""
    inventory = {
        "all": {"vars": LOCAL},
        "gearsync_mysql": {"hosts": databases},
        "gearsync_workers": {"hosts": workers},
    }
    return run_plays(directory, inventory, PLAYS)


def recap(output: str) -> dict[str, tuple[int, int]]:
    """By host, how many tasks have failed, and whether it was unreachable."""
    lines = re.findall(r"(?m)^(\w+) +: ok=.*unreachable=(\d+) +failed=(\d+)", output)
    return {host: (int(failed), int(unreachable)) for host, unreachable, failed in lines}


def source(name: str, **more: Any) -> dict[str, Any]:
    return {"gearsync_source": name, "gearsync_worker_mysql": {"host": name, "password": "p"}, **more}


def test_a_worker_host_that_is_away_is_left_out(tmp_path: Path) -> None:
    status, output = run(tmp_path, {"db1": source("orders")}, {"w1": {}, "w2": AWAY})
    assert status == UNREACHABLE, output
    assert recap(output) == {"db1": (0, 0), "w1": (0, 0), "w2": (0, 1)}, output
    assert "SERVES orders" in output, output


@pytest.mark.parametrize("away", ["db2", "db3"])
def test_a_source_with_a_host_that_is_away_is_left_out_and_others_go_on(tmp_path: Path, away: str) -> None:
    databases = {"db1": source("orders"), "db2": source("users"), "db3": source("users")}
    databases[away] = {**databases[away], **AWAY}
    status, output = run(tmp_path, databases, {"w1": {}})
    other = "db2" if away == "db3" else "db3"
    assert status & UNREACHABLE, output
    assert recap(output) == {"db1": (0, 0), away: (0, 1), other: (1, 0), "w1": (0, 0)}
    text = " ".join(output.split())
    assert f"{other} is left out: {away} of the same source, users, could not be reached" in text
    # The worker of the source that is left out stays as it is.
    assert re.search(r"SERVES orders\b(?!,)", output)
