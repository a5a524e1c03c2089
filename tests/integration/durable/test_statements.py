# SPDX-License-Identifier: GPL-3.0-or-later
"""Durable delivery: what the triggers leave in the outbox, replayed in the order of its ids, must be what
the table holds.
"""

import contextlib

import pymysql
import pytest
from harness.durable import DECLARATION, Replay, outbox

pytestmark = pytest.mark.usefixtures("gearman")


def check(database, replay, columns="id, name, note", table="shop.t"):
    assert replay.read(database) == sorted(database.execute(f"SELECT {columns} FROM {table}"))


STATEMENTS = {
    "multi-row insert": ["INSERT INTO shop.t (id, name) VALUES (10, 'a'), (11, 'b'), (12, NULL)"],
    "on duplicate key": [
        (
            "INSERT INTO shop.t (id, name) VALUES (1, 'x'), (20, 'y') ON DUPLICATE KEY UPDATE name = "
            "CONCAT(VALUES(name), '!')"
        )
    ],
    "on duplicate key of another key": [
        (
            "INSERT INTO shop.t (id, name, hidden) VALUES (30, 'x', 1) ON DUPLICATE KEY UPDATE name = "
            "'second', id = 31"
        )
    ],
    "replace": [
        "REPLACE INTO shop.t (id, name) VALUES (1, 'replaced'), (40, 'new')",
        "REPLACE INTO shop.t (id, name, hidden) VALUES (41, 'took 2', 2)",
    ],
    "insert ignore": ["INSERT IGNORE INTO shop.t (id, name) VALUES (1, 'no'), (50, 'yes')"],
    "update ignore of all": [
        "UPDATE IGNORE shop.t SET id = id + 1 ORDER BY id",
        "UPDATE IGNORE shop.t SET id = id + 1, name = 'moved' ORDER BY id",
    ],
    "update limit": [
        "UPDATE shop.t SET name = 'x', note = 'y' ORDER BY id DESC LIMIT 2",
        "DELETE FROM shop.t ORDER BY id LIMIT 1",
    ],
    "multi-table update": [
        "UPDATE shop.t a JOIN shop.t b ON b.id = a.id + 1 SET a.name = b.name, b.note = a.name"
    ],
    "multi-table delete": [
        "USE shop",
        "DELETE a, b FROM shop.t a JOIN shop.t b ON b.id = a.id + 1 WHERE a.id = 1",
    ],
    "savepoint": [
        "START TRANSACTION",
        "INSERT INTO shop.t (id) VALUES (60)",
        "SAVEPOINT s",
        "UPDATE shop.t SET name = 'gone'",
        "DELETE FROM shop.t WHERE id = 2",
        "ROLLBACK TO SAVEPOINT s",
        "INSERT INTO shop.t (id) VALUES (61)",
        "COMMIT",
    ],
    "rollback": [
        "START TRANSACTION",
        "UPDATE shop.t SET name = 'gone'",
        "DELETE FROM shop.t",
        "INSERT INTO shop.t (id) VALUES (70)",
        "ROLLBACK",
    ],
    "xa": [
        "XA START 'x'",
        "UPDATE shop.t SET name = 'xa' WHERE id = 1",
        "XA END 'x'",
        "XA PREPARE 'x'",
        "XA COMMIT 'x'",
        "XA START 'y'",
        "UPDATE shop.t SET name = 'never' WHERE id = 1",
        "XA END 'y'",
        "XA PREPARE 'y'",
        "XA ROLLBACK 'y'",
    ],
    "key swap": [
        "START TRANSACTION",
        "UPDATE shop.t SET id = 99 WHERE id = 1",
        "UPDATE shop.t SET id = 1 WHERE id = 2",
        "UPDATE shop.t SET id = 2 WHERE id = 99",
        "COMMIT",
    ],
    "key shift": ["UPDATE shop.t SET id = id + 1 ORDER BY id DESC"],
    "insert select": ["INSERT INTO shop.t (name, note) SELECT name, 'copy' FROM shop.t"],
    "update ignore": [
        "UPDATE IGNORE shop.t SET id = id + 1, name = 'moved' WHERE id = 1",
        "UPDATE IGNORE shop.t SET id = id + 1 WHERE id > 1 ORDER BY id",
    ],
    "update ignore of another key": [
        "UPDATE IGNORE shop.t SET hidden = 2, name = 'never' WHERE id = 1",
        "UPDATE shop.t SET hidden = 9, name = 'yes' WHERE id = 2",
    ],
    "other session settings": [
        "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "UPDATE shop.t SET name = 'a\\b''c\"d'",
        "SET NAMES latin1",
        "UPDATE shop.t SET note = CONCAT(name, CHAR(228 USING latin1))",
        "SET NAMES utf8mb4",
    ],
    "statement that fails half way": ["INSERT INTO shop.t (id, name) VALUES (80, 'a'), (1, 'duplicate')"],
}


