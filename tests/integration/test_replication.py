# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules on servers with replicas: what belongs to one server reaches no other."""

import filecmp
import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.database import DatabaseServer, server_program
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, Modules
from harness.replication import Pair
from harness.waiting import until

IS_MYSQL = server_program()[0] == "mysql"
# The right to keep statements out of the binary log, and the one to write to a server that is read-only.
RIGHT, WRITE_RIGHT = (
    ("SESSION_VARIABLES_ADMIN", "CONNECTION_ADMIN") if IS_MYSQL else ("BINLOG ADMIN", "READ_ONLY ADMIN")
)
SETTING = "SELECT gman_configure('io_timeout_ms', 1234)"


@pytest.fixture
def pair():
    with Pair() as pair:
        yield pair


@pytest.fixture
def builds(libraries, tmp_path):
    """Two builds of the Gearman library."""
    first, second = tmp_path / "first.so", tmp_path / "second.so"
    shutil.copy(libraries / GEARMAN_LIBRARY, first)
    # What stands behind the end of a library is not loaded.
    second.write_bytes(first.read_bytes() + b"second")
    return str(first), str(second)


def register(modules, build, **more):
    return modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, src=build, functions=GEARMAN_FUNCTIONS, **more)


def remove(modules, **more):
    return modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, state="absent", remove_file=True, **more)


def registered(server):
    return server.execute("SELECT name, ret, dl, type FROM mysql.func ORDER BY name")


def state(server):
    """The registered functions, and the settings and job servers of the library that is loaded."""
    functions = registered(server)
    if not functions:
        return functions, None, None
    stats = json.loads(server.execute("SELECT gman_stats()")[0][0])
    return functions, stats["settings"], stats["server_lists"]


@pytest.fixture
def limited(pair):
    """The modules with an account of the primary that has no rights but those on the schema mysql."""
    # The replica needs no such account.
    pair.primary.execute(
        "SET SESSION sql_log_bin = 0",
        "CREATE USER 'limited'@'localhost'",
        "GRANT ALL ON mysql.* TO 'limited'@'localhost'",
    )
    modules = Modules({**pair.primary.login, "login_user": "limited"})
    yield modules
    modules.remove()


def grant(server, right):
    server.execute("SET SESSION sql_log_bin = 0", f"GRANT {right} ON *.* TO 'limited'@'localhost'")


def test_a_replica_without_the_library_goes_on(pair, builds):
    primary, replica = pair.primary, pair.replica
    before = primary.gtids
    for build in builds:
        assert register(primary.modules, build)["changed"]
        primary.modules.ok("gearman_servers", servers=["127.0.0.1:1"], check_reachable=False)
        pair.require_equal()
        assert registered(replica) == []
    assert remove(primary.modules)["changed"]
    pair.require_equal()
    assert primary.gtids == before
    # The data goes on replicating.
    primary.execute("CREATE DATABASE shop")
    pair.require_equal()
    assert replica.execute("SHOW DATABASES LIKE 'shop'")


def test_each_server_has_its_own_library_and_job_servers(pair, builds):
    first, second = builds
    servers = (pair.primary, pair.replica)
    for number, server in enumerate(servers):
        register(server.modules, first)
        server.modules.ok("gearman_servers", servers=[f"127.0.0.1:{number + 1}"], check_reachable=False)
        server.execute(SETTING)
        pair.require_equal()
    states = [state(server) for server in servers]
    assert [lists for _functions, _settings, lists in states] == [{"": "127.0.0.1:1"}, {"": "127.0.0.1:2"}]

    # The replica is upgraded first, as administrators do it, then the primary.
    for server in reversed(servers):
        assert register(server.modules, second)["reloaded"]
        pair.require_equal()
        assert [state(server) for server in servers] == states
    for server in servers:
        others = [state(other) for other in servers if other is not server]
        remove(server.modules)
        pair.require_equal()
        assert [state(other) for other in servers if other is not server] == others
        assert registered(server) == []


def test_a_function_that_could_not_be_loaded_is_removed_on_one_server_only(pair, builds):
    for server in (pair.primary, pair.replica):
        register(server.modules, builds[0])
    # The primary starts without the file, and then knows the functions from their table alone.
    library = pair.primary.plugin_dir / GEARMAN_LIBRARY
    library.unlink()
    pair.primary.restart()
    before = state(pair.replica)
    register(pair.primary.modules, builds[1])
    pair.require_equal()
    library.unlink()
    pair.primary.restart()
    remove(pair.primary.modules)
    pair.require_equal()
    assert registered(pair.primary) == []
    assert state(pair.replica) == before


