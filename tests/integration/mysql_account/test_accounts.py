# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of workers: what the server grants them afterwards, and what others keep."""

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness.accounts import (
    DEFINER,
    FIRST,
    SCHEMA_RIGHTS,
    SECOND,
    WORKER,
    WRITE,
    accounts,
    can_log_in,
    grants,
    look_at,
)
from harness.modules import Modules

pytestmark = pytest.mark.usefixtures("gearman")


def test_life_of_a_workers_account(database, modules):
    look = look_at(database)
    result = modules.converge("mysql_account", look, **WORKER, tables=["shop.a", "`shop`.`b`"])
    assert result["account"] == "'gearsync'@'%'"
    assert not result["outbox"]
    assert result["foreign"] == []
    assert grants(database, "gearsync@'%'") == [
        "GRANT SELECT ON `shop`.`a`",
        "GRANT SELECT ON `shop`.`b`",
        SCHEMA_RIGHTS,
        "GRANT USAGE ON *.*",
    ]
    assert can_log_in(modules, FIRST)
    result = modules.converge("mysql_account", look, **WORKER, state="absent", tables=["shop.a", "shop.b"])
    assert accounts(database) == []


def test_the_diff_of_one_run_ends_where_that_of_the_next_begins(database, modules):
    first = modules.ok("mysql_account", **WORKER, tables=["shop.a"])["diff"]
    second = modules.ok("mysql_account", **WORKER, tables=["shop.a", "shop.c"])["diff"]
    assert first["before"] == ""
    assert first["after"] == second["before"]
    assert "GRANT SELECT ON `shop`.`c`\n" in second["after"]


def test_without_durable_tables_the_account_may_only_log_in_until_there_is_an_outbox(database, modules):
    modules.converge("mysql_account", look_at(database), **WORKER)
    assert grants(database, "gearsync@'%'") == ["GRANT USAGE ON *.*"]
    modules.ok("outbox")
    assert modules.converge("mysql_account", look_at(database), **WORKER)["outbox"]
    assert SCHEMA_RIGHTS in grants(database, "gearsync@'%'")
    modules.ok("outbox", state="absent")
    modules.converge("mysql_account", look_at(database), **WORKER)
    assert grants(database, "gearsync@'%'") == ["GRANT USAGE ON *.*"]


def test_another_password_replaces_the_former_one_and_is_shown_nowhere(database, modules):
    results = [
        modules.converge("mysql_account", look_at(database), **{**WORKER, "password": password})
        for password in (FIRST, SECOND)
    ]
    assert can_log_in(modules, SECOND)
    assert not can_log_in(modules, FIRST)
    stored = accounts(database)[0][2]
    for result in results:
        # Newer releases of Ansible keep what belongs into no log there, for themselves.
        result.pop("_ansible_new_secrets", None)
        assert not [secret for secret in (FIRST, SECOND, stored) if secret in str(result)]
    assert results[1]["queries"] == ["ALTER USER 'gearsync'@'%' IDENTIFIED BY 'hidden'"]


@pytest.mark.parametrize("host", ["10.9.8.%", "DB-1.Example.com"])
def test_the_password_of_an_account_for_other_hosts_is_compared_by_its_hash(database, modules, host):
    """Nothing that logs in from here is taken for it."""
    for password in (FIRST, SECOND):
        modules.converge(
            "mysql_account",
            look_at(database, f"gearsync@'{host}'"),
            **{**WORKER, "password": password, "host": host},
        )


def test_an_account_that_the_server_prefers_is_not_taken_for_the_other(database, modules):
    database.execute(f"CREATE USER gearsync@localhost IDENTIFIED BY '{FIRST}'")
    before = accounts(database)
    modules.ok("mysql_account", **{**WORKER, "password": SECOND})
    modules.converge("mysql_account", look_at(database), **WORKER)
    assert accounts(database)[1:] == before
    assert not modules.ok("mysql_account", **WORKER)["changed"]


@contextlib.contextmanager
def plugin(database, file, install, uninstall):
    """A plugin of the server's package, which is not in the directory of the tests' servers."""
    shutil.copy(Path("/usr/lib/mysql/plugin") / file, database.plugin_dir)
    database.execute(install)
    try:
        yield
    finally:
        database.execute(uninstall)


def test_a_password_that_cannot_be_compared_is_left_with_a_warning(database, modules):
    """PyMySQL alone cannot log in with ed25519, and nothing can from here to an account for other hosts."""
    if database.engine == "mariadb":
        way = f"VIA ed25519 USING PASSWORD('{FIRST}')"
        installed = plugin(
            database, "auth_ed25519.so", "INSTALL SONAME 'auth_ed25519'", "UNINSTALL SONAME 'auth_ed25519'"
        )
    else:
        way, installed = f"WITH sha256_password BY '{FIRST}'", contextlib.nullcontext()
    with installed:
        database.execute(
            f"CREATE USER gearsync@'10.9.8.7' IDENTIFIED {way}",
            f"CREATE USER gearsync@localhost IDENTIFIED BY '{SECOND}'",
        )
        result = modules.ok("mysql_account", **{**WORKER, "host": "10.9.8.7", "password": SECOND})
        assert result["queries"] == []
        assert "left as it is" in str(result["warnings"])
        database.execute("DROP USER gearsync@'10.9.8.7'")


