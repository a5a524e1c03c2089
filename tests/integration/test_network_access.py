# SPDX-License-Identifier: GPL-3.0-or-later
"""A database that has a network address and no SSH: its modules run on a worker host of its source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness.managed import LOCAL, NO_SSH, SECRET, TABLE, managed, managed_server, play, recap, role, run
from harness.outbox_database import OutboxDatabase
from harness.places import ROOT
from harness.ports import free_port

REACH = {"import_playbook": str(ROOT / "playbooks/reach.yml")}
#: In the order of playbooks/site.yml.
DEPLOY = [
    REACH,
    play("gearsync_mysql", role("sync_triggers", "preflight"), role("sync_triggers", "retire")),
    play("gearsync_mysql", {"ansible.builtin.set_fact": {"__gearsync_prepared": True}}),
    {
        **play("gearsync_workers", role("worker", "each_source", vars={"__worker_tasks": "mysql_account"})),
        "vars": {"__gearsync_gate": True},
    },
    play("gearsync_mysql", role("sync_triggers", "main")),
]
TEARDOWN = [
    play("gearsync_mysql", role("sync_triggers", "teardown")),
    play("gearsync_mysql", role("sync_triggers", "teardown_schema")),
]


@pytest.fixture
def server() -> Iterator[OutboxDatabase]:
    with managed_server() as database:
        yield database


def bodies(database: Any) -> list[str]:
    rows = database.execute(
        "SELECT ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = 'shop'"
    )
    return [body for (body,) in rows]


# The scenario fleet has such a source, deploys it twice and takes it away.
@pytest.mark.long
def test_the_modules_run_on_a_worker_host_and_the_triggers_call_no_function(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    status, output = run(tmp_path, DEPLOY, {"db": managed(server)}, "--check", "--diff")
    assert status == 0, output
    assert recap(output)["db"][0] > 0
    assert bodies(server) == []
    # Of two worker hosts the one that is there is taken.
    status, output = run(
        tmp_path, DEPLOY, {"db": managed(server)}, workers={"w0": {**LOCAL, **NO_SSH}, "w1": LOCAL}
    )
    assert status == 4, output
    assert recap(output)["db"][1] == 0
    assert len(bodies(server)) == 3
    assert not any("gman_" in body for body in bodies(server))
    server.execute("INSERT INTO shop.item VALUES (1)")
    assert server.execute("SELECT COUNT(*) FROM gearsync.outbox") == [(1,)]
    with server.connect(user="gearsync", password=SECRET) as worker, worker.cursor() as cursor:
        cursor.execute("DELETE FROM gearsync.outbox")
    status, output = run(tmp_path, DEPLOY, {"db": managed(server)})
    assert (status, recap(output)) == (0, {"db": (0, 0), "w1": (0, 0)}), output
    status, output = run(tmp_path, TEARDOWN, {"db": managed(server)})
    assert status == 0, output
    schemas = [name for (name,) in server.execute("SHOW DATABASES")]
    assert "shop" in schemas
    assert "gearsync" not in schemas


def test_a_database_that_cannot_be_reached_is_a_failed_host_of_its_source_alone(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    databases = {
        "db": managed(server),
        "away": managed(server, gearsync_source="other", gearsync_mysql_login_port=free_port()),
    }
    status, output = run(tmp_path, DEPLOY, databases)
    assert status == 2, output
    assert {host: failed for host, (_changed, failed) in recap(output).items()} == {
        "db": 0,
        "away": 1,
        "w1": 0,
    }
    assert "of away cannot be reached from w1" in " ".join(output.split())
    assert len(bodies(server)) == 3


@pytest.mark.long
def test_triggers_run_as_the_login_where_it_may_name_no_other(tmp_path: Path, server: OutboxDatabase) -> None:
    databases = {"db": managed(server, sync_triggers_definer_user="")}
    for changed in (True, False):
        status, output = run(tmp_path, DEPLOY, databases)
        assert status == 0, output
        assert (recap(output)["db"][0] > 0) == changed
    rows = server.execute(
        "SELECT DISTINCT DEFINER FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = 'shop'"
    )
    assert rows == [("admin@127.0.0.1",)]
    status, output = run(tmp_path, TEARDOWN, databases)
    assert status == 0, output
    assert server.execute("SELECT User FROM mysql.user WHERE User IN ('admin', 'gearsync_definer')") == [
        ("admin",)
    ]


@pytest.mark.parametrize(
    ("variables", "workers", "message"),
    [
        ({"gearsync_mysql_login_host": ""}, None, "cannot log in without gearsync_mysql_login_host"),
        ({"gearsync_mysql_login_user": ""}, None, "cannot log in without gearsync_mysql_login_user"),
        ({"gearsync_mysql_login_password": ""}, None, "cannot log in without gearsync_mysql_login_password"),
        (
            {"gearsync_tables": [{**TABLE, "delivery": "direct"}]},
            None,
            "db has gearsync_mysql_access: network, and the table shop.item has direct delivery",
        ),
        ({}, {}, "no host of gearsync_workers serves its source legacy"),
        (
            {},
            {"w1": {**LOCAL, "gearsync_worker_sources": ["x"]}},
            "no host of gearsync_workers serves its source",
        ),
        ({}, {"db": {}, "w1": LOCAL}, "it is in gearsync_workers too"),
    ],
)
def test_what_such_a_database_cannot_do_is_refused_before_a_host_is_touched(
    tmp_path: Path, variables: Any, workers: Any, message: str
) -> None:
    plays = [play("gearsync_mysql", role("sync_triggers", "check"))]
    # Nothing listens on port 1.
    database = managed(SimpleNamespace(port=1), **variables)
    status, output = run(tmp_path, plays, {"db": database}, workers=workers)
    assert status == 2, output
    said = " ".join(output.split())
    assert message in said
    assert "Nothing was changed." in said
