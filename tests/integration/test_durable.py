# SPDX-License-Identifier: GPL-3.0-or-later
"""Durable delivery: what the triggers leave in the outbox, replayed in the order of its ids, must be what
the table holds.
"""

import contextlib
import json
import re

import pymysql
import pytest
from harness.changes import named
from harness.column_types import COMMON, ONLY
from harness.writers import Writers

pytestmark = pytest.mark.usefixtures("gearman")

WRITE = [{"type": "hash", "key": "t:{id}"}, {"type": "set", "key": "by-name:{name}", "member": "{id}"}]
DECLARATION = {"table": "shop.t", "columns": ["id", "name", "note"], "write": WRITE}
COLUMNS = "id, name, note"


@pytest.fixture(autouse=True)
def no_schema(database):
    """Every test begins on a server that has never heard of durable delivery."""
    database.execute("DROP DATABASE IF EXISTS gearsync")
    yield
    database.execute("DROP DATABASE IF EXISTS gearsync")


@pytest.fixture
def table(database, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), note "
        "VARCHAR(200), hidden INT UNIQUE) ENGINE=InnoDB"
    )
    return "shop.t"


@pytest.fixture
def synced(modules, table):
    modules.ok("sync_table", **DECLARATION)
    return table


def outbox(database):
    return database.execute(
        "SELECT shard, id, table_name, operation, payload FROM gearsync.outbox ORDER BY id"
    )


def changes(database):
    """What the changes in the outbox say, with their operations."""
    return [
        (operation, named(database, table, operation, payload))
        for _shard, _id, table, operation, payload in outbox(database)
    ]


class Replay:
    """A table as a reader of the outbox knows it: every shard in the order of its ids, one shard after
    the other.
    """

    def __init__(self, key):
        self.key = key
        self.rows = {}

    def read(self, database):
        found = outbox(database)
        for shard in sorted({row[0] for row in found}):
            for _shard, _id, table, operation, payload in (row for row in found if row[0] == shard):
                change = named(database, table, operation, payload)
                if operation == "delete":
                    self.rows.pop(self._identity(change["old"]), None)
                elif operation == "reload":
                    self.rows.pop(self._identity(change["key"]), None)
                    self.rows.update(self._look(database, change["key"]))
                else:
                    assert operation in {"insert", "update"}
                    self.rows[self._identity(change["new"])] = change["new"]
        database.execute("DELETE FROM gearsync.outbox")
        return sorted(tuple(row.values()) for row in self.rows.values())

    def _look(self, database, key):
        """The row as the table has it, by the SQL that workers are told."""
        ((name, row, schema, table),) = database.execute(
            "SELECT table_name, row_sql, source_schema, source_table FROM gearsync.synced_table"
        )
        found = database.execute(f"SELECT {row} FROM `{schema}`.`{table.replace('`', '``')}` AS gearsync_row")
        rows = [named(database, name, "refresh", text)["new"] for (text,) in found]
        return {self._identity(each): each for each in rows if self._identity(each) == self._identity(key)}

    def _identity(self, row):
        return tuple(json.dumps(row[column]) for column in self.key)


def check(database, replay, columns=COLUMNS, table="shop.t"):
    assert replay.read(database) == sorted(database.execute(f"SELECT {columns} FROM {table}"))


def test_life_of_a_durable_declaration(database, modules, triggers, table):
    def look():
        with contextlib.suppress(pymysql.MySQLError):
            return (
                triggers(),
                database.execute("SELECT * FROM gearsync.synced_table"),
                database.execute("SELECT shard FROM gearsync.lease ORDER BY shard"),
            )
        return triggers()

    result = modules.converge("sync_table", look, **DECLARATION)
    assert result["triggers"] == {
        "insert": "gearsync_ai_t",
        "update": "gearsync_au_t",
        "delete": "gearsync_ad_t",
    }
    assert [row[0] for row in look()[2]] == [6, 7, 8, 9]
    modules.converge("sync_table", look, **DECLARATION, shards=2)
    modules.converge("sync_table", look, **{**DECLARATION, "columns": ["id", "name"]})
    modules.converge("sync_table", look, **DECLARATION, delivery="direct", function="f")
    assert look()[1] == []
    modules.converge("sync_table", look, **DECLARATION, source="other")
    modules.converge("sync_table", look, table=table, state="absent")
    assert look()[:2] == ([], [])


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


ALTERATIONS = {
    "another type of text": ("MODIFY note LONGTEXT", "'x'"),
    "bytes": ("MODIFY note BLOB", "X'FF00FE'"),
    "a shorter text": ("MODIFY note VARCHAR(5)", "'x'"),
    "another character set": ("MODIFY note VARCHAR(200) CHARACTER SET latin1", "_latin1 X'E4'"),
    "a number": ("MODIFY note INT", "7"),
    "a document": ("MODIFY note JSON", "'{\"a\": 1}'"),
    "bits": ("MODIFY note BIT(9)", "257"),
    "a shape": ("MODIFY note GEOMETRY", "ST_GeomFromText('POINT(1 1)')"),
    "not null": ("MODIFY note VARCHAR(200) NOT NULL", "'x'"),
    "renamed": ("CHANGE note remark VARCHAR(200)", "'x'"),
    "dropped": ("DROP COLUMN note", None),
    "another primary key": (
        "DROP PRIMARY KEY, ADD KEY (id), MODIFY hidden INT NOT NULL, ADD PRIMARY KEY (hidden)",
        "'x'",
    ),
}


