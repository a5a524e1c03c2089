# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that would take all tables out of the sync, by the role's own tasks on a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness.playbook import LOCAL, run_plays

TABLE = {"table": "shop.item", "columns": ["id"], "write": [{"type": "hash", "key": "item:{id}"}]}
OTHER = {"table": "shop.other", "columns": ["id"], "write": [{"type": "hash", "key": "other:{id}"}]}
SWITCH = "-e gearsync_allow_prune_all=true"


@pytest.fixture
def synced(database: Any, schema: str, gearman: Any) -> Any:
    """A server on which shop.item has its triggers."""
    for name in ("item", "other"):
        database.execute(f"CREATE TABLE shop.{name} (id INT PRIMARY KEY) ENGINE=InnoDB")
    database.modules.run("sync_table", **TABLE)
    return database


def triggers(database: Any) -> int:
    rows = database.execute(
        "SELECT COUNT(*) FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = 'shop'"
    )
    return int(rows[0][0])


def play(
    directory: Path, database: Any, tasks: str, variables: dict[str, Any], *arguments: str
) -> tuple[int, str]:
    inventory = {
        "gearsync_mysql": {
            "hosts": {
                "db1": {
                    **LOCAL,
                    "gearsync_mysql_login_unix_socket": database.socket,
                    **variables,
                }
            }
        }
    }
    role = {"name": "gearsync.mysql_redis.sync_triggers", "tasks_from": tasks}
    task = {"ansible.builtin.include_role": role}
    done = run_plays(
        directory, inventory, [{"hosts": "db1", "gather_facts": False, "tasks": [task]}], *arguments
    )
    return done.status, done.text


UNSET = "gearsync_tables (sync_triggers_tables) is not set for db1, source main"
FOREIGN = "declares `shop`.`other` and none of the tables that are synced"


@pytest.mark.parametrize(
    ("tasks", "variables", "message"),
    [
        ("preflight", {}, UNSET),
        ("preflight", {"gearsync_tables": []}, "declares no table for db1"),
        ("preflight", {"gearsync_tables": [OTHER]}, FOREIGN),
        ("retire", {}, UNSET),
        ("main", {"gearsync_tables": [OTHER]}, FOREIGN),
    ],
)
def test_a_run_that_would_take_all_tables_out_of_the_sync_changes_nothing(
    synced: Any, tmp_path: Path, tasks: str, variables: dict[str, Any], message: str
) -> None:
    status, output = play(tmp_path, synced, tasks, variables)
    assert status == 2
    assert message in output
    assert "those of `shop`.`item`. Declare the tables. If all of them are to leave the sync" in output
    assert SWITCH in output
    # The triggers of shop.other may have been made: what is synced is not touched.
    synced.execute("INSERT INTO shop.item VALUES (1)")
    assert [row[0] for row in synced.execute("SELECT table_name FROM gearsync.outbox")] == ["shop.item"]
    synced.execute("DELETE FROM gearsync.outbox")


def test_with_permission_all_triggers_are_removed(synced: Any, tmp_path: Path) -> None:
    arguments = ("-e", "gearsync_allow_prune_all=true")
    status, output = play(tmp_path, synced, "retire", {"gearsync_tables": []}, *arguments)
    assert status == 0, output
    assert triggers(synced) == 0


def test_a_table_beside_others_is_taken_out_without_a_question(synced: Any, tmp_path: Path) -> None:
    synced.modules.run("sync_table", **OTHER)
    status, output = play(tmp_path, synced, "retire", {"gearsync_tables": [OTHER]})
    assert status == 0, output
    assert triggers(synced) == 3
