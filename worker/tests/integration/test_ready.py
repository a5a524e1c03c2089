"""What a worker reads of the outbox: several shards at one look, and what it must know of them before it may apply them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gearsync.commands import Writer
from gearsync.config import MySQLSettings, WorkerSettings
from gearsync.database import Database as Session
from gearsync.database import DatabaseUnavailable
from gearsync.declaration import Table, Write, fingerprint
from gearsync.outbox import Outbox
from gearsync.ready import Reader
from harness.outbox_database import OutboxDatabase, collection

ITEM = Table(table="shop.item", columns=["id"], write=[Write(type="hash", key="item:{id}")])
#: The shards of a count of four.
FOUR = range(6, 10)


def insert(number: int, name: str = "x") -> tuple[str, Any]:
    return "insert", {"new": {"id": number, "name": name}}


@pytest.fixture
def session(database: OutboxDatabase) -> Iterator[Session]:
    session = Session(MySQLSettings(**database.account), 120.0)
    yield session
    session.close()


@pytest.fixture
def outbox(session: Session) -> Outbox:
    return Outbox(session)


def reader(outbox: Outbox, batch: int = 1000) -> Reader:
    return Reader(outbox, {ITEM.table: Writer(ITEM, None)}, {ITEM.table: fingerprint(ITEM)}, WorkerSettings(batch=batch))


def declare(database: OutboxDatabase, *fingerprints: str) -> None:
    database.execute(*collection("_outbox").declaration_statements(ITEM.table, list(fingerprints[:-1]), fingerprints[-1]))


def test_several_shards_are_read_as_each_of_them_is(database: OutboxDatabase, outbox: Outbox) -> None:
    for shard in (6, 7, 9):
        database.put(*[insert(number, "name \\ 'quoted' \N{GRINNING FACE}") for number in range(shard)], shard=shard)
    found = outbox.read_each(FOUR, 100, ["shop.other"])
    assert found == {shard: outbox.read(shard, 100, ["shop.other"]) for shard in FOUR}
    assert [len(batch.entries) for batch in found.values()] == [6, 7, 0, 9]
    database.put(insert(1), shard=8, table="shop.other")
    assert outbox.read_each([8], 7, ["shop.other"]) == {8: ([], False)}


def test_who_comes_after_a_long_shard_is_not_taken_for_an_empty_one(database: OutboxDatabase, outbox: Outbox) -> None:
    for shard in (6, 7, 9):
        database.put(*[insert(number) for number in range(shard)], shard=shard)
    assert {shard: (len(batch.entries), batch.more) for shard, batch in outbox.read_each(FOUR, 10).items()} == {6: (6, False), 7: (4, True)}
    assert sorted(reader(outbox, batch=10).read_each(FOUR)) == [6, 7]


def test_a_shard_with_large_changes_is_read_by_itself(database: OutboxDatabase, outbox: Outbox) -> None:
    database.put(insert(1), insert(2, "x" * 100_000), shard=6)
    database.put(insert(3), shard=7)
    assert {shard: len(batch.entries) for shard, batch in outbox.read_each(FOUR, 1000).items()} == {7: 1, 8: 0, 9: 0}
    assert sorted(reader(outbox).read_each(FOUR)) == [7, 8, 9]
    assert len(reader(outbox).read(6).entries) == 2


@pytest.mark.parametrize("special", [("reload", {"new": {"id": 1}}), None])
def test_a_shard_with_what_is_not_plain_is_read_by_itself(database: OutboxDatabase, outbox: Outbox, special: tuple[str, Any] | None) -> None:
    database.put(insert(1), shard=6)
    database.put(special or insert(1), shard=7, table="shop.item" if special else "shop.unknown")
    assert {shard: len(ready.entries) for shard, ready in reader(outbox).read_each(FOUR).items()} == {6: 1, 8: 0, 9: 0}


def test_nothing_of_a_later_declaration_and_nothing_before_its_turn_is_read_together(database: OutboxDatabase, outbox: Outbox) -> None:
    for shard in (6, 7):
        database.put(insert(shard), shard=shard)
    declare(database, "of an earlier one", fingerprint(ITEM))
    assert sorted(reader(outbox).read_each(FOUR)) == [6, 7, 8, 9]
    for beside in (0, 10):
        database.put(insert(6), shard=beside)
        assert sorted(reader(outbox).read_each(FOUR)) == [8, 9]
        database.execute(f"DELETE FROM gearsync.outbox WHERE shard = {beside}")
    declare(database, fingerprint(ITEM), "of a later one")
    assert sorted(reader(outbox).read_each(FOUR)) == [8, 9]
    behind = reader(outbox)
    assert behind.read(6).entries == []
    assert behind.met_unknown
    assert behind.unfit() == "its configuration is older than the triggers of shop.item"
    assert not behind.met_unknown


def test_a_schema_that_keeps_no_declarations_yet_has_an_order_all_the_same(database: OutboxDatabase, outbox: Outbox) -> None:
    database.put(insert(1), shard=6)
    database.put(insert(1), shard=1)
    assert outbox.after(6, ["shop.item"]) == ({}, [1])
    database.execute("DROP TABLE gearsync.declaration")
    assert outbox.after(6, ["shop.item"]) == ({}, [1])
    assert outbox.after(1, ["shop.item"]) == ({}, [6])


def test_a_transaction_begins_with_its_first_statements_and_is_all_or_nothing(database: OutboxDatabase, session: Session, outbox: Outbox) -> None:
    database.put(insert(1), insert(2), insert(3))
    ids = [entry.id for entry in outbox.read(0, 10).entries]
    with session.transaction(outbox.deletion(0, ids[:2]), outbox.deletion(0, [ids[0] + 1_000_000])) as found:
        assert found == [2, 0]
        assert database.waiting == 3
    assert database.waiting == 1
    with pytest.raises(DatabaseUnavailable) as wrong, session.transaction(outbox.deletion(0, ids), "DELETE FROM gearsync.outbox WHERE nothing = 1"):
        pass
    assert wrong.value.statement
    assert database.waiting == 1
    # The session goes on, in step with the server and outside of a transaction.
    with session.transaction(outbox.deletion(0, ids)) as found:
        assert found == [1]
    assert database.waiting == 0
