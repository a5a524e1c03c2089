# SPDX-License-Identifier: GPL-3.0-or-later
"""What the jobs of direct delivery have in them."""

import json

import pytest
from harness.column_types import COMMON, ONLY
from harness.direct import DECLARATION, HASH

pytestmark = pytest.mark.usefixtures("gearman")


@pytest.mark.usefixtures("table")
def test_the_articles_mapping(database, modules, payloads):
    database.execute(
        "CREATE TABLE shop.user_list (NAME VARCHAR(64), PASSWORD VARCHAR(64))",
        "INSERT INTO shop.user_list VALUES ('troy', 'jane')",
    )
    result = modules.ok(
        "sync_table",
        table="shop.user_list",
        delivery="direct",
        events=["insert", "update", "delete"],
        columns=["name", "password"],
        write=[{"type": "string", "key": "{column}"}],
    )
    assert "every row writes the same Redis keys" in result["blind_spots"][0]
    assert result["shared_keys"] == ["{column}"]
    database.execute("UPDATE shop.user_list SET name='hello', password='world'", "DELETE FROM shop.user_list")
    assert payloads() == [
        {
            "$gearsync": 1,
            "table": "shop.user_list",
            "event": "update",
            "new": {"name": "hello", "password": "world"},
            "old": {},
        },
        {"$gearsync": 1, "table": "shop.user_list", "event": "delete", "old": {}},
    ]


@pytest.mark.usefixtures("table")
def test_old_values_of_all_columns_in_templates(database, modules, payloads):
    modules.ok(
        "sync_table",
        **{
            **DECLARATION,
            "columns": ["id", "name", "city"],
            "write": [HASH, {"type": "zset", "key": "by-city:{city}", "member": "{id}", "score": "{id}"}],
        },
    )
    database.execute("INSERT INTO shop.t (name, city) VALUES ('a', 'x')", "UPDATE shop.t SET city = NULL")
    assert payloads()[1] == {
        "$gearsync": 1,
        "table": "shop.t",
        "event": "update",
        "new": {"id": 1, "name": "a", "city": None},
        "old": {"id": 1, "city": "x"},
    }


@pytest.mark.usefixtures("table")
def test_the_sql_of_a_job_gives_what_the_trigger_sends(database, modules, payloads):
    """For the playbook smoke, which sends a row once more."""
    wanted = {
        **DECLARATION,
        "write": [{"type": "zset", "key": "t:{name}", "member": "OLD.`{id}` NEW.", "score": "{id}"}],
    }
    job = modules.ok("sync_table", **wanted)["job"]
    database.execute(
        "INSERT INTO shop.t (name) VALUES ('NEW.`name`')",
        "UPDATE shop.t SET name = 'OLD.`name`'",
        "UPDATE shop.t SET name = name",
    )
    update = payloads()[1]
    ((mode,),) = database.execute(
        "SELECT SQL_MODE FROM information_schema.TRIGGERS WHERE TRIGGER_NAME = 'gearsync_au_t'"
    )
    assert job["sql_mode"] == mode
    ((payload,),) = database.execute(f"SELECT {job['payload_sql']} FROM shop.t AS gearsync_row")
    # The row as it is now is both before and after.
    assert json.loads(payload) == {**update, "old": {"id": 1, "name": "OLD.`name`"}}
    assert "job" not in modules.ok("sync_table", **{**wanted, "delivery": "durable"})


@pytest.mark.usefixtures("table")
def test_only_changes_of_declared_columns_are_sent(database, modules, payloads):
    modules.ok("sync_table", **DECLARATION)
    database.execute("INSERT INTO shop.t (name, city) VALUES ('abc', 'x')")
    payloads()
    for statement, sent in (
        ("city = 'y'", 0),
        ("name = 'abc'", 0),
        ("name = 'ABC'", 1),
        ("name = 'ABC '", 1),
        ("name = 'ABC '", 0),
        ("name = NULL", 1),
        ("name = NULL", 0),
        ("name = ''", 1),
        ("id = 7", 1),
        ("name = 'a\u0301'", 1),
        ("name = '\u00e1'", 1),
    ):
        database.execute(f"UPDATE shop.t SET {statement}")
        assert len(payloads()) == sent, statement


@pytest.fixture
def typed(database, schema, modules):
    """A table with every type of the server, declared whole."""
    columns = COMMON + ONLY[database.engine]
    database.execute(
        "SET SESSION sql_mode = ''",
        "CREATE TABLE shop.t (id INT NOT NULL PRIMARY KEY, {})".format(
            ", ".join(f"`{name}` {kind}" for name, kind, _value, _seen in columns)
        ),
    )
    modules.ok(
        "sync_table", **{**DECLARATION, "columns": ["id", *(name for name, _kind, _value, _seen in columns)]}
    )
    return columns