@pytest.mark.parametrize(("alter", "value"), ALTERATIONS.values(), ids=ALTERATIONS)
def test_no_write_fails_and_no_change_is_lost_when_a_column_was_altered(
    database, modules, synced, alter, value
):
    database.execute(f"ALTER TABLE shop.t {alter}")
    column = "remark" if "remark" in alter else "note"
    name, values = (f", {column}", f", {value}") if value else ("", "")
    database.execute(
        f"INSERT INTO shop.t (id, hidden{name}) VALUES (1, 10{values})",
        "UPDATE shop.t SET name = 'b'",
        "DELETE FROM shop.t",
        f"INSERT INTO shop.t (id, hidden{name}) VALUES (2, 20{values})",
    )
    # What cannot be sent is read by its key.
    changes = [(row[3], named(database, "shop.t", row[3], row[4])) for row in outbox(database)]
    keys = [
        change["key"]["id"] if operation == "reload" else change.get("new", change.get("old"))["id"]
        for operation, change in changes
    ]
    assert list(dict.fromkeys(keys)) == [1, 2]
    assert len(changes) >= 4
    # A run makes the triggers of the new columns, or refuses a declaration that is not of the table any more.
    if "PRIMARY" in alter:
        assert "unique key" in modules.refused("sync_table", **DECLARATION)
    elif column == "note" and value:
        modules.ok("sync_table", **DECLARATION)
        assert not modules.ok("sync_table", **DECLARATION)["changed"]
    else:
        assert "'note'" in modules.refused("sync_table", **DECLARATION)


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


def test_a_key_that_two_rows_would_share_is_refused(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (host VARCHAR(40), name VARCHAR(40), PRIMARY KEY (host, name)) ENGINE=InnoDB"
    )
    write = {"type": "hash", "key": "{host}:{name}"}
    message = modules.refused("sync_table", table="shop.t", columns=["host", "name"], write=[write])
    for words in ("shop.t", "write[0].key", "host='a', name='b:c'", "host='a:b', name='c'", "distinct: true"):
        assert words in message
    assert database.execute("SHOW DATABASES LIKE 'gearsync'") == []
    modules.ok("sync_table", table="shop.t", columns=["host", "name"], write=[{**write, "distinct": True}])


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


def test_a_changed_key_is_two_changes_each_in_its_shard(database, modules, table):
    modules.ok("sync_table", **DECLARATION, shards=64)
    database.execute("INSERT INTO shop.t (id, name) VALUES (1, 'a')", "UPDATE shop.t SET id = 2")
    first, gone, came = outbox(database)
    assert (gone[3], came[3]) == ("reload", "reload")
    assert gone[0] == first[0] != came[0]
    assert all(64 * 63 // 2 <= row[0] < 64 * 63 // 2 + 64 for row in (first, gone, came))


def test_tables_whose_writes_share_no_key_have_one_shard(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, email VARCHAR(40) NOT NULL UNIQUE) ENGINE=InnoDB"
    )
    modules.ok(
        "sync_table",
        table="shop.t",
        columns=["id", "email"],
        write=[{"type": "hash", "key": "id:{id}"}, {"type": "hash", "key": "mail:{email}"}],
    )
    database.execute(
        "INSERT INTO shop.t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')",
        "UPDATE shop.t SET id = id + 10",
    )
    assert len({row[0] for row in outbox(database)}) == 1
    assert {row[3] for row in outbox(database)} == {"insert", "reload"}


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


def test_a_missing_wake_function_fails_no_write(database, modules, synced):
    changes = [
        "INSERT INTO shop.t (id, name) VALUES (1, 'a')",
        "UPDATE shop.t SET id = 2",
        "DELETE FROM shop.t",
    ]
    database.execute(*changes)
    database.execute("DROP FUNCTION gman_wake")
    try:
        # With triggers that the server has read before, and with those that it reads now.
        database.execute(*changes)
        database.execute("FLUSH TABLES", *changes)
        assert [row[3] for row in outbox(database)] == ["insert", "reload", "reload", "delete"] * 3
        result = modules.ok("sync_table", **DECLARATION)
        assert not result["changed"]
        assert "gman_wake" in str(result["warnings"])
    finally:
        database.execute("CREATE FUNCTION gman_wake RETURNS INTEGER SONAME 'libgearman_mysql_udf.so'")


