# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays of this collection on this machine: databases that have an address and no SSH, and worker hosts from
which their modules run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import playbook
from harness.outbox_database import OutboxDatabase

SECRET = "Do-not-print-m4"
#: No one answers there: whoever opens a connection to the host finds out.
NO_SSH = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
LOCAL = {
    **playbook.LOCAL,
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


@contextmanager
def managed_server() -> Iterator[OutboxDatabase]:
    """A server with a table and the account that its provider gives."""
    with OutboxDatabase("--log-bin-trust-function-creators=1") as database:
        database.execute(
            "CREATE DATABASE shop",
            "CREATE TABLE shop.item (id INT PRIMARY KEY) ENGINE=InnoDB",
            f"CREATE USER admin@'127.0.0.1' IDENTIFIED BY '{SECRET}'",
            "GRANT ALL ON *.* TO admin@'127.0.0.1' WITH GRANT OPTION",
        )
        yield database


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


def source(database: OutboxDatabase, name: str, number: int, **more: Any) -> dict[str, Any]:
    """The variables of a source that clashes with no other."""
    own = {
        "gearsync_source": name,
        "gearsync_redis": {"host": "127.0.0.1", "db": number},
        "gearsync_worker_mysql": {"host": f"{name}.example", "user": "gearsync", "password": SECRET},
    }
    return managed(database, **{**own, **more})


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
    done = playbook.run_plays(directory, groups, plays, *options)
    assert SECRET not in done.output
    return done


def recap(output: str) -> dict[str, tuple[int, int]]:
    """By host, how many tasks have changed something, and how many have failed."""
    lines = re.findall(r"(?m)^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", output)
    return {host: (int(changed), int(lost) + int(failed)) for host, changed, lost, failed in lines}
