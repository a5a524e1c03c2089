# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on the members of a real replication group of MySQL."""

import pytest
from harness.database import server_program
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, Modules
from harness.outbox_database import collection
from harness.replication import Member
from harness.waiting import until

if server_program()[0] != "mysql":
    pytest.skip("group replication is MySQL's", allow_module_level=True)

from harness.group import Group


@pytest.fixture(scope="module")
def group():
    with Group(2) as group:
        yield group


@pytest.fixture
def members(group):
    """The primary and the other one."""
    yield group.members
    if group.members[0].member_state("ROLE") != "PRIMARY":
        ((identity,),) = group.members[0].execute("SELECT @@server_uuid")
        group.members[0].execute(f"SELECT group_replication_set_as_primary('{identity}')")


def ask(server):
    return server.modules.ok("replication_info")


def decide(accept_multi_primary=False, **servers):
    return collection("_source_members").source_members(
        {name: ask(server) for name, server in servers.items()}, accept_multi_primary
    )


def test_what_the_members_return(members):
    first, second = (ask(member) for member in members)
    assert first["accepts_writes"]
    assert not second["accepts_writes"]
    assert (second["read_only"], second["super_read_only"]) == (True, True)
    assert (first["group_replication"]["role"], second["group_replication"]["role"]) == (
        "PRIMARY",
        "SECONDARY",
    )
    for info in (first, second):
        assert info["group_replication"]["single_primary"]
        assert info["group_replication"]["state"] == "ONLINE"
        assert {row["port"] for row in info["group_replication"]["members"]} == {
            member.port for member in members
        }
        # The group's own channels follow no server.
        assert info["channels"] == []


def test_the_primary_of_the_group_is_named_and_another_one_after_a_switch(members):
    first, second = members
    decision = decide(one=first, two=second)
    assert (decision["primary"], decision["replicas"], decision["problems"]) == ("one", ["two"], [])
    assert decision["unlisted_replicas"] == []
    ((identity,),) = second.execute("SELECT @@server_uuid")
    first.execute(f"SELECT group_replication_set_as_primary('{identity}')")
    assert decide(one=first, two=second)["primary"] == "two"


def test_a_member_that_is_not_listed(members):
    first, second = members
    decision = decide(one=first)
    assert decision["primary"] == "one"
    assert decision["unlisted_replicas"] == [f"127.0.0.1:{second.port} is in the replication group"]
    (problem,) = decide(two=second)["problems"]
    assert problem.endswith(f"The primary of the replication group is 127.0.0.1:{first.port}")


def test_a_replica_of_the_group(members):
    first, second = members
    with Member(9) as replica:
        replica.execute("SET GLOBAL read_only = ON")
        replica.follow(first)
        replica.wait_for(first)
        decision = decide(one=first, two=second, copy=replica)
        assert (decision["primary"], decision["replicas"]) == ("one", ["two", "copy"])
        assert decide(one=first, two=second)["unlisted_replicas"] == [
            f"127.0.0.1:{replica.port} (server_id 9) replicates from one"
        ]


def test_a_member_that_left_its_group(members):
    first, second = members
    second.execute("STOP GROUP_REPLICATION")
    try:
        problems = decide(one=first, two=second)["problems"]
        assert "two is OFFLINE in its replication group, not ONLINE" in problems
    finally:
        second.join(is_first=False)


def test_multi_primary_mode(members):
    first, second = members
    first.execute("SELECT group_replication_switch_to_multi_primary_mode()")
    try:
        until(lambda: ask(second)["accepts_writes"])
        (problem,) = decide(one=first, two=second)["problems"]
        assert "multi-primary mode" in problem
        assert decide(True, one=first, two=second)["primary"] == "one"
    finally:
        ((identity,),) = first.execute("SELECT @@server_uuid")
        first.execute(f"SELECT group_replication_switch_to_single_primary_mode('{identity}')")
        until(lambda: ask(second)["super_read_only"])


def test_each_member_registers_the_functions_by_itself(members, libraries):
    first, second = members
    arguments = {
        "soname": GEARMAN_LIBRARY,
        "src": str(libraries / GEARMAN_LIBRARY),
        "functions": GEARMAN_FUNCTIONS,
    }
    before = first.gtids
    first.modules.ok("mysql_udf", **arguments)
    assert second.execute("SELECT * FROM mysql.func") == []
    assert "super_read_only" in second.modules.refused("mysql_udf", **arguments)
    second.modules.ok("mysql_udf", **arguments, lift_super_read_only=True)
    assert len(second.execute("SELECT * FROM mysql.func")) == len(GEARMAN_FUNCTIONS)
    for member in members:
        member.modules.ok(
            "mysql_udf",
            soname=GEARMAN_LIBRARY,
            state="absent",
            remove_file=True,
            lift_super_read_only=True,
        )
    # What the group agrees on itself, such as its members, has GTIDs too, but nothing has happened to it.
    assert {member.gtids for member in members} == {before}
    assert ask(second)["super_read_only"]
    assert {member.member_state("STATE") for member in members} == {"ONLINE"}


def test_the_right_to_see_the_group(members):
    first, _second = members
    first.execute(
        "CREATE USER 'limited'@'localhost'",
        "GRANT PROCESS, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO 'limited'@'localhost'",
    )
    modules = Modules({**first.login, "login_user": "limited"})
    try:
        grant = "GRANT SELECT ON performance_schema.replication_group_members TO 'limited'@'localhost'"
        assert grant in modules.refused("replication_info")
        first.execute(grant)
        assert modules.ok("replication_info")["group_replication"]["role"] == "PRIMARY"
    finally:
        modules.remove()
        first.execute("DROP USER 'limited'@'localhost'")
