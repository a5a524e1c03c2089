# SPDX-License-Identifier: GPL-3.0-or-later
"""A declaration with durable delivery: its life, what workers are told of it, and which are refused."""

import contextlib
import json
import re

import pymysql
import pytest
from harness.changes import named
from harness.durable import DECLARATION, WRITE, outbox

pytestmark = pytest.mark.usefixtures("gearman")


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


def test_several_tables_are_declared_in_one_step(database, modules, triggers, table):
    database.execute("CREATE TABLE shop.u (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    other = {"table": "shop.u", "columns": ["id"], "write": [{"type": "hash", "key": "u:{id}"}]}
    modules.ok("outbox")
    tables = [DECLARATION, other]
    predicted = modules.ok("sync_table", check=True, tables=tables)
    assert triggers() == []
    made = modules.ok("sync_table", tables=tables)
    assert made["queries"] == predicted["queries"]
    assert made["diff"] == predicted["diff"]
    assert [difference["after_header"] for difference in made["diff"]] == [table, "shop.u"]
    assert [(each["table"], sorted(each["triggers"].values())) for each in made["tables"]] == [
        (name, [f"gearsync_{event}_{name[-1]}" for event in ("ad", "ai", "au")]) for name in (table, "shop.u")
    ]
    # As one at a time does it.
    for each in tables:
        assert not modules.ok("sync_table", **each)["changed"]
    again = modules.ok("sync_table", tables=tables)
    assert (again["changed"], again["diff"]) == (False, [])

    changed = modules.ok("sync_table", tables=[DECLARATION, {**other, "columns": ["id", "name"]}])
    assert len(changed["diff"]) == 1
    assert "gearsync_au_u" in changed["diff"][0]["after"]
    modules.ok("sync_table", tables=[{"table": table}, {"table": "shop.u"}], state="absent")
    assert triggers() == []


def test_a_refused_table_does_not_keep_others_from_their_triggers(database, modules, triggers, table):
    missing = [
        {**DECLARATION, "table": name, "write": [{"type": "hash", "key": f"{name}:{{id}}"}]}
        for name in ("shop.no", "shop.none")
    ]
    refused = modules.run("sync_table", tables=[missing[0], DECLARATION, missing[1]])
    assert "table shop.no: the table does not exist" in refused["msg"]
    assert "table shop.none: the table does not exist" in refused["msg"]
    assert len(refused["problems"]) == 2
    assert len(refused["queries"]) > 0
    assert [row[0] for row in triggers()] == ["gearsync_ad_t", "gearsync_ai_t", "gearsync_au_t"]


def test_a_locked_table_does_not_keep_others_from_their_triggers(database, modules, triggers, table):
    database.execute("CREATE TABLE shop.u (id INT PRIMARY KEY) ENGINE=InnoDB")
    other = {"table": "shop.u", "columns": ["id"], "write": [{"type": "hash", "key": "u:{id}"}]}
    with database.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT * FROM shop.t")
        failed = modules.run("sync_table", tables=[DECLARATION, other], lock_wait_timeout=2)
        connection.rollback()
    assert "table shop.t: no lock within lock_wait_timeout=2 s" in failed["msg"]
    assert "blocked_by" in failed
    assert {row[0] for row in triggers()} == {"gearsync_ad_u", "gearsync_ai_u", "gearsync_au_u"}
    modules.ok("sync_table", tables=[DECLARATION, other], lock_wait_timeout=2)
    assert len(triggers()) == 6


@pytest.mark.usefixtures("table")
def test_options_of_several_tables_are_refused_before_anything_changes(modules, triggers):
    assert "declared twice" in modules.refused(
        "sync_table", tables=[DECLARATION, {**DECLARATION, "table": "`shop`.t"}]
    )
    wrong = modules.refused(
        "sync_table",
        tables=[
            DECLARATION,
            {**DECLARATION, "table": "nothing"},
            {**DECLARATION, "table": "shop.u", "columns": []},
        ],
    )
    assert "table nothing: " in wrong
    assert "table shop.u: columns" in wrong
    assert "mutually exclusive" in modules.refused("sync_table", tables=[DECLARATION], table="shop.t")
    assert "mutually exclusive" in modules.refused("sync_table", tables=[DECLARATION], columns=["id"])
    assert "one of the following is required: table, tables" in modules.refused("sync_table")
    assert triggers() == []


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
