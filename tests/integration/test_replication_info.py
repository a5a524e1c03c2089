# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is the primary, asked of real servers."""

import pytest
from harness.database import server_program
from harness.modules import Modules
from harness.outbox_database import collection
from harness.replication import Member, Pair
from harness.waiting import until

IS_MYSQL = server_program()[0] == "mysql"
RIGHTS = (
    ["PROCESS", "REPLICATION CLIENT", "REPLICATION SLAVE"]
    if IS_MYSQL
    else ["PROCESS", "SLAVE MONITOR", "REPLICATION MASTER ADMIN"]
)


@pytest.fixture(scope="module")
def module_pair():
    with Pair() as pair:
        yield pair


@pytest.fixture
def pair(module_pair):
    """A primary, and a replica that is read-only."""
    module_pair.replica.execute("SET GLOBAL read_only = ON")
    yield module_pair
    module_pair.primary.execute("SET GLOBAL read_only = OFF")
    module_pair.replica.start_replication()
    module_pair.require_equal()


def ask(server):
    """What the module returns; check mode returns the same."""
    result = server.modules.ok("replication_info")
    assert result["changed"] is False
    info = {name: value for name, value in result.items() if name not in ("changed", "invocation")}
    checked = server.modules.ok("replication_info", check=True)
    assert set(info) == {name for name in checked if name not in ("changed", "invocation")}
    return info


def decide(**servers):
    return collection("_source_members").source_members(
        {name: ask(server) for name, server in servers.items()}
    )


def number_of_replicas(server):
    # The server notices that one has left when it sends an event.
    server.execute("DROP DATABASE IF EXISTS absent")
    return len(ask(server)["replicas"])


def test_what_a_primary_returns(pair):
    info = ask(pair.primary)
    ((version,),) = pair.primary.execute("SELECT VERSION()")
    expected = {
        "engine": pair.primary.engine,
        "version": version,
        "port": pair.primary.port,
        "server_id": 1,
        "read_only": False,
        "super_read_only": False if IS_MYSQL else None,
        "log_bin": True,
        "binlog_format": "ROW",
        "gtid_executed": pair.primary.gtids,
        "channels": [],
        "is_replica": False,
        "is_replicating": False,
        "galera": None,
        "group_replication": None,
        "accepts_writes": True,
    }
    assert {name: info[name] for name in expected} == expected
    ((uuid,),) = pair.replica.execute("SELECT @@server_uuid") if IS_MYSQL else ((None,),)
    assert info["replicas"] == [
        {"server_id": 2, "server_uuid": uuid, "host": "127.0.0.1", "port": pair.replica.port}
    ]
    assert [thread["user"] for thread in info["dump_threads"]] == ["replica"]
    # Without the port of the connection.
    assert info["dump_threads"][0]["address"] in ("localhost", "127.0.0.1")


def test_what_a_replica_returns(pair):
    info = ask(pair.replica)
    expected = {
        "read_only": True,
        "accepts_writes": False,
        "is_replica": True,
        "is_replicating": True,
        "gtid_executed": pair.primary.gtids,
        "replicas": [],
        "dump_threads": [],
    }
    assert {name: info[name] for name in expected} == expected
    (channel,) = info["channels"]
    assert channel == {
        "name": "",
        "source_host": "127.0.0.1",
        "source_port": pair.primary.port,
        "source_server_id": 1,
        "source_uuid": ask(pair.primary)["server_uuid"],
        "io_running": "Yes",
        "io_error_number": 0,
        "io_error": "",
        "sql_running": "Yes",
        "sql_error_number": 0,
        "sql_error": "",
        "seconds_behind": 0,
    }


def test_a_primary_and_its_replica(pair):
    assert decide(one=pair.replica, two=pair.primary) == {
        "primary": "two",
        "replicas": ["one"],
        "problems": [],
        "warnings": [],
        "unlisted_replicas": [],
    }


def test_both_or_none_take_writes(pair):
    pair.replica.execute("SET GLOBAL read_only = OFF")
    (problem,) = decide(one=pair.primary, two=pair.replica)["problems"]
    assert "one and two take writes" in problem
    for server in (pair.primary, pair.replica):
        server.execute("SET GLOBAL read_only = ON")
    (problem,) = decide(one=pair.primary, two=pair.replica)["problems"]
    assert "no member takes writes" in problem


def test_a_planned_switch(pair):
    """The roles change, and the next question is answered by the new ones."""
    primary, replica = pair.primary, pair.replica
    primary.execute("SET GLOBAL read_only = ON")
    pair.require_equal()
    replica.forget_source()
    replica.execute("SET GLOBAL read_only = OFF")
    primary.follow(replica)
    try:
        primary.wait_for(replica)
        decision = decide(one=primary, two=replica)
        assert (decision["primary"], decision["replicas"], decision["problems"]) == ("two", ["one"], [])
    finally:
        primary.forget_source()
        replica.execute("SET GLOBAL read_only = ON")
        primary.execute("SET GLOBAL read_only = OFF")
        replica.follow(primary)


