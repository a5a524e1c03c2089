# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes that a worker reads from the outbox, and those that it holds because they cannot be applied
now.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from gearsync.apply.reader import Reader
from gearsync.apply.work import Work
from gearsync.declare.configuration import WorkerSettings
from gearsync.declare.declaration import Table, Write
from gearsync.outbox.changes import Look
from gearsync.outbox.declarations import Declarations
from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox
from harness.outbox_database import OutboxDatabase

ITEM = Table(table="shop.item", columns=["id"], write=[Write(type="hash", key="item:{id}")])
OTHER = Table(table="shop.other", columns=["id"], write=[Write(type="hash", key="other:{id}")])
EVERYTHING = Look([(0, None)], None, 1000, [])


def insert(number: int, name: str = "x") -> tuple[str, Any]:
    return "insert", {"new": {"id": number, "name": name}}


def reader(outbox: Outbox, batch: int = 1000) -> Reader:
    return Reader(outbox, Declarations(outbox.database, [ITEM, OTHER], {}), WorkerSettings(batch=batch))


def declare(database: OutboxDatabase, number: int, **changes: Any) -> None:
    content = {
        "columns": [["id", "integer"]],
        "old": ["id"],
        "deleted": ["id"],
        "key": [{"declared": "id", "real": "id", "kind": "integer"}],
        "write": [{"type": "hash", "key": "item:{id}"}],
        "computed": [],
        "transform": None,
        "source_schema": "shop",
        "source_table": "item",
        "small_sql": "JSON_OBJECT('id', gearsync_row.`id`)",
        "large_columns": [],
        **changes,
    }
    text = json.dumps(content).replace("'", "''")
    database.execute(
        "INSERT INTO gearsync.numbered_declaration (table_name, number, content) VALUES ('shop.item', "
        f"{number}, '{text}')"
    )


def test_changes_are_read_in_the_order_of_their_ids_whatever_their_shards_are(
    database: OutboxDatabase, outbox: Outbox
) -> None:
    for number, shard in enumerate((9, 6, 7, 6)):
        database.put(insert(number, "name \\ 'quoted' \N{GRINNING FACE}"), shard=shard)
    batch = outbox.look(EVERYTHING)
    assert [(entry.id, entry.shard) for entry in batch.entries] == [(1, 9), (2, 6), (3, 7), (4, 6)]
    assert not batch.more
    assert outbox.look(EVERYTHING._replace(shards=[6, 9], limit=3)) == (batch.entries[:2], True, {7: [3]}, 3)
    assert outbox.look(EVERYTHING._replace(ranges=[(1, 1), (3, None)])).entries == [
        batch.entries[0],
        *batch.entries[2:],
    ]


def test_a_seen_change_is_not_read_again_and_a_late_one_is(database: OutboxDatabase, outbox: Outbox) -> None:
    ours = reader(outbox)
    with database.connect(autocommit=False) as late, late.cursor() as cursor:
        cursor.execute(
            "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (6, 'shop.item', "
            "'insert', '{\"new\": {\"id\": 1}}')"
        )
        database.put(insert(2), shard=6)
        assert ours.read([6], [6]).ids == [2]
        assert ours.read([6], [6]).ids == []
        late.commit()
    database.put(insert(3), shard=6)
    assert ours.read([6], [6]).ids == [1, 3]
    ours.seen.remove([2])
    assert ours.read([6], [6]).ids == [2]


def test_large_payloads_are_read_apart(database: OutboxDatabase, outbox: Outbox) -> None:
    database.put(insert(1), insert(2, "x" * 100_000), shard=6)
    database.put(insert(3), shard=7)
    assert [len(entry.payload) > 100_000 for entry in outbox.look(EVERYTHING).entries] == [False, True, False]


def test_shards_of_other_processes_are_left_to_them_and_those_without_a_lease_are_reported(
    database: OutboxDatabase, outbox: Outbox
) -> None:
    for shard in (6, 7, 6):
        database.put(insert(shard), shard=shard)
    ours = reader(outbox)
    assert ours.read([6], [6, 7]).ids == [1, 3]
    assert ours.unleased == set()
    # Ids of other processes' shards are not gaps either.
    assert list(ours.seen) == [(1, 3)]
    for shard in (8, 6):
        database.put(insert(shard), shard=shard)
    assert ours.read([6], [6, 7]).ids == [5]
    assert ours.unleased == {8}
    ours.forget(Spans())
    assert ours.read([6], [6]).ids == [1, 3, 5]
    assert ours.unleased == {7, 8}


