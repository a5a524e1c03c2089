# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.gearsync.mysql_redis.plugins.filter.unknown_variables import unknown_variables

KNOWN = [
    "gearsync_tables",
    "gearsync_shards",
    "gearsync_resync_rate",
    "gearsync_resync_restart",
    "gearsync_mysql_login_user",
]
GROUPS = {"all": ["a", "b", "c"], "workers": ["b", "c"], "mysql": ["a"]}


def said(**names: list[str]) -> list[str]:
    return unknown_variables({"a": [], "b": [], "c": [], **names}, KNOWN, GROUPS)


def test_known_names_and_those_of_others_pass():
    assert said(a=[*KNOWN, "worker_redis", "gearsync", "ansible_host", "my_gearsync_x"]) == []


def test_all_unknown_names_are_given_at_once_with_where_they_are_set():
    lines = said(
        a=["gearsync_shard", "gearsync_x"],
        b=["gearsync_x", "gearsync_table"],
        c=["gearsync_x", "gearsync_table", "gearsync_y"],
    )
    assert lines == [
        "gearsync_shard on a: did you mean gearsync_shards?",
        "gearsync_table on all hosts of workers: did you mean gearsync_tables?",
        "gearsync_x on all hosts.",
        "gearsync_y on c.",
    ]


def test_hosts_that_are_no_group_are_named():
    assert said(a=["gearsync_y"], b=["gearsync_y"]) == ["gearsync_y on a, b."]


def test_the_nearest_name_is_proposed():
    for wrong, right in {
        "gearsync_resync_rates": "gearsync_resync_rate",
        "gearsync_login_user": "gearsync_mysql_login_user",
    }.items():
        assert said(a=[wrong]) == [f"{wrong} on a: did you mean {right}?"]
