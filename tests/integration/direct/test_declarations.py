# SPDX-License-Identifier: GPL-3.0-or-later
"""A declaration with direct delivery: its life, which are refused, and what is reported of others."""

import json

import pytest
from harness.direct import DECLARATION, HASH

pytestmark = pytest.mark.usefixtures("gearman")


@pytest.mark.usefixtures("table")
def test_life_of_a_declaration(database, modules, triggers, payloads):
    result = modules.converge("sync_table", triggers, **DECLARATION)
    assert result["triggers"] == {
        "insert": "gearsync_ai_t",
        "update": "gearsync_au_t",
        "delete": "gearsync_ad_t",
    }
    assert result["columns"] == {"id": "integer", "name": "text"}
    assert result["shared_keys"] == []
    assert result["blind_spots"] == []
    database.execute(
        "INSERT INTO shop.t (name) VALUES ('a')", "UPDATE shop.t SET name = 'b'", "DELETE FROM shop.t"
    )
    assert payloads() == [
        {"$gearsync": 1, "table": "shop.t", "event": "insert", "new": {"id": 1, "name": "a"}},
        {
            "$gearsync": 1,
            "table": "shop.t",
            "event": "update",
            "new": {"id": 1, "name": "b"},
            "old": {"id": 1},
        },
        {"$gearsync": 1, "table": "shop.t", "event": "delete", "old": {"id": 1}},
    ]

    modules.converge(
        "sync_table", triggers, **{**DECLARATION, "columns": ["id", "name", "city"], "function": "other"}
    )
    database.execute("INSERT INTO shop.t (name, city) VALUES ('a', 'b')")
    assert payloads() == []
    assert payloads("other") == [
        {"$gearsync": 1, "table": "shop.t", "event": "insert", "new": {"id": 2, "name": "a", "city": "b"}}
    ]

    # An event that is not declared any more.
    modules.converge("sync_table", triggers, **{**DECLARATION, "events": ["update"]})
    assert [row[0] for row in triggers()] == ["gearsync_au_t"]

    modules.converge("sync_table", triggers, table="shop.t", state="absent")
    assert triggers() == []


@pytest.mark.usefixtures("table")
def test_other_triggers_are_left_alone(database, modules, triggers):
    database.execute(
        "CREATE TRIGGER shop.mine AFTER INSERT ON shop.t FOR EACH ROW SET @mine = 1",
        "CREATE TABLE shop.u (id INT PRIMARY KEY)",
        "CREATE TRIGGER shop.gearsync_ai_u AFTER INSERT ON shop.u FOR EACH ROW SET @mine = 1",
    )
    before = triggers()
    modules.ok("sync_table", **DECLARATION)
    assert len(triggers()) == 5
    modules.ok("sync_table", table="shop.t", state="absent")
    assert triggers() == before


@pytest.mark.usefixtures("table")
def test_a_renamed_table_keeps_no_trigger_of_its_old_name(database, modules, triggers):
    modules.ok("sync_table", **DECLARATION)
    database.execute("RENAME TABLE shop.t TO shop.renamed")
    modules.ok("sync_table", **{**DECLARATION, "table": "shop.renamed"})
    assert [row[0] for row in triggers()] == [
        "gearsync_ad_renamed",
        "gearsync_ai_renamed",
        "gearsync_au_renamed",
    ]


def test_absent_for_a_table_that_is_gone(modules):
    assert not modules.ok("sync_table", table="shop.nosuch", state="absent")["changed"]


def test_a_partitioned_table(database, schema, modules, triggers):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(10)) PARTITION BY HASH (id) PARTITIONS 3"
    )
    modules.converge("sync_table", triggers, **DECLARATION)


