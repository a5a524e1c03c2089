# SPDX-License-Identifier: GPL-3.0-or-later
"""The primary of a source changes while applications write to it. These tests come last: at the end the
former primary is down.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
import yaml
from harness.deployed_member import DeployedMember
from harness.failover import Application, Stream, differences
from harness.fleet import cache_client
from harness.hosts import SECRET, Host, Playbooks, recap
from harness.places import ROOT
from harness.waiting import until

WORKER = Host("fleet-worker1")
WRITERS = 8


class Main:
    """The source `main`; its primary is what its application writes to."""

    def __init__(self, members: list[DeployedMember]) -> None:
        self.primary, self.replica = sorted(members, key=lambda member: not member.is_writable)
        variables = yaml.safe_load((ROOT / "molecule/fleet/inventory/group_vars/main.yml").read_text())
        self._login = variables["replica_password"], variables["replicate_tls"]

    def switch(self) -> None:
        """As an orchestrator does it."""
        self.primary.set_writable(False)
        until(lambda: self.replica.gtids, self.primary.gtids)
        self.replica.promote()
        self.primary, self.replica = self.replica, self.primary
        self.replica.follow(self.primary, *self._login)

    def kill_primary(self) -> None:
        """The primary is gone for good, and its replica takes its place."""
        unit = self.primary.mysql_unit
        self.primary.run(f"systemctl mask --runtime {unit}; systemctl kill --signal=KILL {unit}")
        self.replica.promote()
        self.primary, self.replica = self.replica, self.primary


@pytest.fixture(scope="module")
def main(members: dict[str, list[DeployedMember]]) -> Main:
    pair = Main(members["main"])
    pair.primary.admit_application()
    return pair


@pytest.fixture(scope="module")
def application(main: Main) -> Application:
    return Application(main, WRITERS)


@pytest.fixture(scope="module")
def cache() -> Iterator[redis.Redis]:
    with cache_client() as client:
        yield client


@contextmanager
def nothing_lost(main: Main, application: Application, cache: redis.Redis) -> Iterator[None]:
    """What was acknowledged meanwhile is in the database, and Redis has all that the database has, each entry
    once.
    """
    with application:
        application.go_on()
        yield
        application.go_on()
    committed = set(main.primary.execute("SELECT id, version FROM shop.history"))
    assert application.acknowledged <= committed
    until(lambda: differences(main.primary, cache), {}, seconds=60)
    stream = Stream(main.primary, cache)
    assert (stream.missing, stream.lost, stream.repeated) == (set(), set(), set())


def test_a_planned_switch_under_writers_is_followed_and_loses_nothing(
    main: Main, application: Application, cache: redis.Redis
) -> None:
    for _there_and_back in range(2):
        with nothing_lost(main, application, cache):
            main.switch()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The built archive, installed: the directory of collections."""
    there = tmp_path_factory.mktemp("archive")
    subprocess.run([sys.executable, ROOT / "tests/build", there], check=True, capture_output=True)
    # By force: the checkout counts as an installed one.
    into = ["--force", "--no-deps", "--offline", "--collections-path", there]
    subprocess.run(
        ["ansible-galaxy", "collection", "install", *into, *there.glob("*.tar.gz")],
        check=True,
        capture_output=True,
    )
    return there


@pytest.mark.long
def test_a_run_of_the_installed_archive_finds_the_new_primary_changes_nothing_and_prints_no_secret(
    main: Main, playbooks: Playbooks, installed: pathlib.Path
) -> None:
    """Its sources are compared with those that were deployed from the checkout, file by file. A host of each
    role is enough for that.
    """
    main.switch()
    status, output = playbooks.run(
        "gearsync.mysql_redis.site",
        "-vvv",
        "--limit",
        "main,fleet-jobs,fleet-cache,fleet-worker1",
        env={"ANSIBLE_COLLECTIONS_PATH": str(installed)},
    )
    assert status == 0, output
    assert f"{installed}/ansible_collections/gearsync/mysql_redis/roles/worker" in output
    assert SECRET not in output
    assert "never-print-" not in output
    assert all(counters["changed"] == 0 for counters in recap(output).values()), output[-2000:]


def test_a_primary_that_is_killed_under_writers_loses_nothing_that_it_has_acknowledged(
    main: Main, application: Application, cache: redis.Redis
) -> None:
    with nothing_lost(main, application, cache):
        main.kill_primary()
    status = json.loads(WORKER.run("/opt/gearsync/venv/bin/gearsync status --source main --json"))
    assert status["mysql"]["members"]


@pytest.mark.long
def test_a_source_with_a_dead_member_is_left_as_it_is(main: Main, playbooks: Playbooks) -> None:
    status, output = playbooks.run("site.yml", "--limit", "main,users")
    assert status != 0
    counters = recap(output)
    assert all(counters[name]["changed"] == 0 for name in counters), output
    assert counters[main.replica.name]["failed"] > 0
    assert counters["fleet-users1"]["failed"] == 0
