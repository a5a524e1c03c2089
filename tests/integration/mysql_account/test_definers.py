# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts of triggers, names, and servers that refuse or delay what is asked of them."""

import re

import pytest
from harness.accounts import DEFINER, FIRST, SECOND, WORKER, WRITE, accounts, can_log_in, grants, look_at

pytestmark = pytest.mark.usefixtures("gearman")


def test_names_that_need_quotes(database, modules):
    """An underscore and a percent sign in a schema's name are characters in a right on a table."""
    odd = {**WORKER, "name": "it's`a\\b", "host": "localhost"}
    account = "'it''s`a\\\\b'@localhost"
    for tables in ([r"`b_ll%`.`in``voice`"], []):
        modules.converge("mysql_account", look_at(database, account), **odd, tables=tables, outbox=False)
        if tables:
            assert "GRANT SELECT ON `b_ll%`.`in``voice`" in grants(database, account)
            modules.ok("sync_table", table=tables[0], **WRITE)
            modules.ok("sync_table", table=tables[0], state="absent")
    assert not [line for line in grants(database, account) if "b_ll" in line]
    modules.converge(
        "mysql_account", lambda: database.execute("SELECT COUNT(*) FROM mysql.user"), **odd, state="absent"
    )


def test_a_table_that_is_not_there_is_named_and_nothing_changed(database, modules):
    for check in (True, False):
        refusal = modules.refused(
            "mysql_account", check=check, **WORKER, tables=["shop.a", "shop.x", "other.y"]
        )
        assert "shop.x, other.y: no such table" in refusal
    assert accounts(database) == []
    assert "does not name a schema and a table" in modules.refused("mysql_account", **WORKER, tables=["a"])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"password": ""}, "needs a password"),
        ({"purpose": "definer"}, "takes no password"),
        ({"name": ""}, "name is empty"),
        ({"lock_wait_timeout": 0}, "lock_wait_timeout"),
    ],
)
def test_options_that_cannot_be_meant(modules, options, named):
    assert named in modules.refused("mysql_account", **{**WORKER, **options})


def test_each_right_that_is_missing_is_named_with_the_statement_that_grants_it(database, modules):
    """An account that begins with no rights gets what the errors name, until it can do everything."""
    modules.ok("sync_table", table="shop.a", **WRITE)
    database.execute("CREATE USER poor@localhost IDENTIFIED BY 'Poor-pass.1'")
    login = {"login_user": "poor", "login_password": "Poor-pass.1"}
    granted = []
    for options in (
        {**WORKER, "tables": ["shop.a"]},
        {**WORKER, "password": SECOND, "tables": ["shop.a"]},
        {**WORKER, "password": SECOND, "tables": ["shop.a"], "log_bin": False},
        {**DEFINER, "tables": ["shop.a"]},
        {**WORKER, "state": "absent", "tables": ["shop.a"]},
    ):
        while (result := modules.run("mysql_account", **login, **options)).get("failed"):
            needed = re.search(r"It needs: (GRANT .*)", result["msg"])
            if needed is None:
                assert "may not see it" in result["msg"], result["msg"]
                statement = "GRANT SELECT ON shop.a TO poor@localhost"
            else:
                statement = needed.group(1)
                assert "'poor'@'localhost' lacks a right" in result["msg"]
            assert statement not in granted, result["msg"]
            granted.append(statement)
            database.execute(statement)
    assert "GRANT CREATE USER ON *.* TO 'poor'@'localhost'" in granted
    assert "GRANT SELECT ON `shop`.`a` TO 'poor'@'localhost' WITH GRANT OPTION" in granted
    assert not [statement for statement in granted if " ALL " in statement or "SUPER" in statement]


def events(database):
    """What the newest file of the binary log has, an event each, without MariaDB's checkpoints, which come at
    any time.
    """
    name, *_sizes = database.execute("SHOW BINARY LOGS")[-1]
    rows = database.execute(f"SHOW BINLOG EVENTS IN '{name}'")
    return [row[-1] for row in rows if row[2] != "Binlog_checkpoint"]


def test_the_binary_log_has_what_is_for_replicas_and_no_more(database, modules):
    # Other tests have written events that no client can read.
    database.execute("FLUSH BINARY LOGS")
    before = len(events(database))
    modules.ok("mysql_account", **WORKER, tables=["shop.a"], log_bin=False)
    modules.ok("mysql_account", **{**WORKER, "password": SECOND}, log_bin=False)
    modules.ok("mysql_account", **DEFINER, tables=["shop.a"], outbox=False, log_bin=False)
    modules.ok("mysql_account", **WORKER, state="absent", tables=["shop.a"], log_bin=False)
    assert events(database)[before:] == []
    modules.ok("mysql_account", **WORKER, tables=["shop.a"])
    logged = "\n".join(events(database)[before:])
    assert "CREATE USER" in logged
    assert "GRANT SELECT ON `shop`.`a`" in logged
    assert FIRST not in logged


def test_a_backup_that_holds_the_accounts_is_waited_for_and_named(database, modules):
    with database.connect() as backup, backup.cursor() as cursor:
        cursor.execute("FLUSH TABLES WITH READ LOCK")
        result = modules.run("mysql_account", **WORKER, lock_wait_timeout=1)
        assert result["failed"]
        assert "lock_wait_timeout=1 s" in result["msg"]
        assert accounts(database) == []
        cursor.execute("UNLOCK TABLES")
    modules.ok("mysql_account", **WORKER)


