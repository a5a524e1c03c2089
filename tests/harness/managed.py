# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays of this collection on this machine: databases that have an address and no SSH, and worker hosts from
which their modules run.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.places import ROOT

SECRET = "Do-not-print-m4"
#: No one answers there: whoever opens a connection to the host finds out.
NO_SSH = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
LOCAL = {
    "ansible_connection": "local",
    "ansible_python_interpreter": sys.executable,
    # The machine may be none that is supported.
    "__platform_is_supported": True,
}
TABLE = {"table": "shop.item", "columns": ["id"], "write": [{"type": "hash", "key": "item:{id}"}]}


def role(name: str, tasks: str, **more: Any) -> dict[str, Any]:
    return {
        "ansible.builtin.include_role": {"name": f"gearsync.mysql_redis.{name}", "tasks_from": tasks},
        **more,
    }


def play(hosts: str, *tasks: dict[str, Any]) -> dict[str, Any]:
    return {"hosts": hosts, "gather_facts": False, "tasks": list(tasks)}


def managed(database: Any, **more: Any) -> dict[str, Any]:
    """The variables of a managed database."""
    return {
        **NO_SSH,
        "gearsync_mysql_access": "network",
        "gearsync_mysql_login_host": "127.0.0.1",
        "gearsync_mysql_login_port": database.port,
        "gearsync_mysql_login_user": "admin",
        "gearsync_mysql_login_password": SECRET,
        "gearsync_source": "legacy",
        "gearsync_worker_mysql": {"user": "gearsync", "password": SECRET},
        "gearsync_tables": [TABLE],
        **more,
    }


def run(
    directory: Path,
    plays: list[dict[str, Any]],
    databases: dict[str, Any],
    *options: str,
    workers: dict[str, Any] | None = None,
    shared: dict[str, Any] | None = None,
) -> tuple[int, str]:
    """Exit status and output of plays. ``shared``: the hosts of Redis and of the job servers."""
    groups = {
        "gearsync_mysql": {"hosts": databases},
        "gearsync_workers": {"hosts": {"w1": LOCAL} if workers is None else workers},
        **{group: {"hosts": shared} for group in ("gearsync_gearmand", "gearsync_redis") if shared},
    }
    (directory / "inventory.yml").write_text(json.dumps(groups))
    (directory / "plays.yml").write_text(json.dumps(plays))
    program = str(Path(sys.executable).parent / "ansible-playbook")
    done = subprocess.run(
        [program, "-i", str(directory / "inventory.yml"), *options, str(directory / "plays.yml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
    )
    output = done.stdout + done.stderr
    assert SECRET not in output
    return done.returncode, output


def recap(output: str) -> dict[str, tuple[int, int]]:
    """By host, how many tasks have changed something, and how many have failed."""
    lines = re.findall(r"(?m)^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", output)
    return {host: (int(changed), int(lost) + int(failed)) for host, changed, lost, failed in lines}