def test_an_account_of_the_socket_gets_a_password(database, modules):
    """A plugin that asks for the user of the system takes none."""
    if database.engine == "mariadb":
        way, installed = "VIA unix_socket", contextlib.nullcontext()
    else:
        way = "WITH auth_socket"
        installed = plugin(
            database,
            "auth_socket.so",
            "INSTALL PLUGIN auth_socket SONAME 'auth_socket.so'",
            "UNINSTALL PLUGIN auth_socket",
        )
    with installed:
        database.execute(f"CREATE USER gearsync@'%' IDENTIFIED {way}")
        modules.converge("mysql_account", look_at(database), **WORKER)
        assert can_log_in(modules, FIRST)


def test_a_password_that_the_servers_policy_refuses(database, modules):
    file, install = {
        "mariadb": ("simple_password_check.so", "INSTALL SONAME 'simple_password_check'"),
        "mysql": ("component_validate_password.so", "INSTALL COMPONENT 'file://component_validate_password'"),
    }[database.engine]
    with plugin(database, file, install, f"UN{install}"):
        refusal = modules.refused("mysql_account", **{**WORKER, "password": "weak"})
        assert "account 'gearsync'@'%', creating it: the server's password policy refuses" in refusal
        assert accounts(database) == []
        modules.converge("mysql_account", look_at(database), **WORKER)
        modules.converge(
            "mysql_account", look_at(database, "gearsync_definer@localhost"), **DEFINER, outbox=False
        )
        refusal = modules.refused("mysql_account", **{**WORKER, "password": "weak"})
        assert "setting its password: the server's password policy refuses" in refusal
        assert can_log_in(modules, FIRST)


def test_an_account_whose_password_has_expired_gets_it_anew(database, modules):
    modules.ok("mysql_account", **WORKER)
    database.execute("ALTER USER gearsync@'%' PASSWORD EXPIRE")
    if database.engine == "mysql":
        assert not can_log_in(modules, FIRST)
    modules.ok("mysql_account", **WORKER)
    assert can_log_in(modules, FIRST)
    assert not modules.ok("mysql_account", **WORKER)["changed"]


def test_an_account_that_somebody_has_locked_stays_so(database, modules):
    modules.ok("mysql_account", **WORKER)
    database.execute("ALTER USER gearsync@'%' ACCOUNT LOCK")
    before = look_at(database)()
    refusal = modules.refused("mysql_account", **{**WORKER, "password": SECOND}, tables=["shop.a"])
    assert "ALTER USER 'gearsync'@'%' ACCOUNT UNLOCK" in refusal
    assert look_at(database)() == before


def test_rights_go_with_the_table_that_is_not_declared_any_more(database, modules):
    for table in ("shop.a", "shop.b"):
        modules.ok("sync_table", table=table, **WRITE)
    modules.ok("mysql_account", **WORKER, tables=["shop.a", "shop.b"])
    # Its triggers write changes, for whose rows a worker may have to look.
    assert not modules.ok("mysql_account", **WORKER, tables=["shop.a"])["changed"]
    # In check mode they are still there when the run would have removed them.
    kept = modules.ok(
        "mysql_account", check=True, **WORKER, tables=["shop.a"], remaining_tables=["shop.a", "shop.b"]
    )
    assert not kept["changed"]
    predicted = modules.ok(
        "mysql_account", check=True, **WORKER, tables=["shop.a"], remaining_tables=["shop.a"]
    )
    database.execute("INSERT INTO shop.b VALUES (1)")
    modules.ok("sync_table", table="shop.b", state="absent")
    # What they have written waits.
    assert not modules.ok("mysql_account", **WORKER, tables=["shop.a"])["changed"]
    database.execute("DELETE FROM gearsync.outbox")
    result = modules.converge("mysql_account", look_at(database), **WORKER, tables=["shop.a"])
    assert result["queries"] == predicted["queries"] == ["REVOKE SELECT ON `shop`.`b` FROM 'gearsync'@'%'"]
    assert "GRANT SELECT ON `shop`.`a`" in grants(database, "gearsync@'%'")


#: Rights that somebody else has granted to the same account.
FOREIGN = [
    "GRANT SELECT ON `b_ll%`.`in``voice`",
    "GRANT SELECT (id) ON shop.b",
    "GRANT SELECT, DELETE ON shop.c",
    "GRANT SELECT ON `b\\_ll\\%`.*",
    "GRANT SHOW DATABASES ON *.*",
    "GRANT EXECUTE ON PROCEDURE shop.p",
    "GRANT INSERT ON `b_ll%`.*",
]


