# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks with `--limit`: they work for the sources that it has, and do not end with success when nothing
was done. In check mode: the worker hosts are this machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import managed as playbooks
from harness.managed import LOCAL, managed_server, source
from harness.outbox_database import OutboxDatabase
from harness.places import ROOT


@pytest.fixture(scope="module")
def server() -> Iterator[OutboxDatabase]:
    with managed_server() as database:
        yield database


def sources(database: OutboxDatabase, *names: str) -> dict[str, Any]:
    """The variables of a host for each source."""
    return {name: source(database, name, number) for number, name in enumerate(names)}


def run(
    directory: Path, name: str, databases: dict[str, Any], limit: str, **hosts: Any
) -> tuple[int, str, set[tuple[str, str]]]:
    """The exit status, the output with its white space folded, and the sources that were worked on, each with
    the worker host.
    """
    options = ("--check", "--extra-vars", "gearsync_confirm=yes", "--limit", limit)
    plays = [{"import_playbook": str(ROOT / f"playbooks/{name}.yml")}]
    status, output = playbooks.run(directory, plays, databases, *options, **hosts)
    worked = set(re.findall(r"one_source.yml for (\w+) => \(item=(\w+)\)", output))
    return status, " ".join(output.split()), worked


def test_a_teardown_of_one_source_leaves_the_workers_of_the_others(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    databases = sources(server, "other", "good")
    status, said, worked = run(tmp_path, "teardown", databases, "good,w1,s1", shared={"s1": LOCAL})
    assert worked == {("w1", "good")}, said
    assert status == 2, said
    assert "s1 stays as it is: the source other, of which" in said, said


def test_a_teardown_without_a_source_leaves_what_sources_share(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    status, said, _worked = run(tmp_path, "teardown", sources(server, "good"), "s1", shared={"s1": LOCAL})
    assert status == 2, said
    assert "s1 stays as it is: the source good, of which" in said, said


def test_a_teardown_without_a_source_leaves_the_last_worker_of_one(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    databases = sources(server, "good", "other")
    workers = {"w1": LOCAL, "w2": {**LOCAL, "gearsync_worker_sources": ["other"]}}
    status, said, worked = run(tmp_path, "teardown", databases, "w1", workers=workers)
    assert (status, worked) == (2, set()), said
    assert "w1 stays as it is: the source good is outside of --limit" in said, said
    status, said, worked = run(tmp_path, "teardown", databases, "w2", workers=workers)
    assert (status, worked) == (0, {("w2", "other")}), said
    status, said, worked = run(tmp_path, "teardown", databases, "w1,w2", workers=workers)
    assert (status, worked) == (2, set()), said


def test_a_teardown_takes_away_a_job_server_that_is_left_alone_in_the_inventory(tmp_path: Path) -> None:
    status, said, _worked = run(tmp_path, "teardown", {}, "s1", shared={"s1": LOCAL}, workers={})
    assert status == 0, said
    assert "Stop and remove gearmand" in said, said


@pytest.mark.parametrize("name", ["verify", "resync"])
def test_work_of_workers_is_refused_without_one(tmp_path: Path, server: OutboxDatabase, name: str) -> None:
    databases = sources(server, "good", "other")
    workers = {"w1": LOCAL, "w2": {**LOCAL, "gearsync_worker_sources": ["other"]}}
    for limit in ("good", "good,w2"):
        status, said, worked = run(tmp_path, name, databases, limit, workers=workers)
        assert (status, worked) == (2, set()), said
        assert "No host of gearsync_workers that serves the source good is within --limit" in said, said
        assert "--limit good,w1" in said, said


@pytest.mark.parametrize("name", ["verify", "resync"])
def test_work_of_workers_is_done_for_the_sources_that_it_has(
    tmp_path: Path, server: OutboxDatabase, name: str
) -> None:
    databases = sources(server, "good", "other")
    _status, said, worked = run(tmp_path, name, databases, "good,w1")
    assert worked == {("w1", "good")}, said
    _status, said, worked = run(tmp_path, name, databases, "w1")
    assert worked == {("w1", "good"), ("w1", "other")}, said