@pytest.mark.parametrize("log_format", ["ROW", "MIXED", "STATEMENT"])
def test_settings_and_job_servers_are_in_no_binary_log(pair, builds, log_format):
    primary = pair.primary
    primary.execute(f"SET GLOBAL binlog_format = '{log_format}'")
    register(primary.modules, builds[0])
    primary.modules.ok("gearman_servers", servers=["127.0.0.1:1"], check_reachable=False)
    primary.execute(SETTING)
    before = primary.gtids
    register(primary.modules, builds[1])
    primary.modules.ok("gearman_servers", state="absent", check_reachable=False)
    assert primary.gtids == before
    pair.require_equal()


def test_an_account_that_may_not_keep_statements_out_of_the_log(pair, limited, builds):
    primary = pair.primary
    arguments = {"soname": GEARMAN_LIBRARY, "src": builds[0], "functions": GEARMAN_FUNCTIONS}
    for check in (True, False):
        message = limited.refused("mysql_udf", check=check, **arguments)
        assert "Nothing was changed" in message
        assert f"GRANT {RIGHT} ON *.* TO 'limited'@'localhost'" in message
    assert list(primary.plugin_dir.iterdir()) == []
    assert registered(primary) == []

    grant(primary, RIGHT)
    register(limited, builds[0])
    primary.execute("SET SESSION sql_log_bin = 0", f"REVOKE {RIGHT} ON *.* FROM 'limited'@'localhost'")
    # What is as wanted needs no right.
    assert not register(limited, builds[0])["changed"]
    before = state(primary)
    for check in (True, False):
        assert RIGHT in limited.refused("mysql_udf", check=check, **{**arguments, "src": builds[1]})
        assert RIGHT in limited.refused("mysql_udf", check=check, soname=GEARMAN_LIBRARY, state="absent")
    assert state(primary) == before
    assert filecmp.cmp(primary.plugin_dir / GEARMAN_LIBRARY, builds[0], shallow=False)
    pair.require_equal()


def test_a_server_without_a_binary_log_asks_for_no_right(builds):
    with DatabaseServer("--skip-log-bin") as server:
        server.execute("CREATE USER 'limited'@'localhost'", "GRANT ALL ON mysql.* TO 'limited'@'localhost'")
        modules = Modules({**server.login, "login_user": "limited"})
        register(modules, builds[0])
        remove(modules)
        modules.remove()


def test_a_read_only_replica(pair, builds):
    replica = pair.replica
    replica.execute("SET GLOBAL read_only = ON")
    for build in builds:
        register(replica.modules, build)
        replica.modules.ok("gearman_servers", servers=["127.0.0.1:1"], check_reachable=False)
        pair.require_equal()
    assert state(replica)[2] == {"": "127.0.0.1:1"}
    remove(replica.modules)
    pair.require_equal()


def test_an_account_that_may_not_write_to_a_read_only_server(pair, limited, builds):
    primary = pair.primary
    grant(primary, RIGHT)
    primary.execute("SET GLOBAL read_only = ON")
    for check in (True, False):
        message = limited.refused(
            "mysql_udf", check=check, soname=GEARMAN_LIBRARY, src=builds[0], functions=GEARMAN_FUNCTIONS
        )
        assert "Nothing was changed" in message
        assert f"GRANT {WRITE_RIGHT} ON *.* TO 'limited'@'localhost'" in message
    assert list(primary.plugin_dir.iterdir()) == []
    grant(primary, WRITE_RIGHT)
    # MariaDB keeps functions that it refused to write to their table.
    register(limited, builds[0])
    remove(limited)
    pair.require_equal()