def test_rights_that_the_collection_has_not_granted_stay(database, modules):
    """Those of a cluster that shares the account, of a user, of another tool."""

    def rights():
        # MariaDB writes rights on a table and on its columns in one line.
        lines = {line.replace("SELECT, SELECT (", "SELECT (") for line in grants(database, "gearsync@'%'")}
        return {line for line in lines if "USAGE" not in line and "gearsync" not in line}

    for table in ("shop.a", "shop.b"):
        modules.ok("sync_table", table=table, **WRITE)
    database.execute(
        "CREATE PROCEDURE shop.p() SELECT 1",
        f"CREATE USER gearsync@'%' IDENTIFIED BY '{FIRST}'",
        *(f"{grant} TO gearsync@'%'" for grant in FOREIGN),
    )
    before = rights()
    result = modules.converge("mysql_account", look_at(database), **WORKER, tables=["shop.a", "shop.b"])
    assert not [query for query in result["queries"] if not query.startswith("GRANT")]
    assert before <= rights()
    for part in ("in``voice", "(`id`)", "PROCEDURE", "SHOW DATABASES", "INSERT"):
        assert any(part in line for line in result["foreign"]), (part, result["foreign"])
    # Nothing of the former declaration is left, and all of theirs.
    for table in ("shop.a", "shop.b"):
        modules.ok("sync_table", table=table, state="absent")
    modules.converge("mysql_account", look_at(database), **WORKER)
    assert before <= rights()
    assert "GRANT SELECT ON `shop`.`a`" not in rights()


@pytest.mark.parametrize(
    "given",
    ["GRANT ALL ON shop.a TO gearsync@'%'", "GRANT SELECT ON shop.a TO gearsync@'%' WITH GRANT OPTION"],
)
def test_more_than_the_collection_grants_on_a_former_table_is_somebody_elses(database, modules, given):
    modules.ok("sync_table", table="shop.a", **WRITE)
    modules.ok("mysql_account", **WORKER, tables=["shop.a"])
    database.execute(given)
    assert not modules.ok("mysql_account", **WORKER, tables=["shop.a"])["changed"]
    modules.ok("sync_table", table="shop.a", state="absent")
    result = modules.ok("mysql_account", **WORKER)
    assert result["queries"] == []
    assert "`shop`.`a`" in result["foreign"][0]


def test_the_accounts_of_two_sources_do_not_see_each_other(database, modules):
    modules.ok("mysql_account", **WORKER, tables=["shop.a"])
    before = grants(database, "gearsync@'%'")
    other = {"name": "gearsync", "host": "10.0.0.1", "password": SECOND}
    modules.converge("mysql_account", look_at(database), **other, tables=["shop.b"])
    assert grants(database, "gearsync@'%'") == before
    modules.converge("mysql_account", look_at(database), **other, state="absent", tables=["shop.b"])
    assert grants(database, "gearsync@'%'") == before
    assert can_log_in(modules, FIRST)


def test_an_account_that_others_need_is_not_dropped(database, modules):
    modules.ok("sync_table", table="shop.a", **WRITE)
    modules.ok("mysql_account", **WORKER, tables=["shop.a"])
    modules.ok("sync_table", table="shop.a", state="absent")
    database.execute("GRANT SELECT ON `b_ll%`.* TO gearsync@'%'")
    result = modules.converge("mysql_account", look_at(database), **WORKER, state="absent")
    assert result["foreign"] == ["GRANT SELECT ON `b_ll%`.*"]
    assert "Drop it by hand" in str(result["warnings"])
    assert grants(database, "gearsync@'%'") == ["GRANT SELECT ON `b_ll%`.*", "GRANT USAGE ON *.*"]


def test_an_account_with_the_right_to_see_replicas_is_dropped(database, modules):
    right = "SLAVE MONITOR" if database.engine == "mariadb" else "REPLICATION CLIENT"
    modules.ok("mysql_account", **WORKER, tables=["shop.a"])
    database.execute(f"GRANT {right} ON *.* TO gearsync@'%'")
    assert modules.ok("mysql_account", **WORKER, tables=["shop.a"])["foreign"] == []
    modules.ok("mysql_account", **WORKER, tables=["shop.a"], state="absent")


def test_several_hosts_may_make_and_remove_the_same_account_at_once(database):
    runners = [Modules(database.login) for _number in range(3)]
    try:
        with ThreadPoolExecutor(len(runners)) as pool:
            for _number in range(5):
                for state in ("present", "absent"):
                    options = {**WORKER, "tables": ["shop.a", "shop.b"], "state": state}
                    list(
                        pool.map(
                            lambda runner, options=options: runner.ok("mysql_account", **options), runners
                        )
                    )
                assert accounts(database) == []
    finally:
        for runner in runners:
            runner.remove()