def test_changes_that_cannot_be_applied_now_are_held_without_their_payloads(
    database: OutboxDatabase, outbox: Outbox
) -> None:
    database.put(insert(1), table="shop.unknown")
    database.put(insert(2))
    ours = reader(outbox, batch=2)
    assert ours.read([0], [0]).ids == [2]
    assert not ours.outdated
    # However many there are, they are read once.
    database.put(*[insert(number) for number in range(3, 8)], table="shop.unknown")
    database.put(insert(8))
    read = [ours.read([0], [0]).ids for _ in range(4)]
    assert read == [[], [], [8], []]
    assert list(ours.seen) == [(1, 8)]


def test_a_held_table_keeps_its_order_and_the_others_continue(
    database: OutboxDatabase, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearsync.apply.reader._HOLD", 1000.0)
    ours = reader(outbox)
    database.put(insert(1), insert(2))
    work = ours.read([0], [0])
    ours.hold("shop.item", work.ids, "no rights")
    database.put(insert(3))
    database.put(insert(4), table="shop.other")
    assert [entry.table for entry in ours.read([0], [0]).entries] == ["shop.other"]
    monkeypatch.setattr("gearsync.apply.reader._HOLD", -1.0)
    ours.hold("shop.item", [], "no rights")
    assert ours.read([0], [0]).ids == [1, 2, 3]


def test_changes_under_a_later_transform_wait_and_those_under_any_other_declaration_do_not(
    database: OutboxDatabase, outbox: Outbox
) -> None:
    declare(database, 1)
    declare(database, 2, columns=[["id", "integer"], ["name", "text"]])
    database.put(("insert", [1, 7]), ("insert", [2, 8, "x"]))
    ours = reader(outbox)
    work = ours.read([0], [0])
    assert [step.commands for step in work.steps] == [
        [("HSET", b"item:7", "id", 7)],
        [("HSET", b"item:8", "id", 8, "name", "x")],
    ]
    declare(database, 3, transform="a:b")
    database.put(("insert", [3, 9]), ("insert", [2, 10, "y"]))
    assert ours.read([0], [0]).ids == []
    assert ours.outdated == "its configuration is older than the triggers of shop.item"
    ours.refresh()
    assert ours.read([0], [0]).ids == []
    # It was withdrawn.
    declare(database, 4)
    ours.refresh()
    assert not ours.outdated
    assert ours.read([0], [0]).ids == [3, 4]


def test_a_table_that_only_the_database_declares_is_applied(database: OutboxDatabase, outbox: Outbox) -> None:
    declare(database, 1)
    database.put(("insert", [1, 7]))
    ours = Reader(outbox, Declarations(outbox.database, [], {}), WorkerSettings())
    assert [step.commands for step in ours.read([0], [0]).steps] == [[("HSET", b"item:7", "id", 7)]]


def test_changes_wait_for_an_absent_declaration(
    database: OutboxDatabase, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearsync.apply.reader._HOLD", -1.0)
    database.put(("insert", [1, 7]), ("reload", [1, 7]))
    ours = reader(outbox)
    assert ours.read([0], [0]) == Work([], [], {}, False)
    declare(database, 1, columns=[["id", "integer"]], write=[{"type": "of a later release"}])
    ours.refresh()
    assert ours.read([0], [0]).ids == []
    assert not ours.outdated
    database.execute("DELETE FROM gearsync.numbered_declaration")
    declare(database, 1)
    ours.refresh()
    assert ours.read([0], [0]).ids == [1]


def test_many_gaps_leave_a_look_of_few_ranges_while_a_transaction_is_open(
    database: OutboxDatabase, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearsync.apply.reader._TOO_MANY_RANGES", 40)
    ours = reader(outbox, batch=10)
    seen_ids: list[int] = []
    with database.connect(autocommit=False) as writer, writer.cursor() as cursor:
        for _ in range(100):
            for end in (writer.rollback, writer.commit):
                cursor.execute(
                    "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (0, "
                    "'shop.item', 'insert', '{\"new\": {\"id\": 1}}')"
                )
                end()
            ours.compact(Spans())
            work = ours.read([0], [0])
            seen_ids += work.ids
            outbox.delete(work.ids, {}, False)
    assert len(seen_ids) == len(set(seen_ids)) == 100
    assert ours.seen.ranges <= 41
