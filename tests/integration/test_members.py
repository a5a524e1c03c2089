# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and its replica as hosts of one source: the roles ask which is which, and change the primary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.playbook import LOCAL, run_plays
from harness.replication import Member, Pair

TABLE = {"table": "shop.item", "columns": ["id"], "write": [{"type": "hash", "key": "item:{id}"}]}
PLAY = [
    {
        "hosts": "gearsync_mysql",
        "gather_facts": False,
        "tasks": [
            {
                "ansible.builtin.include_role": {
                    "name": "gearsync.mysql_redis.sync_triggers",
                    "tasks_from": "preflight",
                }
            },
            {"ansible.builtin.include_role": {"name": "gearsync.mysql_redis.sync_triggers"}},
        ],
    }
]


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as two:
        two.primary.execute(
            "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY) ENGINE=InnoDB"
        )
        two.replica.execute("SET GLOBAL read_only = ON")
        two.require_equal()
        yield two


def play(directory: Path, members: dict[str, Member], **variables: Any) -> tuple[int, str]:
    """Exit status and output of the role on these members of one source."""
    hosts = {
        name: {"gearsync_mysql_login_unix_socket": member.socket, **variables}
        for name, member in members.items()
    }
    inventory = {"all": {"vars": {**LOCAL, "gearsync_tables": [TABLE]}}, "gearsync_mysql": {"hosts": hosts}}
    done = run_plays(directory, inventory, PLAY)
    return done.status, done.text


def triggers(member: Member) -> list[str]:
    rows = member.execute(
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = 'shop' ORDER BY 1"
    )
    return [name for (name,) in rows]


@pytest.mark.long
def test_triggers_and_accounts_are_made_on_the_primary_and_replicate(tmp_path: Path, pair: Pair) -> None:
    # The order of the inventory says nothing.
    members = {"db1": pair.replica, "db2": pair.primary}
    status, output = play(tmp_path, members)
    assert status == 0, output
    pair.require_equal()
    assert len(triggers(pair.replica)) == 3
    assert triggers(pair.replica) == triggers(pair.primary)
    # A second run changes nothing, and no transaction is the replica's own.
    before = pair.primary.gtids
    status, output = play(tmp_path, members)
    assert status == 0, output
    assert pair.primary.gtids == before
    pair.require_equal()


@pytest.mark.long
def test_after_a_switch_the_other_member_is_the_primary(tmp_path: Path, pair: Pair) -> None:
    members = {"db1": pair.primary, "db2": pair.replica}
    pair.primary.execute("SET GLOBAL read_only = ON")
    pair.replica.forget_source()
    pair.replica.execute("SET GLOBAL read_only = OFF")
    pair.primary.follow(pair.replica)
    status, output = play(tmp_path, members)
    assert status == 0, output
    pair.primary.wait_for(pair.replica)
    assert len(triggers(pair.primary)) == 3


def test_two_writable_members_are_refused_before_anything_is_changed(tmp_path: Path, pair: Pair) -> None:
    pair.replica.execute("SET GLOBAL read_only = OFF")
    status, output = play(tmp_path, {"db1": pair.primary, "db2": pair.replica})
    assert status == 2
    assert "db1 and db2 take writes, and one member only may" in output
    assert triggers(pair.primary) == []


def test_a_replica_that_is_not_in_the_inventory_is_named(tmp_path: Path, pair: Pair) -> None:
    status, output = play(tmp_path, {"db1": pair.primary})
    assert status == 2
    assert "(server_id 2) replicates from db1" in output
    assert "gearsync_mysql_unlisted_replicas: accept" in output
    assert triggers(pair.primary) == []
    status, output = play(tmp_path, {"db1": pair.primary}, gearsync_mysql_unlisted_replicas="accept")
    assert status == 0, output
    assert len(triggers(pair.primary)) == 3
