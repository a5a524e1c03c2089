# SPDX-License-Identifier: GPL-3.0-or-later
"""The shard that a change is written to."""

import contextlib
import json

import pytest
from harness.durable import DECLARATION, outbox

pytestmark = pytest.mark.usefixtures("gearman")


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
