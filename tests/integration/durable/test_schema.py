# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema gearsync: its life, and its migrations from earlier releases."""

import contextlib
import json

import pymysql
import pytest
from harness.durable import DECLARATION, outbox

pytestmark = pytest.mark.usefixtures("gearman")


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


def test_a_schema_of_another_origin_or_a_later_release_is_refused(database, modules, table):
    database.execute("CREATE DATABASE gearsync", "CREATE TABLE gearsync.mine (id INT)")
    assert "has not made" in modules.refused("sync_table", **DECLARATION)
    database.execute("DROP DATABASE gearsync")
    modules.ok("sync_table", **DECLARATION)
    database.execute("INSERT INTO gearsync.schema_version VALUES (99)")
    assert "version 99" in modules.refused("sync_table", **DECLARATION)


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