BAD = [
    ({"table": "shop.nosuch"}, ["shop.nosuch", "does not exist"]),
    ({"table": "nowhere.t"}, ["nowhere.t", "schema nowhere does not exist"]),
    ({"table": "t"}, ["'t'", "schema.table"]),
    ({"table": "shop.v"}, ["shop.v", "view"]),
    ({"columns": ["id", "nosuch"]}, ["columns[1]", "'nosuch'", "id, name, city, secret"]),
    ({"columns": ["id", "naem"]}, ["columns[1]", "'naem'", "did you mean name?"]),
    ({"columns": ["id", "ID"]}, ["'ID'", "twice"]),
    ({"columns": []}, ["columns: is empty"]),
    ({"events": ["insert", "truncate"]}, ["'truncate'"]),
    ({"events": ["insert", "insert"]}, ["'insert'", "twice"]),
    ({"events": []}, ["events: is empty"]),
    ({"write": []}, ["write: is empty"]),
    ({"write": [{"type": "hash", "key": "t:{nr}"}]}, ["write[0].key", "'nr'", "not in columns"]),
    ({"write": [{"type": "hash", "key": "t:{id"}]}, ["write[0].key", "'t:{id'"]),
    ({"write": [{"type": "hsah", "key": "t:{id}"}]}, ["write[0].type", "'hsah'", "did you mean hash?"]),
    ({"write": [HASH, {"type": "json", "key": "t:{id}"}]}, ["write[1].key", "write[0]", "'t:{id}'"]),
    ({"write": [{"type": "string", "key": "t:{id}"}]}, ["write[0].key", "{column}", "value"]),
    ({"write": [{"type": "hash", "key": "t:{name}"}]}, ["write[0].key", "'t:{name}'", "unique", "(id)"]),
    ({"write": [{"type": "set", "key": "all"}]}, ["write[0].member"]),
    ({"write": [{"type": "hash", "key": "t:{id}", "ttl": 0}]}, ["write[0].ttl"]),
    ({"delivery": "fast"}, ["'fast'"]),
    ({"function": ""}, ["function: is empty"]),
    ({"definer": "nobody@nowhere"}, ["'nobody'@'nowhere'"]),
    (
        {"table": "shop.no_key", "columns": ["a"], "write": [{"type": "hash", "key": "t:{a}"}]},
        ["shop.no_key", "no usable key"],
    ),
    (
        {"table": "shop.null_key", "columns": ["a"], "write": [{"type": "hash", "key": "t:{a}"}]},
        ["shop.null_key", "no usable key"],
    ),
]


@pytest.mark.parametrize(("wrong", "words"), BAD)
@pytest.mark.usefixtures("table")
def test_a_wrong_declaration_is_refused_before_anything_changes(database, modules, triggers, wrong, words):
    database.execute(
        "CREATE VIEW shop.v AS SELECT * FROM shop.t",
        "CREATE TABLE shop.no_key (a INT, b INT)",
        "CREATE TABLE shop.null_key (a INT NULL UNIQUE)",
    )
    modules.ok("sync_table", **DECLARATION)
    before = triggers()
    for check in (True, False):
        if "definer" in wrong and check:
            continue  # an earlier task may be about to make the account
        message = modules.refused(
            "sync_table", check=check, **{**DECLARATION, "columns": ["id", "name"], **wrong}
        )
        for word in [wrong.get("table", "shop.t"), *words]:
            assert word in message
        assert triggers() == before


@pytest.mark.usefixtures("table")
def test_all_problems_are_reported_at_once(modules):
    result = modules.run(
        "sync_table",
        **{
            **DECLARATION,
            "events": ["truncate"],
            "write": [{"type": "hash", "key": "{nr}"}, {"type": "none", "key": "x"}],
        },
    )
    assert len(result["problems"]) == 3


@pytest.mark.usefixtures("table")
def test_without_the_gearman_functions(database, modules, triggers):
    modules.ok("mysql_udf", soname="libgearman_mysql_udf.so", state="absent")
    assert "mysql_udf" in modules.refused("sync_table", **DECLARATION)
    assert triggers() == []
    result = modules.ok("sync_table", check=True, **DECLARATION)
    assert result["changed"]
    assert "gman_do_background" in json.dumps(result["warnings"])