def test_a_change_that_cannot_be_kept_fails_the_write(database, synced):
    database.execute("RENAME TABLE gearsync.outbox TO gearsync.gone")
    with pytest.raises(pymysql.MySQLError):
        database.execute("INSERT INTO shop.t (id) VALUES (1)")
    assert database.execute("SELECT COUNT(*) FROM shop.t") == [(0,)]


def test_the_writers_insert_id_and_row_count_are_its_own(database, synced):
    database.execute(
        "INSERT INTO shop.t (id, name) VALUES (1, 'a')",
        "UPDATE shop.t SET name = 'b'",
        "UPDATE shop.t SET name = 'c'",
    )
    connection = database.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO shop.t (name) VALUES ('x'), ('y')")
        assert (cursor.lastrowid, cursor.rowcount) == (2, 2)
        cursor.execute("SELECT LAST_INSERT_ID()")
        assert cursor.fetchone() == (2,)
        cursor.execute("UPDATE shop.t SET id = id + 100")
        assert cursor.rowcount == 3


def test_an_insert_id_of_the_outbox_reaches_nobody(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(40), note VARCHAR(40)) ENGINE=InnoDB",
        "CREATE TABLE shop.other (id INT AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT=700",
    )
    modules.ok("sync_table", **DECLARATION)
    connection = database.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO shop.other VALUES (DEFAULT)")
        cursor.execute("INSERT INTO shop.t (id, name) VALUES (1, 'a'), (2, 'b')")
        assert (cursor.lastrowid, cursor.rowcount) == (0, 2)
        cursor.execute("UPDATE shop.t SET name = 'c'")
        cursor.execute("SELECT LAST_INSERT_ID(), @@warning_count")
        assert cursor.fetchone() == (700, 0)


def test_the_triggers_do_with_the_rights_that_the_role_grants(database, modules, table):
    modules.ok("outbox")
    database.execute(
        "DROP USER IF EXISTS keeper@localhost, writer@localhost",
        "CREATE USER keeper@localhost ACCOUNT LOCK",
        "CREATE USER writer@localhost",
        "GRANT TRIGGER, SELECT ON shop.t TO keeper@localhost",
        "GRANT INSERT ON gearsync.outbox TO keeper@localhost",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.t TO writer@localhost",
    )
    modules.ok("sync_table", **DECLARATION, definer="keeper@localhost")
    connection = pymysql.connect(unix_socket=database.socket, user="writer", autocommit=True)
    with connection, connection.cursor() as cursor:
        for statement in (
            "INSERT INTO shop.t (id, name) VALUES (1, 'a')",
            "UPDATE shop.t SET id = 2",
            "UPDATE shop.t SET name = 'b'",
            "DELETE FROM shop.t",
        ):
            cursor.execute(statement)
        with pytest.raises(pymysql.MySQLError):
            cursor.execute("SELECT * FROM gearsync.outbox")
    assert [row[3] for row in outbox(database)] == ["insert", "reload", "reload", "update", "delete"]


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


def test_every_type_in_the_outbox(database, modules, schema):
    columns = COMMON + ONLY[database.engine]
    names = [name for name, _kind, _value, _seen in columns]
    database.execute(
        "SET SESSION sql_mode = ''",
        "CREATE TABLE shop.t (id INT NOT NULL PRIMARY KEY, {}) ENGINE=InnoDB".format(
            ", ".join(f"`{name}` {kind}" for name, kind, _value, _seen in columns)
        ),
    )
    modules.ok(
        "sync_table", table="shop.t", columns=["id", *names], write=[{"type": "hash", "key": "t:{id}"}]
    )
    given = [(name, value) for name, _kind, value, _seen in columns if value is not None]
    database.execute(
        "SET SESSION sql_mode = '', SESSION time_zone = '-07:30'",
        "INSERT INTO shop.t (id, {}) VALUES (1, {})".format(
            ", ".join(f"`{name}`" for name, _value in given), ", ".join(value for _name, value in given)
        ),
    )
    ((*_rest, payload),) = outbox(database)
    assert named(database, "shop.t", "insert", payload)["new"] == {
        "id": 1,
        **{name: seen for name, _kind, _value, seen in columns},
    }
    ((row,),) = database.execute("SELECT row_sql FROM gearsync.synced_table")
    assert database.execute(f"SELECT {row} FROM shop.t AS gearsync_row")[0][0] == payload

    # Nothing changes, nothing is written; then every column changes alone.
    database.execute("DELETE FROM gearsync.outbox")
    database.execute(
        "SET SESSION sql_mode = ''",
        "UPDATE shop.t SET {}".format(", ".join(f"`{name}` = `{name}`" for name, _value in given)),
    )
    assert outbox(database) == []
    for name, _value in given:
        database.execute(f"UPDATE shop.t SET `{name}` = NULL")
    assert [row[3] for row in outbox(database)] == ["update"] * len(given)


