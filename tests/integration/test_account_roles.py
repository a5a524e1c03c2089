# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts that the roles make, by their own tasks, on a private server: check mode foretells a run, the
next one changes nothing, and what another one has granted stays.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from harness.playbook import LOCAL, run_plays

#: In the order of playbooks/site.yml.
STEPS = [("sync_triggers", "retire"), ("worker", "mysql_account"), ("sync_triggers", "main")]
SECRET = "Do-not-print-m3"


def table(name: str, **more: Any) -> dict[str, Any]:
    return {
        "table": f"shop.{name}",
        "columns": ["id"],
        "write": [{"type": "hash", "key": f"{name}:{{id}}"}],
        **more,
    }


@pytest.fixture(autouse=True)
def clean(database, schema, gearman):
    def remove():
        database.execute(
            "DROP DATABASE IF EXISTS gearsync",
            "DROP USER IF EXISTS gearsync@localhost, gearsync_definer@localhost",
        )

    remove()
    database.execute(
        *(f"CREATE TABLE shop.{name} (id INT PRIMARY KEY)" for name in ("a", "b", "c", "theirs"))
    )
    yield
    remove()


@pytest.fixture
def run(database, tmp_path: Path):
    """Run the steps with a declaration: (number of tasks that changed something, output)."""

    def started(tables: list[dict[str, Any]], *options: str) -> tuple[int, str]:
        host = {
            **LOCAL,
            "gearsync_mysql_login_unix_socket": database.socket,
            "gearsync_worker_mysql": {"unix_socket": database.socket, "password": SECRET},
            "gearsync_tables": tables,
        }
        groups = {name: {"hosts": {"one": host}} for name in ("gearsync_mysql", "gearsync_workers")}
        tasks = [
            {"include_role": {"name": f"gearsync.mysql_redis.{role}", "tasks_from": tasks}}
            for role, tasks in STEPS
        ]
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        done = run_plays(tmp_path, groups, [play], "--diff", *options)
        assert done.status == 0, done.output
        assert SECRET not in done.output
        return done.recap("changed")["one"], done.output

    return started


def grants(database) -> list[str]:
    """All that the server prints of the rights of both accounts."""
    return [
        re.sub(r" (IDENTIFIED|TO) .*", "", line)
        for account in ("gearsync@localhost", "gearsync_definer@localhost")
        for (line,) in database.execute(f"SHOW GRANTS FOR {account}")
        if "USAGE" not in line
    ]


def lines_of_diffs(output: str) -> list[str]:
    """What the diffs of accounts add and remove."""
    return sorted(
        line for line in output.replace("\x1b[0m", "").splitlines() if re.match(r"[+-](GRANT|ACCOUNT) ", line)
    )


OTHERS = ["GRANT SELECT ON `shop`.`theirs` TO {}", "GRANT SELECT, DELETE ON `shop`.`c` TO {}"]


def test_the_accounts_follow_the_declaration_and_keep_what_others_have_granted(database, run) -> None:
    first = [table("a"), table("b"), table("c", delivery="direct", function="f")]
    assert run(first)[0] > 0
    accounts = ("gearsync@localhost", "gearsync_definer@localhost")
    database.execute(*(right.format(accounts[0]) for right in OTHERS))
    database.execute(OTHERS[0].format(accounts[1]))
    before = grants(database)
    # One table less, and one that becomes direct.
    second = [table("a", delivery="direct", function="f"), table("c", delivery="direct", function="f")]
    foretold = lines_of_diffs(run(second, "--check")[1])
    assert grants(database) == before
    assert lines_of_diffs(run(second)[1]) == foretold
    lost = set(before) - set(grants(database))
    assert lost == {
        "GRANT SELECT ON `shop`.`b`",
        "GRANT SELECT, TRIGGER ON `shop`.`b`",
        "GRANT INSERT ON `gearsync`.`outbox`",
    }
    # What workers may have had to read of a, until its triggers were replaced.
    assert run(second)[0] == 1
    assert "GRANT SELECT ON `shop`.`a`" not in grants(database)
    assert run(second)[0] == 0
