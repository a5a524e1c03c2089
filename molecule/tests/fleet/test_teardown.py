# SPDX-License-Identifier: GPL-3.0-or-later
"""One source is taken away. These tests come last of all."""

from __future__ import annotations

import pytest
from harness.fleet import LEGACY, USERS, WORKERS, name_in_redis, write
from harness.hosts import Host, Playbooks, recap
from harness.waiting import until

MEMBERS = [USERS, Host("fleet-users2")]
TEARDOWN = ("playbooks/teardown.yml", "--limit", "users,gearsync_workers", "-e", "gearsync_confirm=yes")


@pytest.fixture(scope="module")
def torn_down(playbooks: Playbooks) -> None:
    status, output = playbooks.run(*TEARDOWN)
    assert status == 0, output
    assert all(recap(output)[host.name]["changed"] > 0 for host in (*MEMBERS, *WORKERS)), output


@pytest.mark.parametrize("member", MEMBERS, ids=lambda host: host.name)
def test_nothing_of_the_source_is_left_on_its_servers(torn_down: None, member: Host) -> None:
    left = {
        "triggers": "SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = 'shop';",
        "functions": "SELECT name FROM mysql.func;",
        "accounts": "SELECT user FROM mysql.user WHERE user LIKE 'gearsync%';",
        "schema": "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'gearsync';",
    }
    assert {what: member.sql(query) for what, query in left.items()} == dict.fromkeys(left, "")
    assert member.run("find /etc/mysql /usr/lib/mysql -name '*gearsync*' -o -name '*mysqludf*'") == ""
    assert not member.is_active("gearmand")


def test_writes_go_on_and_are_replicated(torn_down: None) -> None:
    write(USERS, 90, "without the pipeline")
    names = "SELECT name FROM customer WHERE id = 90;"
    until(lambda: MEMBERS[1].sql(names, database="shop"), "without the pipeline")


def test_the_other_sources_go_on(torn_down: None) -> None:
    write(LEGACY, 90, "goes on")
    until(lambda: name_in_redis(LEGACY, 90), "goes on")
    for host in WORKERS:
        assert not host.is_active("gearsync-worker@users")
        assert host.is_active("gearsync-worker@main")
        assert host.is_active("gearsync-worker@legacy")


def test_a_second_teardown_changes_nothing(torn_down: None, playbooks: Playbooks) -> None:
    status, output = playbooks.run(*TEARDOWN)
    assert status == 0, output
    assert all(counters["changed"] == 0 for counters in recap(output).values()), output