def test_numbers_that_are_equal_but_not_the_same(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id DOUBLE PRIMARY KEY, f FLOAT) ENGINE=InnoDB",
        "INSERT INTO shop.t VALUES (0e0, -0e0)",
    )
    modules.ok("sync_table", table="shop.t", columns=["id", "f"], write=[{"type": "hash", "key": "t:{id}"}])
    ((shown, _f),) = database.execute("SELECT CAST(-id AS CHAR), f FROM shop.t")
    database.execute("UPDATE shop.t SET id = -id")
    # What a SELECT shows is what is compared: -0 on MySQL, 0 on MariaDB.
    assert [row[3] for row in outbox(database)] == (["reload", "reload"] if shown == "-0" else [])


def test_large_spatial_values_are_compared(database, modules, schema):
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, shape GEOMETRY) ENGINE=InnoDB")
    modules.ok(
        "sync_table", table="shop.t", columns=["id", "shape"], write=[{"type": "hash", "key": "t:{id}"}]
    )
    # In hexadecimal more than max_allowed_packet.
    points = int(database.execute("SELECT @@max_allowed_packet")[0][0]) // 2 // 16 + 1000

    def line(last):
        return (
            "CONCAT(X'000000000102000000', X'{}', REPEAT(X'000000000000F03F0000000000000040', {}), "
            "X'{}0000000000000040')"
        ).format(points.to_bytes(4, "little").hex(), points - 1, last)

    database.execute(
        "SET SESSION sql_mode = ''",
        f"INSERT INTO shop.t VALUES (1, {line('000000000000F03F')})",
        f"UPDATE shop.t SET shape = {line('000000000000F03F')}",
        f"UPDATE shop.t SET shape = {line('0000000000000040')}",
    )
    assert [row[3] for row in outbox(database)] == ["reload", "reload"]


def test_control_characters_six_times_as_long_in_words(database, modules, schema):
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, body LONGTEXT) ENGINE=InnoDB")
    modules.ok(
        "sync_table",
        table="shop.t",
        columns=["id", "body"],
        write=[{"type": "hash", "key": "t:{id}"}, {"type": "set", "key": "{body}", "member": "{id}"}],
    )
    size = int(database.execute("SELECT @@max_allowed_packet DIV 16")[0][0])
    database.execute(
        f"INSERT INTO shop.t VALUES (1, REPEAT(CHAR(1), {size})), (2, REPEAT(CHAR(1), {2 * size}))",
        f"UPDATE shop.t SET body = REPEAT(CHAR(2), {size}) WHERE id = 1",
        f"UPDATE shop.t SET body = REPEAT(CHAR(2), {2 * size}) WHERE id = 2",
    )
    assert [
        (operation, len(change.get("new", {"body": ""})["body"])) for operation, change in changes(database)
    ] == [("insert", size), ("insert", 2 * size), ("update", size), ("reload", 0)]


def test_a_large_text_is_read_as_it_is(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, body LONGTEXT CHARACTER SET utf16) ENGINE=InnoDB"
    )
    modules.ok(
        "sync_table", table="shop.t", columns=["id", "body"], write=[{"type": "hash", "key": "t:{id}"}]
    )
    count = int(database.execute("SELECT @@max_allowed_packet DIV 32")[0][0])
    database.execute(f"INSERT INTO shop.t VALUES (1, REPEAT(_utf8mb4 X'F09F98807A', {count}))")
    assert changes(database) == [("reload", {"key": {"id": 1}})]
    ((large,),) = database.execute("SELECT large_columns FROM gearsync.synced_table")
    ((text,),) = database.execute(f"SELECT {json.loads(large)[0]['sql']} FROM shop.t AS gearsync_row")
    assert text == "\U0001f600z" * count


def test_rows_that_are_divided_anew_get_other_shards(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL UNIQUE, note INT) ENGINE=InnoDB"
    )
    first, second = (
        {
            "table": "shop.t",
            "columns": ["id", "name", "note"],
            "write": [{"type": "hash", "key": f"t:{{{key}}}"}],
        }
        for key in ("id", "name")
    )

    def shards():
        database.execute(
            "INSERT INTO shop.t (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')"
        )
        found = {row[0] for row in outbox(database)}
        database.execute("DELETE FROM shop.t", "DELETE FROM gearsync.outbox")
        return found

    modules.ok("sync_table", **first)
    assert shards() <= {6, 7, 8, 9}
    # The number of shards is the same, but the changes of a row may be in others now.
    modules.ok("sync_table", **second)
    assert shards() <= {10, 11, 12, 13}
    assert {10, 11, 12, 13} <= {row[0] for row in database.execute("SELECT shard FROM gearsync.lease")}
    assert not modules.ok("sync_table", **second)["changed"]
    database.execute(
        "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (7, 'shop.t', 'insert', "
        "'{}')"
    )
    modules.ok("sync_table", **first)
    # Where one still waits nothing new is written.
    database.execute("INSERT INTO shop.t (id, name) VALUES (6, 'f')")
    assert 15 <= outbox(database)[1][0] <= 18


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