def test_a_score_of_a_type_without_numbers_is_refused(database, schema, modules, triggers):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, paid DATETIME, day DATE, moment TIMESTAMP NULL, hour "
        "TIME, note JSON, amount DECIMAL(5,2),"
        " grade ENUM('1', '2'), word VARCHAR(20))"
    )

    def scored(column, **more):
        write = {"type": "zset", "key": "z", "member": "{id}", "score": f"{{{column}}}"}
        return {**DECLARATION, "columns": ["id", column], "write": [write], **more}

    for column in ("paid", "day", "moment", "hour", "note"):
        assert f"is made of {column}, whose type" in modules.refused("sync_table", **scored(column))
        modules.ok("sync_table", check=True, **scored(column, transform="shop:epoch"))
    assert triggers() == []
    for column in ("amount", "grade", "word"):
        modules.ok("sync_table", **scored(column))


def test_blind_spots(database, schema, modules):
    database.execute(
        "CREATE TABLE shop.parent (id INT PRIMARY KEY)",
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name INT, FOREIGN KEY (name) REFERENCES shop.parent (id) "
        "ON DELETE SET NULL ON UPDATE CASCADE)",
        "CREATE TABLE shop.old (id INT PRIMARY KEY, name INT) ENGINE=MyISAM",
    )
    spots = modules.ok("sync_table", **DECLARATION)["blind_spots"]
    assert len(spots) == 2
    assert all("parent" in spot for spot in spots)
    assert "ON DELETE SET NULL" in spots[0]
    assert "ON UPDATE CASCADE" in spots[1]
    # A column that Redis does not have cannot be old there; a row that goes can.
    database.execute(
        "CREATE TABLE shop.child (id INT PRIMARY KEY, name INT, other INT, twice INT AS (other * 2),"
        " FOREIGN KEY gone (id) REFERENCES shop.parent (id) ON DELETE CASCADE, FOREIGN KEY (other) "
        "REFERENCES shop.parent (id) ON UPDATE CASCADE)"
    )
    child = {**DECLARATION, "table": "shop.child"}
    (spot,) = modules.ok("sync_table", **child)["blind_spots"]
    assert "ON DELETE CASCADE" in spot
    # One that is made of it can.
    assert (
        len(modules.ok("sync_table", **{**child, "columns": [*child["columns"], "twice"]})["blind_spots"])
        == 2
    )
    assert "MyISAM" in modules.ok("sync_table", **{**DECLARATION, "table": "shop.old"})["blind_spots"][0]
    before = database.execute("SELECT @@GLOBAL.binlog_format")[0][0]
    database.execute("SET GLOBAL binlog_format = 'STATEMENT'")
    try:
        assert any(
            "binlog_format=STATEMENT" in spot
            for spot in modules.ok("sync_table", **DECLARATION)["blind_spots"]
        )
    finally:
        database.execute(f"SET GLOBAL binlog_format = '{before}'")


def test_cascades_are_no_blind_spot_where_the_server_lets_them_fire_triggers(
    database, schema, modules, payloads
):
    if not database.execute("SHOW GLOBAL VARIABLES LIKE 'enable_cascade_triggers'"):
        pytest.skip("MySQL before 9.7, and MariaDB, cannot do that")
    database.execute(
        "CREATE TABLE shop.parent (id INT PRIMARY KEY)",
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name INT, FOREIGN KEY (name) REFERENCES shop.parent (id) "
        "ON DELETE SET NULL)",
    )
    assert "enable_cascade_triggers" in modules.ok("sync_table", **DECLARATION)["blind_spots"][0]
    database.execute("SET GLOBAL enable_cascade_triggers = ON")
    try:
        assert modules.ok("sync_table", **DECLARATION)["blind_spots"] == []
        database.execute("INSERT INTO shop.parent VALUES (1)", "INSERT INTO shop.t VALUES (7, 1)")
        payloads()
        database.execute("DELETE FROM shop.parent")
        assert payloads() == [
            {
                "$gearsync": 1,
                "table": "shop.t",
                "event": "update",
                "new": {"id": 7, "name": None},
                "old": {"id": 7},
            }
        ]
    finally:
        database.execute("SET GLOBAL enable_cascade_triggers = OFF")
