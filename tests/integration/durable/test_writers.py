# SPDX-License-Identifier: GPL-3.0-or-later
"""What those who write to a table with durable delivery notice of its triggers, and what a run of the
module loses of their writes: nothing.
"""

import json

import pymysql
import pytest
from harness.durable import DECLARATION, changes, outbox
from harness.writers import Writers

pytestmark = pytest.mark.usefixtures("gearman")


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