def test_what_durable_delivery_cannot_do_is_said(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name INT, note TEXT) ENGINE=MyISAM",
        "CREATE TABLE shop.u (id INT PRIMARY KEY, name INT, note TEXT) ENGINE=InnoDB PARTITION BY HASH (id) "
        "PARTITIONS 2",
    )
    if database.engine == "mysql" and database.execute("SELECT @@enforce_gtid_consistency") == [("ON",)]:
        assert "enforce_gtid_consistency" in modules.refused("sync_table", **DECLARATION)
    else:
        assert "rolled back" in str(modules.ok("sync_table", **DECLARATION)["blind_spots"])
    told = {
        "write": [{"type": "set", "key": "{note}", "member": "{id}:{slug}"}],
        "transform": "a.b:c",
        "computed": ["slug"],
    }
    spots = modules.ok("sync_table", **{**DECLARATION, "table": "shop.u", **told})["blind_spots"]
    for words in ("it has partitions", "'note' is in a key", "slug: what a.b:c computes"):
        assert any(words in spot for spot in spots), words


def test_a_key_that_a_worker_could_not_find_its_row_by_is_refused(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (name FLOAT PRIMARY KEY, id INT NOT NULL UNIQUE, note DOUBLE NOT NULL) "
        "ENGINE=InnoDB"
    )
    assert "'name' is a FLOAT" in modules.refused(
        "sync_table", **{**DECLARATION, "write": [{"type": "hash", "key": "t:{name}"}]}
    )
    modules.ok("sync_table", **{**DECLARATION, "write": [{"type": "hash", "key": "t:{id}"}]})


def test_a_name_that_the_outbox_cannot_take_is_refused(database, modules):
    # Its characters are doubled in the declaration.
    quoted = "`" + 40 * "``" + "`"
    database.execute(
        f"CREATE DATABASE {quoted}", f"CREATE TABLE {quoted}.{quoted} (id INT PRIMARY KEY) ENGINE=InnoDB"
    )
    try:
        message = modules.refused(
            "sync_table",
            table=f"{quoted}.{quoted}",
            columns=["id"],
            write=[{"type": "hash", "key": "t:{id}"}],
        )
    finally:
        database.execute(f"DROP DATABASE {quoted}")
    assert "the outbox takes 129" in message


def test_a_row_too_large_for_words_is_a_request_to_read_it(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(20), body LONGBLOB) ENGINE=InnoDB"
    )
    modules.ok("sync_table", table="shop.t", columns=["id", "name", "body"], write=WRITE)
    size = int(database.execute("SELECT @@max_allowed_packet DIV 8")[0][0])
    database.execute(
        f"INSERT INTO shop.t VALUES (1, 'a', REPEAT('x', {size})), (2, 'b', REPEAT('x', {size} + 1))",
        "UPDATE shop.t SET name = 'c', id = id + 10",
        "UPDATE shop.t SET name = 'd' WHERE id = 12",
        "DELETE FROM shop.t",
    )
    found = changes(database)
    by_id = {
        operation: change for operation, change in found if (change.get("key") or {}).get("id") in (2, 12)
    }
    assert by_id == {"reload": {"key": {"id": 12}, "old": {"id": 12, "name": "c"}}}
    assert [operation for operation, _change in found] == ["insert", *["reload"] * 6, "delete", "delete"]
    assert len(found[0][1]["new"]["body"]["$hex"]) == 2 * size
    ((sql, large),) = database.execute("SELECT small_sql, large_columns FROM gearsync.synced_table")
    database.execute("INSERT INTO shop.t VALUES (1, 'a', X'00FF')")
    bare = json.loads(large)[0]["sql"]
    assert database.execute(f"SELECT {sql}, {bare} FROM shop.t AS gearsync_row") == [
        ('{"id": 1, "name": "a"}', b"\x00\xff")
    ]


def test_old_values_of_a_type_that_may_be_large_are_told(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, mail VARCHAR(20) UNIQUE, name TEXT, body LONGTEXT) "
        "ENGINE=InnoDB"
    )
    modules.ok("sync_table", table="shop.t", columns=["id", "mail", "name", "body"], write=WRITE)
    large = f"REPEAT('x', {database.execute('SELECT @@max_allowed_packet DIV 8')[0][0]} + 1)"
    database.execute(
        "INSERT INTO shop.t VALUES (1, 'm', 'a', '')",
        f"UPDATE shop.t SET name = 'b', body = {large}",
        "UPDATE shop.t SET name = 'c', mail = 'n'",
        "UPDATE shop.t SET id = 2",
        "UPDATE shop.t SET body = ''",
        "DELETE FROM shop.t",
    )
    olds = [change.get("old", {}).get("name") for _operation, change in changes(database)]
    assert olds == [None, "a", "b", "c", None, "c", "c"]


