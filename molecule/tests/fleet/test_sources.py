# SPDX-License-Identifier: GPL-3.0-or-later
"""Several sources in one inventory, served by the same hosts: each by itself, whatever is done to another."""

from __future__ import annotations

import json
import pathlib

import pytest
from harness.fleet import (
    CACHE,
    LEGACY,
    MAIN,
    SOURCES,
    USERS,
    WORKERS,
    name_in_redis,
    names_in_redis,
    write,
    writing,
)
from harness.hosts import Host, Playbooks, recap
from harness.waiting import until


def state(host: Host) -> list[str]:
    """What a run could change on a database server: accounts and their rights, triggers, libraries, files."""
    return [
        host.sql("SELECT user, host, authentication_string FROM mysql.user ORDER BY 1, 2;"),
        host.sql("SELECT * FROM information_schema.table_privileges ORDER BY 1, 2, 3, 4, 5;"),
        host.sql(
            "SELECT trigger_schema, trigger_name, created FROM information_schema.triggers ORDER BY 1, 2;"
        ),
        host.run("ls -lR --time-style=full-iso /etc/mysql /usr/lib/mysql/plugin"),
    ]


def test_a_change_of_each_source_arrives_in_its_own_redis_database() -> None:
    for number, source in enumerate(SOURCES):
        write(source, 70, f"of source {number}")
    for number, source in enumerate(SOURCES):
        until(lambda source=source: name_in_redis(source, 70), f"of source {number}")


def test_a_database_without_ssh_has_triggers_that_call_no_function() -> None:
    triggers = LEGACY.sql("SELECT action_statement FROM information_schema.triggers;")
    assert "gearsync" in triggers
    assert "gman_" not in triggers
    assert LEGACY.sql("SELECT name FROM mysql.func;") == ""


def test_one_source_goes_on_while_the_worker_of_the_other_is_stopped() -> None:
    for host in WORKERS:
        host.run("systemctl stop gearsync-worker@main")
    try:
        write(MAIN, 71, "waits")
        write(USERS, 71, "goes on")
        until(lambda: name_in_redis(USERS, 71), "goes on")
        assert name_in_redis(MAIN, 71) == ""
    finally:
        for host in WORKERS:
            host.run("systemctl start gearsync-worker@main")
    until(lambda: name_in_redis(MAIN, 71), "waits")


def test_the_command_line_reports_all_sources() -> None:
    output = WORKERS[0].run("/opt/gearsync/venv/bin/gearsync verify --json")
    sources = json.loads(output)["sources"]
    assert {name: [table["table"] for table in each["tables"]] for name, each in sources.items()} == {
        "main": ["shop.customer", "shop.item"],
        "users": ["shop.customer"],
        "legacy": ["shop.customer"],
    }


def test_the_playbook_verify_compares_all_sources(playbooks: Playbooks) -> None:
    CACHE.redis("-n", "1", "hset", "customer:70", "name", "somebody else's")
    status, output = playbooks.run("playbooks/verify.yml")
    assert status != 0
    assert "Source main: compared by fleet-worker1" in " ".join(output.split())
    status, output = playbooks.run("playbooks/verify.yml", "-e", "gearsync_verify_repair=true")
    assert status == 0, output
    for source in ("main", "users", "legacy"):
        assert f"Source {source}: compared by fleet-worker1" in " ".join(output.split())
    assert name_in_redis(USERS, 70) == "of source 1"


def test_a_run_for_one_source_changes_nothing_of_the_other(playbooks: Playbooks) -> None:
    before = state(MAIN)
    # Another password: with two runs of each other's, one side was locked out after each.
    status, output = playbooks.run("site.yml", "--limit", "users")
    assert status == 0, output
    assert set(recap(output)) <= {"localhost", USERS.name, "fleet-users2"}
    assert state(MAIN) == before


def test_a_rolling_update_stops_at_the_first_host_that_does_not_pass(playbooks: Playbooks) -> None:
    second = WORKERS[1].run("systemctl show --property MainPID --value gearsync-worker@main")
    # From the first host Redis cannot be reached any more.
    WORKERS[0].run("cp /etc/hosts /tmp/hosts && echo '127.0.0.1 fleet-cache' >>/etc/hosts")
    try:
        status, output = playbooks.run(
            "playbooks/rolling_update.yml", "--limit", "main,gearsync_workers", "-e", '{"worker_batch": 901}'
        )
    finally:
        WORKERS[0].run("cat /tmp/hosts >/etc/hosts")
    text = " ".join(output.split())
    assert status != 0
    assert "The update stopped at fleet-worker1" in text
    assert "-e gearsync_rollback=true" in text
    assert WORKERS[1].run("systemctl show --property MainPID --value gearsync-worker@main") == second


def test_the_next_rolling_update_goes_on_and_loses_nothing_under_load(playbooks: Playbooks) -> None:
    began = {
        host: host.run("systemctl show --property MainPID --value gearsync-worker@main") for host in WORKERS
    }
    with writing(MAIN, 72) as main, writing(USERS, 72) as users:
        # One by one the five databases would take two minutes more.
        update = {"worker_batch": 900, "gearsync_update_serial": [1, 2]}
        status, output = playbooks.run("playbooks/rolling_update.yml", "-e", json.dumps(update))
    assert status == 0, output
    for host in WORKERS:
        now = host.run("systemctl show --property MainPID --value gearsync-worker@main")
        assert now not in ("0", began[host])
        assert "batch: 900" in host.run("cat /etc/gearsync/main.yml")
    until(lambda: name_in_redis(MAIN, 72), main[-1])
    until(lambda: name_in_redis(USERS, 72), users[-1])


def test_a_worker_host_that_is_away_does_not_keep_the_others_from_their_work(
    playbooks: Playbooks, tmp_path: pathlib.Path
) -> None:
    away = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
    (tmp_path / "more.yml").write_text(json.dumps({"gearsync_workers": {"hosts": {"fleet-worker3": away}}}))
    # After the rolling updates: the others get the inventory's settings again.
    status, output = Playbooks([*playbooks.inventories, str(tmp_path / "more.yml")]).run(
        "site.yml", "--limit", "main,gearsync_workers"
    )
    assert status == 4, output
    found = recap(output)
    assert found["fleet-worker3"]["unreachable"] == 1
    assert all(counters["failed"] == 0 for counters in found.values()), output
    assert all(found[host.name]["changed"] > 0 for host in WORKERS)


@pytest.mark.parametrize("source", SOURCES, ids=lambda host: host.name)
def test_both_sides_of_each_source_are_equal_after_all_of_that(source: Host) -> None:
    """By a comparison of its own: each row's name, on both sides, and no other row."""
    rows = source.sql("SELECT id, name FROM customer;", database="shop").splitlines()
    in_table = {int(row): name for row, name in (line.split("\t") for line in rows)}
    until(lambda: names_in_redis(source), in_table)