def test_every_type(database, typed, payloads):
    given = [(name, value) for name, _kind, value, _seen in typed if value is not None]
    database.execute(
        "SET SESSION sql_mode = ''",
        "INSERT INTO shop.t (id, {}) VALUES (1, {})".format(
            ", ".join(f"`{name}`" for name, _value in given), ", ".join(value for _name, value in given)
        ),
    )
    (payload,) = payloads()
    for name, kind, value, seen in typed:
        assert payload["new"][name] == seen, f"{name} {kind} {value}"

    # Nothing has changed, and nothing is sent; then every column changes alone, to NULL, and is sent.
    database.execute(
        "SET SESSION sql_mode = ''",
        "UPDATE shop.t SET {}".format(", ".join(f"`{name}` = `{name}`" for name, _value in given)),
    )
    assert payloads() == []
    for name, _value in given:
        database.execute(f"UPDATE shop.t SET `{name}` = NULL")
        (payload,) = payloads()
        empty = payload["new"][name]
        assert empty is None or list(empty.values()) == [None], name


def test_decimals_keep_their_scale(database, schema, modules, job_server):
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, d DECIMAL(65,30), e DECIMAL(10,2))")
    modules.ok("sync_table", **{**DECLARATION, "columns": ["id", "d", "e"]})
    database.execute(
        "INSERT INTO shop.t VALUES (1, 12345678901234567890123456789012345.5, 1)",
        "INSERT INTO shop.t VALUES (2, -0.5, -1.10)",
    )
    texts = [payload.decode().replace(" ", "") for payload in job_server.jobs()]
    assert '"d":12345678901234567890123456789012345.500000000000000000000000000000' in texts[0]
    assert '"e":1.00' in texts[0]
    assert '"d":-0.500000000000000000000000000000' in texts[1]
    assert '"e":-1.10' in texts[1]


@pytest.mark.parametrize("zone", ["SYSTEM", "+05:30", "-11:00"])
def test_timestamps_are_utc_in_every_session(database, schema, modules, payloads, zone):
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, seen TIMESTAMP(6) NULL)")
    modules.ok("sync_table", **{**DECLARATION, "columns": ["id", "seen"]})
    database.execute(
        f"SET SESSION time_zone = '{zone}'", "INSERT INTO shop.t VALUES (1, FROM_UNIXTIME(1729992600.5))"
    )
    assert payloads()[0]["new"]["seen"] == "2024-10-27 01:30:00.500000"
    # Both hours are shown as 02:30 in the server's own zone, and are not the same moment.
    if database.engine == "mysql":
        change = ["UPDATE shop.t SET seen = '2024-10-27 00:30:00.5+00:00'"]
    else:
        change = [
            "CREATE TABLE shop.moments (seen TIMESTAMP(6) NULL)",
            "SET SESSION time_zone = '+00:00'",
            "INSERT INTO shop.moments VALUES ('2024-10-27 00:30:00.5')",
            f"SET SESSION time_zone = '{zone}'",
            "UPDATE shop.t, shop.moments SET t.seen = moments.seen",
        ]
    database.execute(f"SET SESSION time_zone = '{zone}'", *change)
    assert [payload["new"]["seen"] for payload in payloads()] == ["2024-10-27 00:30:00.500000"]


@pytest.mark.parametrize("name", ["order items", "a`b", 'a"b', "a'b", "größe", "select", "x" * 64])
@pytest.mark.usefixtures("schema")
def test_names_that_need_quoting(database, modules, triggers, payloads, name):
    quoted = "`" + name.replace("`", "``") + "`"
    database.execute(f"CREATE TABLE shop.{quoted} (`key` INT PRIMARY KEY, {quoted} VARCHAR(20))")
    declared = f"shop.{name}" if "`" not in name else f"shop.{quoted}"
    wanted = {
        **DECLARATION,
        "table": declared,
        "columns": ["key", name],
        "write": [{"type": "hash", "key": "t:{key}"}],
    }
    modules.converge("sync_table", triggers, **wanted)
    assert all(len(row[0]) <= 64 for row in triggers())
    for mode in ("", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"):
        database.execute(f"SET SESSION sql_mode = '{mode}'", f"REPLACE INTO shop.{quoted} VALUES (1, 'v')")
        assert payloads()[-1] == {
            "$gearsync": 1,
            "table": declared,
            "event": "insert",
            "new": {"key": 1, name: "v"},
        }
    modules.converge("sync_table", triggers, table=declared, state="absent")
    assert triggers() == []