def test_large_columns_need_a_key_to_find_the_row_by(modules, database, schema):
    database.execute("CREATE TABLE shop.t (a VARCHAR(20), body LONGTEXT) ENGINE=InnoDB")
    message = modules.refused(
        "sync_table", table="shop.t", columns=["a", "body"], write=[{"type": "string", "key": "{column}"}]
    )
    assert "body may be too large" in message


def test_what_workers_are_told_works_on_the_table(database, synced):
    database.execute("INSERT INTO shop.t (id, name, note) VALUES (7, 'a', NULL)")
    ((shard, row, old, large, key, schema, table),) = database.execute(
        "SELECT shard_sql, row_sql, old_sql, large_sql, key_columns, source_schema, source_table FROM "
        "gearsync.synced_table"
    )
    found = database.execute(
        f"SELECT {shard}, {row}, {old}, {large} FROM `{schema}`.`{table}` AS gearsync_row WHERE id = 7"
    )
    assert found[0][0] == outbox(database)[0][0]
    ((number,),) = database.execute("SELECT number FROM gearsync.synced_table")
    assert found[0][1] == outbox(database)[0][4] == f'[{number}, 7, "a", null]'
    assert json.loads(found[0][2]) == {"id": 7, "name": "a"}
    assert found[0][3] == 0
    assert json.loads(key) == [{"declared": "id", "real": "id", "kind": "integer"}]
    # And of a row that is not there.
    assert database.execute(f"SELECT {shard} FROM (SELECT 7 AS id) AS gearsync_row")[0][0] == found[0][0]


def test_switching_columns_and_shards_under_writers_loses_nothing(database, modules, synced):
    def write(cursor, writer, number):
        # Not REPLACE, which MariaDB may fail with 1062 while it replaces the table's triggers
        # (docs/architecture.md).
        cursor.execute(
            "INSERT INTO shop.t (id, name, note) VALUES (%s, %s, 'n') ON DUPLICATE KEY UPDATE name = "
            "VALUES(name)",
            (100 * writer + number % 20, str(number)),
        )

    with Writers(database, 4, write) as writers:
        for shards in (1, 3, 2, 4, 1):
            writers.go_on()
            modules.ok("sync_table", **DECLARATION, shards=shards, lock_wait_timeout=300)
        writers.go_on()
        modules.ok(
            "sync_table",
            **{**DECLARATION, "columns": ["id", "name", "note", "hidden"]},
            lock_wait_timeout=300,
        )
        writers.go_on()
        modules.ok("sync_table", **DECLARATION, lock_wait_timeout=300)
        writers.go_on()
    assert writers.errors == []
    # Whatever shard they are in, the changes of one row stand in the order of their ids.
    rows = {}
    for operation, change in changes(database):
        if operation == "delete":
            rows.pop(change["old"]["id"], None)
        else:
            rows[change["new"]["id"]] = change["new"]["name"]
    assert rows == dict(database.execute("SELECT id, name FROM shop.t"))


def test_switching_the_delivery_under_writers_loses_no_change(database, modules, synced, job_server):
    def write(cursor, writer, number):
        cursor.execute(
            "INSERT INTO shop.t (id, name) VALUES (%s, %s) ON DUPLICATE KEY UPDATE name = VALUES(name)",
            (writer + 1, f"{writer}-{number}"),
        )

    with Writers(database, 4, write) as writers:
        for delivery in ("direct", "durable", "direct", "durable"):
            writers.go_on()
            modules.ok("sync_table", **DECLARATION, delivery=delivery, lock_wait_timeout=300)
        writers.go_on()
    assert writers.errors == []
    kept = [change for _operation, change in changes(database)]
    sent = [json.loads(payload) for payload in job_server.jobs()]
    assert kept
    assert sent
    assert {change["new"]["name"] for change in kept + sent} == {
        f"{writer}-{number}" for writer, count in enumerate(writers.counts) for number in range(count)
    }


@pytest.mark.parametrize("end", [{"delivery": "direct", "function": "f"}, {"state": "absent"}])
@pytest.mark.parametrize("left", ["outbox", "dead_letter"])
def test_what_is_left_of_a_table_can_be_read_after_it_was_durable(database, modules, synced, end, left):
    def known():
        return database.execute("SELECT * FROM gearsync.synced_table")

    database.execute(
        "INSERT INTO shop.t (id, name) VALUES (1, 'a')",
        "DELETE FROM gearsync.outbox",
        "UPDATE shop.t SET id = 2",
    )
    if left == "dead_letter":
        database.execute(
            "INSERT INTO gearsync.dead_letter (id, shard, table_name, operation, payload, error)"
            " SELECT id, shard, table_name, operation, payload, 'x' FROM gearsync.outbox",
            "DELETE FROM gearsync.outbox",
        )
    (before,) = known()
    arguments = {"table": "shop.t", **end} if "state" in end else {**DECLARATION, **end}
    modules.converge("sync_table", known, **arguments)
    (after,) = known()
    assert [one == other for one, other in zip(before, after)].count(False) == 2
    # What the worker does with it in the end, and the next run.
    database.execute(f"DELETE FROM gearsync.{left}")
    assert modules.ok("sync_table", **arguments)["changed"]
    assert known() == []
    # Another switch before that is one as any other.
    modules.converge("sync_table", known, **DECLARATION)