def test_a_server_that_only_reads_is_named_as_a_replica(database, modules):
    database.execute(
        "CREATE USER poor@localhost IDENTIFIED BY 'Poor-pass.1'",
        "GRANT SELECT, CREATE USER ON *.* TO poor@localhost",
        "SET GLOBAL read_only = 1",
    )
    try:
        login = {"login_user": "poor", "login_password": "Poor-pass.1"}
        assert "made on the primary" in modules.refused("mysql_account", **login, **WORKER)
    finally:
        database.execute("SET GLOBAL read_only = 0")


def test_a_server_that_remembers_passwords_takes_the_first_one(database, modules):
    if database.engine == "mariadb":
        pytest.skip("MariaDB 10.11 has no password_history of its own")
    database.execute("SET GLOBAL password_history = 2")
    try:
        modules.ok("mysql_account", **WORKER)
        modules.ok("mysql_account", **{**WORKER, "password": SECOND})
        assert "was used before" in modules.refused("mysql_account", **WORKER)
    finally:
        database.execute("SET GLOBAL password_history = 0")
    assert can_log_in(modules, SECOND)


def locked(database, account="gearsync_definer@localhost"):
    ((text,),) = database.execute(f"SHOW CREATE USER {account}")
    return "ACCOUNT LOCK" in text


def test_life_of_a_definer(database, modules):
    """In the order of the role sync_triggers: rights, triggers, and the rights that none needs."""
    modules.ok("outbox")
    look = look_at(database, "gearsync_definer@localhost")
    before = {"grant": True, "revoke": False}
    after = {"grant": False, "revoke": True}
    modules.converge("mysql_account", look, **DEFINER, tables=["shop.a", "shop.b"], **before)
    assert locked(database)
    assert grants(database, "gearsync_definer@localhost") == [
        "GRANT INSERT ON `gearsync`.`outbox`",
        "GRANT SELECT, TRIGGER ON `shop`.`a`",
        "GRANT SELECT, TRIGGER ON `shop`.`b`",
        "GRANT USAGE ON *.*",
    ]
    definer = {"definer": "gearsync_definer@localhost"}
    direct = {**WRITE, "delivery": "direct", "function": "f", **definer}
    modules.ok("sync_table", table="shop.a", **WRITE, **definer)
    modules.ok("sync_table", table="shop.b", **direct)
    database.execute("ALTER USER gearsync_definer@localhost ACCOUNT UNLOCK")
    modules.ok("mysql_account", **DEFINER, tables=["shop.a", "shop.b"], **before)
    assert locked(database)
    # Triggers need what is not declared any more, until they are dropped.
    options = {"tables": ["shop.a"], "outbox": False}
    assert not modules.ok("mysql_account", **DEFINER, **options, **after)["changed"]
    remaining = {"remaining_tables": ["shop.a"]}
    predicted = modules.ok("mysql_account", check=True, **DEFINER, **options, **remaining, **after)["queries"]
    modules.ok("sync_table", table="shop.b", state="absent")
    modules.ok("sync_table", table="shop.a", **direct)
    result = modules.converge("mysql_account", look, **DEFINER, **options, **after)
    assert sorted(result["queries"]) == sorted(predicted)
    assert grants(database, "gearsync_definer@localhost") == [
        "GRANT SELECT, TRIGGER ON `shop`.`a`",
        "GRANT USAGE ON *.*",
    ]
    kept = modules.ok("mysql_account", **DEFINER, state="absent")
    assert not kept["changed"]
    assert "triggers of `shop`.`a` run as it" in str(kept["warnings"])
    modules.ok("sync_table", table="shop.a", state="absent")
    modules.converge("mysql_account", look, **DEFINER, state="absent")


def test_a_definer_keeps_what_others_triggers_need(database, modules):
    """Theirs read a table that is not of the triggers', for which the collection never grants."""
    modules.ok("mysql_account", **DEFINER, tables=["shop.a"], outbox=False)
    database.execute(
        "GRANT SELECT, TRIGGER ON shop.b TO gearsync_definer@localhost",
        "GRANT SELECT ON shop.c TO gearsync_definer@localhost",
        "CREATE DEFINER=gearsync_definer@localhost TRIGGER shop.theirs AFTER INSERT ON shop.b FOR EACH ROW "
        "SET @n = (SELECT COUNT(*) FROM shop.c)",
    )
    result = modules.ok("mysql_account", **DEFINER, tables=[], remaining_tables=[])
    assert result["queries"] == ["REVOKE SELECT, TRIGGER ON `shop`.`a` FROM 'gearsync_definer'@'localhost'"]
    database.execute("INSERT INTO shop.b VALUES (1)")


def test_a_definer_needs_an_outbox_that_is_there(database, modules):
    assert (
        "make it with the module outbox"
        in modules.refused("mysql_account", **DEFINER, tables=["shop.a"]).lower()
    )
    assert accounts(database) == []
    assert not modules.ok("mysql_account", **DEFINER, tables=["shop.a"], grant=False)["changed"]
    # An earlier task would have made it.
    assert modules.ok("mysql_account", check=True, **DEFINER, tables=["shop.a"])["changed"]
