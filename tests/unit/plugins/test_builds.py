# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host compiles."""

from __future__ import annotations

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.filter.builds import build_host

DEBIAN = {"distribution": "Debian", "distribution_major_version": "12", "architecture": "x86_64"}
GROUPS = {
    "gearsync_mysql": ["db1", "db2"],
    "gearsync_gearmand": ["db1", "jobs"],
    "gearsync_workers": ["worker"],
}


def hosts(**changed):
    """Four hosts of one platform in one run, but for what is ``changed`` of one of them."""
    facts = {
        name: {"ansible_facts": DEBIAN, "__gearsync_in_run": True}
        for name in ("db1", "db2", "jobs", "worker")
    }
    return {name: {**variables, **changed.get(name, {})} for name, variables in facts.items()}


def test_another_host_compiles_for_a_database_server():
    assert build_host("db2", hosts(), GROUPS) == "jobs"


def test_a_host_without_a_database_server_compiles_for_itself():
    assert build_host("worker", hosts(), GROUPS) == "worker"


@pytest.mark.parametrize("fact", sorted(DEBIAN))
def test_a_host_of_another_platform_does_not_compile(fact):
    other = {"ansible_facts": {**DEBIAN, fact: "another"}}
    assert build_host("db1", hosts(jobs=other), GROUPS) == "worker"


def test_a_host_that_is_not_in_the_run_does_not_compile():
    left_out = {"__gearsync_in_run": False}
    assert build_host("db1", hosts(jobs=left_out, worker={"__gearsync_in_run": None}), GROUPS) == "db1"


def test_a_host_whose_facts_are_not_known_does_not_compile():
    assert build_host("db1", hosts(jobs={"ansible_facts": {}}), GROUPS) == "worker"


def test_database_servers_alone_compile_for_themselves():
    assert (
        build_host("db1", hosts(), {"gearsync_mysql": ["db1", "db2"], "gearsync_workers": ["db2"]}) == "db1"
    )