def test_each_declaration_is_written_down_before_the_triggers_are_made_of_it(database, modules, synced):
    def numbers():
        (in_force,) = database.execute("SELECT number FROM gearsync.synced_table")
        return in_force[0], database.execute(
            "SELECT number, content FROM gearsync.numbered_declaration ORDER BY number"
        )

    assert numbers()[0] // 10_000 == 1
    fewer = {**DECLARATION, "columns": ["id", "name"]}
    queries = modules.ok("sync_table", **fewer)["queries"]
    # Not in force before all triggers are of it, and those that remove come first.
    assert queries[0].startswith("INSERT INTO `gearsync`.`numbered_declaration`")
    assert queries[-1].startswith("INSERT INTO `gearsync`.`synced_table`")
    made = [re.search("gearsync_a([iud])_t", query).group(1) for query in queries if "CREATE" in query]
    assert list(dict.fromkeys(made)) == ["d", "u", "i"]
    assert modules.ok("sync_table", **fewer)["changed"] is False
    modules.converge("sync_table", numbers, **{**DECLARATION, "write": [{**WRITE[0], "ttl": 5}, WRITE[1]]})
    # What was declared before is another declaration all the same.
    modules.converge("sync_table", numbers, **DECLARATION)
    in_force, known = numbers()
    assert in_force == known[3][0]
    assert [number // 10_000 for number, _content in known] == [1, 2, 3, 4]
    assert known[0][1] == known[3][1]
    assert known[0][0] % 10_000 == known[3][0] % 10_000
    # Which events are sent, and where to, is nothing that a change is understood by.
    modules.ok("sync_table", **DECLARATION, shards=2, events=["insert", "update"])
    assert numbers()[0] == in_force


def test_a_delete_tells_a_stream_the_whole_row(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(20), body LONGTEXT) ENGINE=InnoDB"
    )
    modules.ok(
        "sync_table", table="shop.t", columns=["id", "name", "body"], write=[{"type": "stream", "key": "log"}]
    )
    large = f"REPEAT('x', {database.execute('SELECT @@max_allowed_packet DIV 8')[0][0]} + 1)"
    database.execute(
        "INSERT INTO shop.t VALUES (1, 'a', 'b')",
        "UPDATE shop.t SET name = 'c'",
        "DELETE FROM shop.t",
        f"INSERT INTO shop.t VALUES (2, 'd', {large})",
        "DELETE FROM shop.t",
    )
    assert [change.get("old") for _operation, change in changes(database)] == [
        None,
        {},
        {"id": 1, "name": "c", "body": "b"},
        None,
        {"id": 2, "name": "d", "body": None},
    ]


def test_a_long_transaction_on_another_synced_table_holds_nobody_up(database, modules, synced):
    database.execute(
        "CREATE TABLE shop.u (id INT PRIMARY KEY, name VARCHAR(40), note VARCHAR(40)) ENGINE=InnoDB"
    )
    modules.ok("sync_table", **{**DECLARATION, "table": "shop.u"})
    connection = database.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("INSERT INTO shop.u (id) VALUES (1)")
        # That transaction has written to the outbox, which other tables' triggers write to as well.
        modules.ok("sync_table", **{**DECLARATION, "columns": ["id", "name"]}, lock_wait_timeout=60)
        modules.ok("sync_table", table="shop.t", state="absent", lock_wait_timeout=60)