@pytest.mark.parametrize("statements", STATEMENTS.values(), ids=STATEMENTS)
def test_what_users_run_is_in_the_outbox_row_by_row(database, synced, statements):
    database.execute(
        "INSERT INTO shop.t (id, name, note, hidden) VALUES (1, 'one', NULL, 1), (2, 'two', 'x', 2), (3, "
        "'zoë 😀', '', 3)"
    )
    replay = Replay(["id"])
    check(database, replay)
    with contextlib.suppress(pymysql.IntegrityError):
        database.execute(*statements)
    check(database, replay)


def test_a_deleted_portion_of_a_period_leaves_what_remains(database, modules, schema):
    if database.engine != "mariadb":
        pytest.skip("MySQL has no periods")
    database.execute(
        "CREATE TABLE shop.t (id INT, name VARCHAR(40), s DATE, e DATE, PERIOD FOR valid (s, e), PRIMARY "
        "KEY (id, s)) ENGINE=InnoDB"
    )
    modules.ok(
        "sync_table",
        table="shop.t",
        columns=["id", "name", "s"],
        write=[{"type": "hash", "key": "t:{id}:{s}"}],
    )
    replay = Replay(["id", "s"])
    database.execute(
        "INSERT INTO shop.t VALUES (1, 'a', '2026-01-01', '2026-12-31'), (2, 'b', '2026-01-01', "
        "'2026-12-31')",
        "DELETE FROM shop.t FOR PORTION OF valid FROM '2026-03-01' TO '2026-04-01' WHERE id = 1",
        "UPDATE shop.t FOR PORTION OF valid FROM '2026-03-01' TO '2026-04-01' SET name = 'c' WHERE id = 2",
    )
    assert replay.read(database) == sorted(database.execute("SELECT id, name, CAST(s AS CHAR) FROM shop.t"))
    database.execute("DELETE FROM shop.t")
    assert replay.read(database) == []


def test_a_dump_is_loaded_without_lock_tables_while_others_write(database, modules, synced):
    """With LOCK TABLES MySQL makes the writers of other synced tables wait, and MariaDB refuses the dump
    when somebody has read the outbox.
    """
    database.execute("CREATE TABLE shop.u (id INT PRIMARY KEY) ENGINE=InnoDB")
    modules.ok("sync_table", table="shop.u", columns=["id"], write=[{"type": "hash", "key": "u:{id}"}])
    load = "INSERT INTO shop.t (id, name) VALUES (1, 'a'), (2, 'b')"
    # A worker, or anyone else, has read the outbox.
    outbox(database)
    with (
        database.connect() as loader,
        database.connect() as writer,
        loader.cursor() as loads,
        writer.cursor() as writes,
    ):
        writes.execute("SET SESSION lock_wait_timeout = 1")
        loads.execute("LOCK TABLES shop.t WRITE")
        stopped = []
        for cursor, statement in ((loads, load), (writes, "INSERT INTO shop.u VALUES (1)")):
            try:
                cursor.execute(statement)
            except pymysql.MySQLError as error:
                stopped.append(error.args[0])
        assert stopped == ([1442] if database.engine == "mariadb" else [1205])
        loads.execute("UNLOCK TABLES")
        database.execute("DELETE FROM shop.t", "DELETE FROM shop.u", "DELETE FROM gearsync.outbox")
        # The way round: the same statements without that one.
        outbox(database)
        loads.execute("START TRANSACTION")
        loads.execute(load)
        writes.execute("INSERT INTO shop.u VALUES (2)")
        loads.execute("COMMIT")
    assert [(row[2], row[3]) for row in outbox(database)] == [("shop.t", "insert")] * 2 + [
        ("shop.u", "insert")
    ]