@pytest.mark.skipif(not IS_MYSQL, reason="only MySQL has super_read_only")
def test_a_super_read_only_replica(pair, builds):
    replica = pair.replica
    replica.execute("SET GLOBAL super_read_only = ON")
    for check in (True, False):
        message = replica.modules.refused(
            "mysql_udf", check=check, soname=GEARMAN_LIBRARY, src=builds[0], functions=GEARMAN_FUNCTIONS
        )
        assert "super_read_only" in message
        assert "Nothing was changed" in message
        assert "lift_super_read_only" in message
    assert registered(replica) == []
    assert list(replica.plugin_dir.iterdir()) == []

    def both():
        return replica.execute("SELECT @@read_only, @@super_read_only")

    for build in builds:
        result = register(replica.modules, build, lift_super_read_only=True)
        assert result["queries"][0] == "SET GLOBAL super_read_only = OFF"
        assert result["queries"][-1] == "SET GLOBAL super_read_only = ON"
        assert both() == [(1, 1)]
        pair.require_equal()
    assert not register(replica.modules, build, lift_super_read_only=True)["queries"]
    assert "super_read_only" in replica.modules.refused("mysql_udf", soname=GEARMAN_LIBRARY, state="absent")
    remove(replica.modules, lift_super_read_only=True)
    assert both() == [(1, 1)]
    # A library that does not load.
    broken = builds[0] + ".broken"
    with open(broken, "w") as file:
        file.write("no library")
    assert "cannot load" in replica.modules.refused(
        "mysql_udf",
        soname=GEARMAN_LIBRARY,
        src=broken,
        functions=GEARMAN_FUNCTIONS,
        lift_super_read_only=True,
    )
    assert both() == [(1, 1)]
    pair.require_equal()


@pytest.mark.skipif(not IS_MYSQL, reason="only MySQL has super_read_only")
def test_the_rights_to_lift_super_read_only(pair, limited, builds):
    primary = pair.primary
    grant(primary, RIGHT)
    primary.execute("SET GLOBAL super_read_only = ON")
    arguments = {
        "soname": GEARMAN_LIBRARY,
        "src": builds[0],
        "functions": GEARMAN_FUNCTIONS,
        "lift_super_read_only": True,
    }
    for missing in ("SYSTEM_VARIABLES_ADMIN", "CONNECTION_ADMIN"):
        assert missing in limited.refused("mysql_udf", **arguments)
        assert primary.execute("SELECT @@super_read_only") == [(1,)]
        assert registered(primary) == []
        assert list(primary.plugin_dir.iterdir()) == []
        primary.execute("SET GLOBAL super_read_only = OFF")
        grant(primary, missing)
        primary.execute("SET GLOBAL super_read_only = ON")
    assert limited.ok("mysql_udf", **arguments)["changed"]
    assert primary.execute("SELECT @@super_read_only") == [(1,)]


@pytest.mark.skipif(not IS_MYSQL, reason="only MySQL has super_read_only")
def test_a_replica_that_is_made_the_primary_while_super_read_only_is_off(pair, builds):
    primary, replica = pair.primary, pair.replica
    for server in (primary, replica):
        register(server.modules, builds[0])
    primary.execute(
        "CREATE DATABASE shop",
        "CREATE TABLE shop.item (id INT PRIMARY KEY)",
        "CREATE TRIGGER shop.wake AFTER INSERT ON shop.item FOR EACH ROW SET @woken = gman_wake('f', 'u')",
    )
    pair.require_equal()
    replica.execute("SET GLOBAL super_read_only = ON")
    with ThreadPoolExecutor() as pool, replica.connect(autocommit=False) as reader:
        with reader.cursor() as cursor:
            cursor.execute("SELECT * FROM shop.item")
        # It waits for the reader, because the trigger calls the functions.
        upgrade = pool.submit(register, replica.modules, builds[1], lift_super_read_only=True)
        until(lambda: replica.execute("SELECT @@super_read_only"), [(0,)])
        replica.execute("SET GLOBAL read_only = OFF")
        reader.commit()
        result = upgrade.result()
    assert "read_only was switched off meanwhile" in str(result["warnings"])
    assert replica.execute("SELECT @@read_only, @@super_read_only") == [(0, 0)]
    pair.require_equal()


@pytest.mark.skipif(not IS_MYSQL, reason="only MySQL has super_read_only")
def test_the_init_file_of_a_super_read_only_server_is_executed(libraries, tmp_path):
    file = tmp_path / "init.sql"
    file.write_text(
        "SET SESSION sql_log_bin = 0;\n"
        f"CREATE FUNCTION gman_servers_set RETURNS STRING SONAME '{GEARMAN_LIBRARY}';\n"
        f"CREATE FUNCTION gman_stats RETURNS STRING SONAME '{GEARMAN_LIBRARY}';\n"
        "DO gman_servers_set('127.0.0.1:1');\n"
    )
    with DatabaseServer("--super-read-only=ON") as server:
        shutil.copy(libraries / GEARMAN_LIBRARY, server.plugin_dir)
        before = server.execute("SELECT @@GLOBAL.gtid_executed")
        server.command.append(f"--init-file={file}")
        server.restart()
        assert server.execute("SELECT @@super_read_only") == [(1,)]
        assert state(server)[2] == {"": "127.0.0.1:1"}
        assert server.execute("SELECT @@GLOBAL.gtid_executed") == before