def test_an_outbox_of_the_first_release_is_migrated_with_what_waits_in_it(database, modules, synced):
    database.execute(
        "ALTER TABLE gearsync.outbox DROP PRIMARY KEY, ADD PRIMARY KEY (shard, id), ADD KEY id (id)",
        "DELETE FROM gearsync.schema_version WHERE version > 4",
        "INSERT INTO shop.t (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    )
    waiting = outbox(database)
    assert len(waiting) == 3
    assert modules.ok("outbox", check=True, shards=2)["changed"]
    assert modules.ok("outbox", shards=2)["changed"]
    assert outbox(database) == waiting
    keys = (
        "SELECT INDEX_NAME, COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = "
        "'gearsync' AND TABLE_NAME = 'outbox'"
    )
    assert database.execute(keys) == [("PRIMARY", "id")]
    assert not modules.ok("outbox", shards=2)["changed"]
    # A run that was interrupted before it could note the version is finished by the next.
    database.execute("DELETE FROM gearsync.schema_version WHERE version > 4")
    assert modules.ok("outbox", shards=2)["changed"]
    assert database.execute(keys) == [("PRIMARY", "id")]
    database.execute("INSERT INTO shop.t (id, name) VALUES (4, 'd')")
    assert len(outbox(database)) == 4


def generations(database):
    ((stored,),) = database.execute("SELECT generations FROM gearsync.synced_table")
    return sorted(json.loads(stored))


def test_no_generation_of_an_interrupted_run_is_used_for_other_shards(database, modules, schema):
    database.execute(
        "CREATE TABLE shop.g (id INT PRIMARY KEY, a INT NOT NULL UNIQUE, b INT NOT NULL UNIQUE) ENGINE=InnoDB"
    )

    def by(column):
        return {
            "table": "shop.g",
            "columns": ["id", "a", "b"],
            "write": [{"type": "hash", "key": f"g:{{{column}}}"}],
        }

    modules.ok("sync_table", **by("id"))
    assert generations(database) == ["4"]
    with contextlib.closing(database.connect(autocommit=False)) as holder, holder.cursor() as cursor:
        cursor.execute("SELECT * FROM shop.g")
        assert "shop.g" in modules.refused("sync_table", **by("a"), lock_wait_timeout=1)
    # Some triggers could be those of that run.
    assert generations(database) == ["4", "5"]
    modules.ok("sync_table", **by("b"))
    assert generations(database) == ["6"]
    assert not modules.ok("sync_table", **by("b"))["changed"]


@pytest.mark.parametrize(
    "state",
    ["DROP COLUMN generations, DROP COLUMN column_types", "MODIFY generations LONGTEXT NULL"],
    ids=["before", "interrupted"],
)
def test_a_record_of_an_earlier_schema_gets_its_generation(database, modules, synced, state):
    ((sql, moment),) = database.execute("SELECT shard_sql, changed_at FROM gearsync.synced_table")
    # Without the columns, or when the migration stopped after it had added them.
    database.execute(
        "UPDATE gearsync.synced_table SET generations = NULL, column_types = NULL, changed_at = changed_at",
        f"ALTER TABLE gearsync.synced_table {state}",
        "DELETE FROM gearsync.schema_version WHERE version > 8",
    )
    # The module reads it before it migrates the schema.
    queries = modules.ok("sync_table", **DECLARATION, check=True)["queries"]
    assert not [query for query in queries if "TRIGGER" in query]
    assert modules.ok("outbox")["changed"]
    ((stored, after),) = database.execute("SELECT generations, changed_at FROM gearsync.synced_table")
    assert (json.loads(stored), after) == ({"4": sql}, moment)
    modules.ok("sync_table", **DECLARATION)
    assert not modules.ok("sync_table", **DECLARATION)["changed"]


def test_a_schema_of_another_origin_or_a_later_release_is_refused(database, modules, table):
    database.execute("CREATE DATABASE gearsync", "CREATE TABLE gearsync.mine (id INT)")
    assert "has not made" in modules.refused("sync_table", **DECLARATION)
    database.execute("DROP DATABASE gearsync")
    modules.ok("sync_table", **DECLARATION)
    database.execute("INSERT INTO gearsync.schema_version VALUES (99)")
    assert "version 99" in modules.refused("sync_table", **DECLARATION)


@pytest.mark.parametrize(
    "arguments",
    [
        {"shards": 0},
        {"shards": 257},
        {"source": "a b"},
        {"delivery": "sometimes"},
        {"computed": ["x"]},
        {"transform": "nothing"},
        {"computed": ["id"], "transform": "a:b"},
    ],
)
def test_bad_options_are_refused_before_anything_changes(database, modules, triggers, table, arguments):
    message = modules.refused("sync_table", **{**DECLARATION, **arguments})
    assert "shop.t" in message
    assert str(next(iter(arguments.values()))).strip("[]'") in message
    assert triggers() == []
    assert database.execute("SHOW DATABASES LIKE 'gearsync'") == []


def test_life_of_the_schema(database, modules):
    def look():
        with contextlib.suppress(pymysql.MySQLError):
            tables = database.execute(
                "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'gearsync' ORDER BY "
                "TABLE_NAME"
            )
            return tables, database.execute("SELECT shard FROM gearsync.lease")
        return ()

    modules.converge("outbox", look, shards=2)
    modules.converge("outbox", look, shards=3)
    modules.converge("outbox", look, state="absent")
    assert look() == ()


@pytest.mark.parametrize(
    "row",
    [
        "gearsync.outbox (shard, table_name, operation, payload) VALUES (0, 'a.b', 'insert', '{}')",
        (
            "gearsync.dead_letter (id, shard, table_name, operation, payload, error) VALUES (1, 0, 'a.b', "
            "'insert', '{}', '')"
        ),
    ],
)
def test_a_schema_with_changes_in_it_stays(database, modules, row):
    modules.ok("outbox")
    database.execute(f"INSERT INTO {row}")
    result = modules.ok("outbox", state="absent")
    assert not result["changed"]
    assert result["kept"]
    assert "was left" in str(result["warnings"])
    assert "1 to 256" in modules.refused("outbox", shards=0)