def test_a_replica_that_stopped(pair):
    pair.replica.stop_replication()
    decision = decide(one=pair.primary, two=pair.replica)
    assert decision["primary"] == "one"
    assert len(decision["warnings"]) == 2
    assert not ask(pair.replica)["is_replicating"]


def test_a_replica_that_cannot_apply_a_change(pair):
    """As before this collection kept its functions out of the binary log."""
    pair.primary.execute("CREATE DATABASE broken", "CREATE TABLE broken.item (id INT PRIMARY KEY)")
    pair.require_equal()
    pair.replica.execute("SET SESSION sql_log_bin = 0", "INSERT INTO broken.item VALUES (1)")
    pair.primary.execute("INSERT INTO broken.item VALUES (1)")
    until(lambda: pair.replica.channels()[0]["replica_sql_running"], "No")
    (problem,) = decide(one=pair.primary, two=pair.replica)["problems"]
    assert problem.startswith(f"replication of two from 127.0.0.1:{pair.primary.port} is broken")
    assert "error 1062" in problem
    pair.replica.execute("SET SESSION sql_log_bin = 0", "DELETE FROM broken.item")
    pair.replica.start_replication()
    pair.primary.execute("DROP DATABASE broken")
    pair.require_equal()


def test_a_replica_that_cannot_log_in(pair):
    pair.primary.execute("ALTER USER 'replica'@'%' IDENTIFIED BY 'other'")
    pair.require_equal()
    pair.replica.stop_replication()
    pair.replica.start_replication()
    until(lambda: pair.replica.channels()[0]["last_io_errno"], 1045)
    assert any("is broken" in problem for problem in decide(one=pair.primary, two=pair.replica)["problems"])
    pair.primary.execute("ALTER USER 'replica'@'%' IDENTIFIED BY ''")
    pair.replica.stop_replication()
    pair.replica.start_replication()
    pair.require_equal()


def test_a_replica_that_is_not_listed(pair):
    with Member(3) as third:
        third.follow(pair.primary)
        third.wait_for(pair.primary)
        decision = decide(one=pair.primary, two=pair.replica)
        assert decision["primary"] == "one"
        assert decision["unlisted_replicas"] == [f"127.0.0.1:{third.port} (server_id 3) replicates from one"]
        # A chain, of which the replica in the middle is not listed.
        third.forget_source()
        third.follow(pair.replica)
        third.execute("SET GLOBAL read_only = ON")
        third.wait_for(pair.primary)
        until(lambda: len(ask(pair.replica)["replicas"]), 1)
        until(lambda: number_of_replicas(pair.primary), 1)
        assert decide(one=pair.primary, two=pair.replica, three=third)["replicas"] == ["two", "three"]
        (first, second) = decide(one=pair.primary, three=third)["problems"]
        assert (
            first
            == f"three replicates from 127.0.0.1:{pair.replica.port}, which is not a member of this source"
        )
        assert "one beside three" in second


def test_a_server_of_another_source_with_the_same_number(pair):
    with Member(1) as other:
        for named in ({"other": other}, {"two": pair.replica, "other": other}):
            assert decide(**named)["primary"] == ("other" if len(named) == 1 else None)
        problems = decide(two=pair.replica, other=other)["problems"]
        assert any("which is not a member of this source" in problem for problem in problems)


def test_a_server_without_a_binary_log():
    with Member(4, "--skip-log-bin") as server:
        info = ask(server)
        assert not info["log_bin"]
        assert info["replicas"] == []
        assert decide(one=server)["primary"] == "one"


def test_each_right_that_is_missing_is_named(pair):
    def local(*statements):
        pair.primary.execute("SET SESSION sql_log_bin = 0", *statements)

    local("CREATE USER 'limited'@'localhost'")
    modules = Modules({**pair.primary.login, "login_user": "limited"})
    try:
        for given in range(len(RIGHTS) + 1):
            if given == len(RIGHTS):
                assert modules.ok("replication_info")["accepts_writes"]
                break
            message = modules.refused("replication_info")
            for number, right in enumerate(RIGHTS):
                grant = f"GRANT {right} ON *.* TO 'limited'@'localhost'"
                assert (grant in message) == (number >= given)
            local(f"GRANT {RIGHTS[given]} ON *.* TO 'limited'@'localhost'")
    finally:
        modules.remove()
        local("DROP USER 'limited'@'localhost'")