def test_load_data_is_in_the_outbox(database, synced, tmp_path):
    file = tmp_path / "rows.txt"
    file.write_text("1\ta\n2\tb\n3\tc\n", encoding="utf-8")
    database.execute("SET GLOBAL local_infile = ON", "INSERT INTO shop.t (id, name) VALUES (2, 'before')")
    connection = database.connect(local_infile=True)
    with connection, connection.cursor() as cursor:
        cursor.execute(f"LOAD DATA LOCAL INFILE '{file}' REPLACE INTO TABLE shop.t (id, name)")
    assert sorted(database.execute("SELECT id, name FROM shop.t")) == [(1, "a"), (2, "b"), (3, "c")]
    check(database, Replay(["id"]))


def test_an_update_that_changes_nothing_declared_writes_nothing(database, synced):
    database.execute("INSERT INTO shop.t (id, name) VALUES (1, 'a')", "DELETE FROM gearsync.outbox")
    database.execute("UPDATE shop.t SET hidden = 5", "UPDATE shop.t SET name = name")
    assert outbox(database) == []
    database.execute("UPDATE shop.t SET name = 'A'")
    assert [row[3] for row in outbox(database)] == ["update"]


@pytest.mark.parametrize("mode", ["", "ANSI_QUOTES", "NO_BACKSLASH_ESCAPES,ANSI_QUOTES"])
def test_names_that_need_quoting(database, modules, schema, mode):
    name, key, column = "or`der \"x'y größe", "se`lect", "o'r\"der b\\y"
    quoted, real_key, real = (f"`{each.replace('`', '``')}`" for each in (name, key, column))
    database.execute(
        f"CREATE TABLE shop.{quoted} ({real_key} VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY, {real} INT) "
        "ENGINE=InnoDB"
    )
    modules.ok(
        "sync_table",
        table=f"shop.{quoted}",
        columns=[key, column],
        write=[{"type": "hash", "key": f"x:{{{key}}}"}],
    )
    database.execute(
        f"SET SESSION sql_mode = '{mode}'",
        f"INSERT INTO shop.{quoted} VALUES (_utf8mb4 X'C3A4', 1)",
        f"UPDATE shop.{quoted} SET {real} = 2",
        f"UPDATE shop.{quoted} SET {real_key} = 'b'",
    )
    check(database, Replay([key]), columns=f"{real_key}, {real}", table=f"shop.{quoted}")


def test_a_table_with_triggers_of_its_own(database, modules, table):
    database.execute(
        "CREATE TABLE shop.log (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(40))",
        "CREATE TRIGGER shop.tidy BEFORE INSERT ON shop.t FOR EACH ROW SET NEW.name = UPPER(NEW.name)",
        "CREATE TRIGGER shop.mine AFTER INSERT ON shop.t FOR EACH ROW INSERT INTO shop.log (what) VALUES "
        "(NEW.name)",
    )
    modules.ok("sync_table", **DECLARATION)
    database.execute(
        "CREATE TRIGGER shop.later AFTER INSERT ON shop.t FOR EACH ROW INSERT INTO shop.log (what) VALUES "
        "(NEW.id)",
        "CREATE TRIGGER shop.from_log AFTER DELETE ON shop.log FOR EACH ROW UPDATE shop.t SET note = "
        "OLD.what WHERE id = 1",
    )
    database.execute(
        "INSERT INTO shop.t (id, name) VALUES (1, 'a'), (2, 'b')", "DELETE FROM shop.log WHERE id = 1"
    )
    assert len(outbox(database)) == 3
    check(database, Replay(["id"]))
    assert database.execute("SELECT name, note FROM shop.t WHERE id = 1") == [("A", "A")]


@pytest.mark.parametrize(
    "clause",
    [
        "",
        (
            ", b TIMESTAMP(6) GENERATED ALWAYS AS ROW START, e TIMESTAMP(6) GENERATED ALWAYS AS ROW "
            "END, PERIOD FOR SYSTEM_TIME (b, e)"
        ),
    ],
)
def test_a_table_with_system_versions(database, modules, schema, clause):
    if database.engine != "mariadb":
        pytest.skip("MySQL has none")
    database.execute(
        f"CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(40), note INT{clause}) ENGINE=InnoDB WITH "
        "SYSTEM VERSIONING"
    )
    modules.ok("sync_table", **DECLARATION)
    database.execute(
        "INSERT INTO shop.t (id, name) VALUES (1, 'a'), (2, 'b')",
        "UPDATE shop.t SET name = 'c' WHERE id = 1",
        "DELETE FROM shop.t WHERE id = 2",
        "DELETE HISTORY FROM shop.t",
    )
    assert len(outbox(database)) == 4
    check(database, Replay(["id"]))
