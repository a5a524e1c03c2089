# SPDX-License-Identifier: GPL-3.0-or-later
"""The changes that a worker reads from the outbox, and those that it holds because they cannot be applied
now.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from gearsync.apply.deleter import Deleter, Deletion
from gearsync.apply.reader import Reader
from gearsync.apply.work import Work
from gearsync.declare.configuration import MySQLSettings, WorkerSettings
from gearsync.declare.declaration import Table, Write
from gearsync.outbox.changes import Look
from gearsync.outbox.declarations import Declarations
from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox, Writers
from gearsync.servers.mysql import Database as Session
from gearsync.servers.outage import Outage
from gearsync.telemetry.metrics import Tally
from harness.outbox_database import OutboxDatabase
from harness.waiting import until

ITEM = Table(table="shop.item", columns=["id"], write=[Write(type="hash", key="item:{id}")])
OTHER = Table(table="shop.other", columns=["id"], write=[Write(type="hash", key="other:{id}")])
EVERYTHING = Look([(0, None)], None, 1000, [])


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


def test_exactly_the_applied_changes_are_deleted_without_waiting_for_open_transactions(
    database: OutboxDatabase, session: Session, outbox: Outbox
) -> None:
    session.run("SET SESSION innodb_lock_wait_timeout = 1")
    for again in (False, True):
        with database.connect(autocommit=False) as writer, writer.cursor() as cursor:
            database.put(*[insert(number) for number in range(12)])
            first = min(number for (number,) in database.execute("SELECT id FROM gearsync.outbox"))
            cursor.execute(
                "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (0, "
                "'shop.item', 'insert', '{}')"
            )
            database.put(insert(13))
            # A range beside uncommitted ids, one in the middle, single ids.
            ids = [first, *range(first + 2, first + 6), first + 7, *range(first + 9, first + 12)]
            outbox.delete(ids, {first: "dead"}, again)
            left = [number for (number,) in database.execute("SELECT id FROM gearsync.outbox ORDER BY id")]
            assert left == [first + 1, first + 6, first + 8, first + 13]
            assert database.execute("SELECT id, error FROM gearsync.dead_letter") == [(first, "dead")]
            writer.rollback()
        # Twice, as after a commit whose answer was lost.
        outbox.delete(ids, {}, True)
        database.execute("DELETE FROM gearsync.outbox", "DELETE FROM gearsync.dead_letter")


INSERT = (
    "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (0, 'shop.item', "
    "'insert', '{\"new\": {\"id\": 1}}')"
)


@pytest.fixture
def deleter(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deleter]:
    monkeypatch.setattr("gearsync.apply.deleter._COPY_DELAY", 0.0)
    database = Session(outbox.database._settings, 120.0)
    deleter = Deleter(Outbox(database), Outage("MySQL", "mysql", 1.0, Tally()))
    yield deleter
    deleter.close(60.0)


def test_looks_begin_after_the_ids_that_no_open_transaction_can_insert(
    database: OutboxDatabase, outbox: Outbox, deleter: Deleter
) -> None:
    ours = reader(outbox, batch=10)

    def settle() -> list[int]:
        """Read the changes, have them deleted, and learn which ids may still appear."""
        read_ids = [number for _look in range(3) for number in ours.read([0], [0]).ids]
        deleter.reached = ours.seen.last
        if read_ids:
            deleter.put([Deletion({0: read_ids}, {}, {})])
            until(lambda: bool(deleter.deleted()))
        ours.settle(deleter.settled())
        return read_ids

    def write(*, roll_back: bool) -> None:
        with database.connect(autocommit=False) as writer, writer.cursor() as cursor:
            cursor.execute(INSERT)
            writer.rollback() if roll_back else writer.commit()

    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY) ENGINE=InnoDB")
    # A snapshot may stay open all the time.
    snapshot = database.connect()
    with snapshot.cursor() as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute("SELECT COUNT(*) FROM gearsync.outbox")
    with database.connect(autocommit=False) as open_one, open_one.cursor() as cursor:
        # As a trigger does: the row is written before the id is given.
        cursor.execute("INSERT INTO shop.item VALUES (1)")
        cursor.execute(INSERT)
        for _ in range(5):
            write(roll_back=True)
            write(roll_back=False)
            settle()
        assert ours.seen.gaps(100)[0] == [(0, 2), (4, 4), (6, 6), (8, 8), (10, 10), (12, None)]
        open_one.commit()
    assert settle() == [1]

    def is_decided() -> bool:
        write(roll_back=False)
        settle()
        return len(ours.seen.gaps(100)[0]) == 1

    until(is_decided)
    snapshot.close()


def test_the_right_to_see_transactions_may_be_given_while_the_worker_runs(
    database: OutboxDatabase,
    deleter: Deleter,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("gearsync.apply.deleter._ASK_AGAIN", 0.1)
    ((_name, _mode, text, *_more),) = database.execute("SHOW CREATE PROCEDURE gearsync.transactions")
    database.execute(
        "DROP USER IF EXISTS 'limited'@'localhost'",
        "CREATE USER 'limited'@'localhost'",
        "GRANT SELECT, EXECUTE ON gearsync.* TO 'limited'@'localhost'",
        "DROP PROCEDURE gearsync.transactions",
        "USE gearsync",
        text.replace("`root`@", "`limited`@"),
    )
    deleter.reached = 1

    def decided() -> int:
        # All who ask within 100 ms get one answer.
        time.sleep(0.15)
        database.put(insert(1))
        ids = [number for (number,) in database.execute("SELECT id FROM gearsync.outbox")]
        deleter.put([Deletion({0: ids}, {}, {})])
        until(lambda: bool(deleter.deleted()))
        return deleter.settled()

    try:
        assert [decided() for _ in range(3)] == [0, 0, 0]
        assert [record.action for record in caplog.records] == ["transactions_unknown"]
        database.execute("GRANT PROCESS ON *.* TO 'limited'@'localhost'")
        until(lambda: decided() == 1)
    finally:
        database.execute("DROP USER 'limited'@'localhost'")


@pytest.mark.parametrize("ending", ["COMMIT", "ROLLBACK"])
def test_a_prepared_transaction_may_still_commit_its_ids(
    database: OutboxDatabase, outbox: Outbox, ending: str
) -> None:
    answers: list[Writers] = [Writers(0, 0)]

    def asked() -> bool:
        # All who ask within 100 ms get one answer.
        time.sleep(0.15)
        database.execute(INSERT)
        writers = outbox.delete(
            [number for (number,) in database.execute("SELECT id FROM gearsync.outbox")], {}, False, ask=True
        )
        answers.extend([writers] if writers and writers.own > answers[-1].own else [])
        return writers == answers[-1]

    def writers() -> Writers:
        until(asked)
        return answers[-1]

    with database.connect() as client, client.cursor() as cursor:
        for statement in ("XA START 'x'", INSERT, "XA END 'x'", "XA PREPARE 'x'"):
            cursor.execute(statement)
    # Its client is gone.
    try:
        first, second = writers(), writers()
        assert first.oldest == second.oldest < first.own < second.own
    finally:
        database.execute(f"XA {ending} 'x'")
    third = writers()
    assert third.own == third.oldest > second.own


@pytest.mark.parametrize("zone", ["+00:00", "-08:00", "+09:00", "SYSTEM"])
def test_how_long_transactions_have_been_open_does_not_depend_on_the_sessions_time_zone(
    database: OutboxDatabase, zone: str
) -> None:
    with database.connect(autocommit=False) as client, client.cursor() as cursor:
        cursor.execute(INSERT)
        ((_own, _oldest, writing, *_more),) = database.execute(
            f"SET time_zone = '{zone}'", "CALL gearsync.transactions()"
        )
    # Less than any two zones differ by.
    assert 0 <= writing < 1800


def test_many_gaps_leave_a_look_of_few_ranges_while_a_transaction_is_open(
    database: OutboxDatabase, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearsync.apply.reader._TOO_MANY_RANGES", 40)
    ours = reader(outbox, batch=10)
    seen_ids: list[int] = []
    with database.connect(autocommit=False) as writer, writer.cursor() as cursor:
        for _ in range(100):
            cursor.execute(INSERT)
            writer.rollback()
            cursor.execute(INSERT)
            writer.commit()
            ours.compact(Spans())
            work = ours.read([0], [0])
            seen_ids += work.ids
            outbox.delete(work.ids, {}, False)
    assert len(seen_ids) == len(set(seen_ids)) == 100
    assert ours.seen.ranges <= 41


def test_a_deletion_without_an_answer_is_given_up_in_a_new_session(
    database: OutboxDatabase, outbox: Outbox, deleter: Deleter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearsync.apply.deleter._PAUSE", 0.01)
    database.put(insert(1), insert(2), insert(3))
    deleter.put([Deletion({0: [1]}, {}, {})])
    until(lambda: bool(deleter.deleted()))
    # Of a new server the same id may be another change.
    held = database.connect(autocommit=False)
    with held.cursor() as cursor:
        cursor.execute("SELECT id FROM gearsync.outbox WHERE id = 2 FOR UPDATE")
        deleter.put([Deletion({0: [2]}, {}, {})])
        session = (
            "SELECT id FROM information_schema.processlist WHERE info LIKE '%DELETE%outbox%' AND id <> "
            "CONNECTION_ID()"
        )
        until(lambda: len(database.execute(session)), 1)
        database.execute(f"KILL {database.execute(session)[0][0]}")
        held.rollback()
    held.close()
    until(lambda: deleter.gave_up)
    deleter.put([Deletion({0: [3]}, {}, {})])
    assert [number for (number,) in database.execute("SELECT id FROM gearsync.outbox")] == [2, 3]
    deleter.forget()
    assert not deleter.gave_up
    deleter.put([Deletion({0: [3]}, {}, {})])
    until(lambda: bool(deleter.deleted()))
    assert [number for (number,) in database.execute("SELECT id FROM gearsync.outbox")] == [2]
