# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of site.yml does with servers and data that were there before, and with a run that fails."""

from __future__ import annotations

import json
import pathlib

import pytest
from harness.hosts import ENTER, Host, Playbooks, recap
from harness.waiting import until

DB, CACHE, WORKER = Host("fleet-db"), Host("fleet-cache"), Host("fleet-worker1")
SETTINGS = "/etc/redis/gearsync.conf"


def refused(playbooks: Playbooks, *options: str) -> str:
    status, output = playbooks.run("site.yml", *options)
    assert status != 0, output
    assert all(counters["changed"] == 0 for counters in recap(output).values()), output
    return output


def converged(playbooks: Playbooks, *options: str) -> dict[str, dict[str, int]]:
    status, output = playbooks.run("site.yml", *options)
    assert status == 0, output
    return recap(output)


@pytest.mark.long
def test_a_redis_that_was_there_before_is_refused_or_adopted_as_it_is(playbooks: Playbooks) -> None:
    CACHE.redis("set", "somebody's", "value")
    process = CACHE.run("systemctl show --property MainPID --value redis-server")
    # Without the role's settings it is somebody's.
    CACHE.run(f"mv {SETTINGS} {SETTINGS}.away")
    try:
        output = refused(playbooks, "--tags", "redis", "--limit", CACHE.name)
        assert "was not set up by this role" in output
        assert "redis_manage_server: false" in output
        adopted = converged(
            playbooks, "--tags", "redis", "--limit", CACHE.name, "--extra-vars", "redis_manage_server=false"
        )
        assert adopted[CACHE.name]["changed"] == 0
    finally:
        CACHE.run(f"mv {SETTINGS}.away {SETTINGS}")
    assert CACHE.run("systemctl show --property MainPID --value redis-server") == process


@pytest.mark.long
def test_changed_settings_lose_no_key_of_a_redis_without_persistence(playbooks: Playbooks) -> None:
    limits = ("--tags", "redis", "--limit", CACHE.name)
    without = json.dumps({"redis_settings": {"save": '""'}})
    assert converged(playbooks, *limits, "--extra-vars", without)[CACHE.name]["changed"] > 0
    CACHE.redis("set", "written", "without persistence")
    # To append-only, which a server must not be started with before it was switched on; and back.
    for settings in ({"save": '""', "appendonly": True}, {}):
        assert (
            converged(playbooks, *limits, "--extra-vars", json.dumps({"redis_settings": settings}))[
                CACHE.name
            ]["changed"]
            > 0
        )
        assert CACHE.redis("get", "written") == "without persistence"


@pytest.mark.long
def test_a_database_server_that_was_there_before_is_adopted_as_it_is(playbooks: Playbooks) -> None:
    adopted = converged(
        playbooks, "--tags", "mysql", "--limit", "main", "--extra-vars", "mysql_manage_server=false"
    )
    assert adopted[DB.name]["changed"] == 0


def test_no_server_is_installed_over_the_data_of_another_one(tmp_path: pathlib.Path) -> None:
    groups = {
        f"gearsync_{group}": {"hosts": {WORKER.name: None}}
        for group in ("mysql", "gearmand", "redis", "workers")
    }
    inventory = {
        **groups,
        "all": {"vars": {"ansible_connection": "test_host", "ansible_test_host_enter": str(ENTER)}},
    }
    (tmp_path / "hosts.yml").write_text(json.dumps(inventory))
    WORKER.run("mkdir /var/lib/mysql && touch /var/lib/mysql/ibdata1")
    try:
        output = refused(Playbooks([str(tmp_path / "hosts.yml")]), "--tags", "mysql")
    finally:
        WORKER.run("rm -r /var/lib/mysql")
    assert "/var/lib/mysql has the data of one" in output
    assert "mysql_take_over_data" in output


def test_an_installation_that_would_remove_the_database_server_is_refused(playbooks: Playbooks) -> None:
    # The case exists with MySQL on Debian sid only.
    status, output = playbooks.run("molecule/playbooks/dangerous_package.yml", "--limit", "fleet-users1")
    assert status != 0, output
    assert "mysql-server" in output
    assert all(counters["changed"] == 0 for counters in recap(output).values()), output


@pytest.mark.parametrize("name", ["fleet-db", "fleet-replica", "fleet-users2"])
def test_a_database_server_for_which_another_host_compiles_had_no_compiler(name: str) -> None:
    # The hosts of MariaDB have the job server's platform, those of MySQL are the only ones of theirs.
    came = Host(name).run(
        "grep -E ' install (gcc|g[+][+]|make|libmariadb-dev|libmysqlclient-dev):' /var/log/dpkg.log || true"
    )
    assert came == ""
    assert Host(name).sql("SELECT gman_version() LIKE '%.%';", database="mysql") == "1"


@pytest.mark.long
def test_an_installation_that_fails_leaves_the_worker_whole(playbooks: Playbooks) -> None:
    installed = WORKER.run("readlink /opt/gearsync/venv; ls /opt/gearsync/versions")
    WORKER.run(
        "cp /opt/gearsync/venv/installed-from /tmp/stamp && echo other >/opt/gearsync/venv/installed-from"
    )
    status, output = playbooks.run(
        "site.yml",
        "--tags",
        "worker_install",
        "--limit",
        WORKER.name,
        "--extra-vars",
        "gearsync_build_cache=/proc/no-place",
    )
    assert status != 0
    assert "is as it was" in output
    assert WORKER.run("readlink /opt/gearsync/venv; ls /opt/gearsync/versions") == installed
    WORKER.run("systemctl restart gearsync-worker@main")
    until(lambda: WORKER.is_active("gearsync-worker@main"))
    # Another version beside it, and the way back.
    first = installed.splitlines()[0]
    assert (
        converged(playbooks, "--tags", "worker_install", "--limit", WORKER.name)[WORKER.name]["changed"] > 0
    )
    assert WORKER.run("readlink /opt/gearsync/venv.former") == first
    assert WORKER.run("readlink /opt/gearsync/venv") != first
    assert WORKER.run("cat /opt/gearsync/venv/installed-from") == WORKER.run("cat /tmp/stamp")
    assert WORKER.is_active("gearsync-worker@main")


@pytest.mark.long
def test_smoke_says_at_once_that_no_worker_is_there(playbooks: Playbooks) -> None:
    workers = (WORKER, Host("fleet-worker2"))
    for host in workers:
        host.run("systemctl stop gearsync-worker@main")
    try:
        status, output = playbooks.run(
            "playbooks/smoke.yml", "--start-at-task", "Send the rows and read them back"
        )
    finally:
        for host in workers:
            host.run("systemctl start gearsync-worker@main")
    assert status != 0
    assert "no worker offers syncToRedis" in output
    assert "test.user_list" in output
