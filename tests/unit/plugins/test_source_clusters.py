# SPDX-License-Identifier: GPL-3.0-or-later
"""Which member of a cluster or of a replication group is the primary."""

from __future__ import annotations

from typing import Any

import pytest
from harness.source_infos import Info, decide, follow, problems, register, server


def galera(size: int, **facts: Any) -> dict[str, Info]:
    """The nodes of a cluster, all of which take writes and have one server_id."""
    node = {
        "cluster_uuid": "cluster",
        "cluster_size": size,
        "cluster_status": "Primary",
        "addresses": [f"host{number}:3306" for number in range(1, size + 1)],
        "state": "Synced",
        "ready": True,
        "accepts_writes": True,
        **facts,
    }
    return {
        f"db{number}": server(number, server_uuid=None, server_id=1, galera={**node})
        for number in range(1, size + 1)
    }


def read_only(info: Info) -> None:
    info.update(read_only=True, accepts_writes=False)


def test_a_galera_cluster_of_which_one_node_takes_writes() -> None:
    infos = galera(3)
    read_only(infos["db1"])
    read_only(infos["db3"])
    decision = decide(infos)
    assert (decision["primary"], decision["replicas"]) == ("db2", ["db1", "db3"])
    assert not decision["warnings"]
    assert not decision["unlisted_replicas"]


def test_a_galera_cluster_of_which_all_nodes_take_writes() -> None:
    infos = galera(3)
    (problem,) = problems(infos)
    assert problem.startswith("db1, db2 and db3 are nodes of one Galera cluster and all take writes")
    decision = decide(infos, accept_multi_primary=True)
    assert (decision["primary"], decision["warnings"]) == ("db1", [problem])


def test_a_galera_node_that_is_no_member() -> None:
    infos = galera(3)
    for name in ("db2", "db3"):
        del infos[name]
    decision = decide(infos)
    assert decision["primary"] == "db1"
    (text,) = decision["unlisted_replicas"]
    assert text == (
        "the Galera cluster has 3 nodes, of which 1 is a member of this source: "
        "host1:3306, host2:3306, host3:3306"
    )


def test_two_galera_clusters() -> None:
    infos = galera(2)
    infos["db2"]["galera"]["cluster_uuid"] = "other"
    infos["db2"]["server_id"] = 2
    texts = problems(infos, accept_multi_primary=True)
    assert any("do not belong to one another: db1 beside db2" in text for text in texts)
    assert any("db1 and db2 take writes" in text for text in texts)


def test_a_galera_node_outside_of_the_primary_component() -> None:
    infos = galera(2)
    infos["db2"]["galera"].update(ready=False, cluster_status="non-Primary", state="Initialized")
    infos["db2"]["accepts_writes"] = False
    (problem,) = problems(infos)
    assert problem == (
        "db2 is a Galera node that takes no statements: it is Initialized, and its part of the cluster is "
        "non-Primary"
    )


def test_a_replica_of_a_galera_cluster() -> None:
    infos = galera(2)
    read_only(infos["db2"])
    infos["copy"] = server(9, server_uuid=None)
    follow(infos["copy"], infos["db1"])
    decision = decide(infos)
    assert (decision["primary"], decision["replicas"]) == ("db1", ["db2", "copy"])


def group(size: int, single_primary: bool = True) -> dict[str, Info]:
    """The members of a replication group; db1 is its primary."""
    members = [
        {
            "id": f"uuid-{number}",
            "host": f"host{number}",
            "port": 3306,
            "state": "ONLINE",
            "role": "PRIMARY" if number == 1 or not single_primary else "SECONDARY",
        }
        for number in range(1, size + 1)
    ]
    infos = {}
    for member in members:
        number = int(member["host"][4:])
        state = {"name": "group", "single_primary": single_primary, "members": members}
        infos[f"db{number}"] = server(
            number, group_replication={**state, "state": "ONLINE", "role": member["role"]}
        )
        if member["role"] == "SECONDARY":
            read_only(infos[f"db{number}"])
    return infos


def test_a_replication_group_with_one_primary() -> None:
    decision = decide(group(3))
    assert (decision["primary"], decision["replicas"]) == ("db1", ["db2", "db3"])
    assert not decision["unlisted_replicas"]


def test_a_replication_group_in_multi_primary_mode() -> None:
    infos = group(2, single_primary=False)
    (problem,) = problems(infos)
    assert problem.startswith("the replication group of db1 and db2 is in multi-primary mode")
    assert decide(infos, accept_multi_primary=True)["primary"] == "db1"
    # The mode is the group's, however many of it are members here.
    del infos["db2"]
    assert problems(infos)


def test_members_of_a_replication_group_that_are_not_listed() -> None:
    infos = group(3)
    del infos["db3"]
    assert decide(infos)["unlisted_replicas"] == ["host3:3306 is in the replication group"]
    # Not twice, while it gets from another member what it had missed.
    register(server(3), infos["db1"])
    assert decide(infos)["unlisted_replicas"] == ["host3:3306 is in the replication group"]
    del infos["db1"]
    assert problems(infos) == [
        "no member takes writes: db2 is read_only. The primary of the replication group is host1:3306"
    ]


@pytest.mark.parametrize("state", ["OFFLINE", "RECOVERING", "ERROR"])
def test_a_member_that_is_not_online_in_its_group(state: str) -> None:
    infos = group(2)
    infos["db2"]["group_replication"]["state"] = state
    assert problems(infos) == [f"db2 is {state} in its replication group, not ONLINE"]
