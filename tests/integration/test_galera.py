# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on the nodes of a real Galera cluster."""

import shutil

import pytest
from harness.database import server_program
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, Modules
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
    return cluster.nodes


def registered(node):
    return node.execute("SELECT name FROM mysql.func")


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
