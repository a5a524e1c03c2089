# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of every type and size in the outbox."""

import json

import pytest
from harness.changes import named
from harness.column_types import COMMON, ONLY
from harness.durable import WRITE, changes, outbox

pytestmark = pytest.mark.usefixtures("gearman")


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
