# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on the nodes of a real Galera cluster."""

import shutil

import pytest
from harness.database import server_program
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, Modules
from harness.outbox_database import collection
from harness.waiting import until

if server_program()[0] != "mariadb":
    pytest.skip("Galera is MariaDB's here", allow_module_level=True)

from harness.galera import Cluster


@pytest.fixture(scope="module", params=[[], ["--skip-log-bin"]], ids=["binary log", "no binary log"])
def cluster(request):
    with Cluster(2, *request.param) as cluster:
        yield cluster


@pytest.fixture
def nodes(cluster):
    yield cluster.nodes
    for node in cluster.nodes:
        node.execute("SET GLOBAL read_only = OFF")


def registered(node):
    return node.execute("SELECT name FROM mysql.func")


def ask(node):
    return node.modules.ok("replication_info")


def decide(accept_multi_primary=False, **nodes):
    return collection("_source_members").source_members(
        {name: ask(node) for name, node in nodes.items()}, accept_multi_primary
    )


def test_each_node_registers_the_functions_by_itself(nodes, libraries, tmp_path):
    first, second = nodes
    first.execute(
        "CREATE DATABASE shop",
        "CREATE TABLE shop.item (id INT PRIMARY KEY)",
        "CREATE TRIGGER shop.wake AFTER INSERT ON shop.item FOR EACH ROW SET @woken = gman_wake('f', 'u')",
    )
    until(lambda: len(second.execute("SHOW TRIGGERS FROM shop")), 1)
    changed = tmp_path / "changed.so"
    shutil.copy(libraries / GEARMAN_LIBRARY, changed)
    with changed.open("ab") as file:
        file.write(b"changed")
    # Where a library that it has would be loaded.
    shutil.copy(libraries / GEARMAN_LIBRARY, second.plugin_dir)
    before = first.status("wsrep_last_committed")
    for build in (libraries / GEARMAN_LIBRARY, changed):
        arguments = {"soname": GEARMAN_LIBRARY, "src": str(build), "functions": GEARMAN_FUNCTIONS}
        assert first.modules.ok("mysql_udf", **arguments)["changed"]
        assert not first.modules.ok("mysql_udf", **arguments)["changed"]
        first.modules.ok("gearman_servers", servers=["127.0.0.1:1"], check_reachable=False)
    assert "127.0.0.1:1" in str(first.execute("SELECT gman_stats()"))
    assert registered(second) == []
    second.modules.ok("mysql_udf", **arguments)
    state = registered(second)
    assert len(state) == len(GEARMAN_FUNCTIONS)
    first.modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, state="absent", force=True, remove_file=True)
    # No node voted about a statement of ours.
    assert first.status("wsrep_last_committed") == before
    assert registered(second) == state
    second.modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, state="absent", force=True, remove_file=True)
    first.execute("DROP DATABASE shop")
    until(lambda: second.execute("SHOW DATABASES LIKE 'shop'"), [])
    assert {node.status("wsrep_cluster_size") for node in nodes} == {"2"}


def test_an_account_that_may_not_change_one_node_alone(nodes, libraries):
    first, _second = nodes
    first.execute(
        "CREATE USER 'limited'@'localhost'",
        "GRANT ALL ON mysql.* TO 'limited'@'localhost'",
        "GRANT BINLOG ADMIN ON *.* TO 'limited'@'localhost'",
    )
    modules = Modules({**first.login, "login_user": "limited"})
    try:
        message = modules.refused(
            "mysql_udf",
            soname=GEARMAN_LIBRARY,
            src=str(libraries / GEARMAN_LIBRARY),
            functions=GEARMAN_FUNCTIONS,
        )
        assert "GRANT SUPER ON *.* TO 'limited'@'localhost'" in message
        assert "Nothing was changed" in message
        assert list(first.plugin_dir.iterdir()) == []
    finally:
        modules.remove()
        first.execute("DROP USER 'limited'@'localhost'")


def test_what_the_nodes_return(nodes):
    first, second = (ask(node)["galera"] for node in nodes)
    assert first["cluster_uuid"] == second["cluster_uuid"]
    for node in (first, second):
        assert node["cluster_size"] == 2
        assert (node["cluster_status"], node["state"]) == ("Primary", "Synced")
        assert node["ready"]
        assert node["accepts_writes"]
        assert len(node["addresses"]) == 2


def test_one_node_that_takes_writes(nodes):
    first, second = nodes
    first.execute("SET GLOBAL read_only = ON")
    assert not ask(first)["galera"]["accepts_writes"]
    decision = decide(one=first, two=second)
    assert (decision["primary"], decision["replicas"], decision["problems"]) == ("two", ["one"], [])
    # What the writer commits goes to the other one nevertheless.
    second.execute("CREATE DATABASE shop", "DROP DATABASE shop")
    assert decide(two=second)["unlisted_replicas"][0].startswith(
        "the Galera cluster has 2 nodes, of which 1 is a member of this source"
    )


def test_all_nodes_take_writes(nodes):
    first, second = nodes
    (problem,) = decide(one=first, two=second)["problems"]
    assert "one and two are nodes of one Galera cluster and all take writes" in problem
    decision = decide(True, one=first, two=second)
    assert (decision["primary"], decision["warnings"]) == ("one", [problem])


def test_a_node_that_lost_its_cluster(nodes):
    first, second = nodes
    # As a node that sees less than half of the others.
    second.execute("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'")
    until(lambda: second.status("wsrep_cluster_status"), "non-Primary")
    try:
        assert not ask(second)["accepts_writes"]
        problems = decide(one=first, two=second)["problems"]
        assert any(
            problem.startswith("two is a Galera node that takes no statements") for problem in problems
        )
    finally:
        second.execute("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'")
        until(lambda: {node.status("wsrep_cluster_size") for node in nodes}, {"2"})
        until(lambda: {node.status("wsrep_local_state_comment") for node in nodes}, {"Synced"})
