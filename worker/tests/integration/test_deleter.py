# SPDX-License-Identifier: GPL-3.0-or-later
"""The deletion of applied changes, and the open transactions that it sees, after whose ids looks begin."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from gearsync.apply.deleter import Deleter, Deletion
from gearsync.apply.reader import Reader
from gearsync.declare.configuration import WorkerSettings
from gearsync.declare.declaration import Table, Write
from gearsync.outbox.declarations import Declarations
from gearsync.outbox.store import Outbox, Writers
from gearsync.servers.mysql import Database as Session
from gearsync.servers.outage import Outage
from gearsync.telemetry.metrics import Tally
from harness.outbox_database import OutboxDatabase
from harness.waiting import until

ITEM = Table(table="shop.item", columns=["id"], write=[Write(type="hash", key="item:{id}")])
INSERT = (
    "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (0, 'shop.item', "
    "'insert', '{\"new\": {\"id\": 1}}')"
)


def insert(number: int) -> tuple[str, Any]:
    return "insert", {"new": {"id": number}}


@pytest.fixture
def deleter(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deleter]:
    monkeypatch.setattr("gearsync.apply.deleter._COPY_DELAY", 0.0)
    database = Session(outbox.database._settings, 120.0)
    deleter = Deleter(Outbox(database), Outage("MySQL", "mysql", 1.0, Tally()))
    yield deleter
    deleter.close(60.0)


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


def test_looks_begin_after_the_ids_that_no_open_transaction_can_insert(
    database: OutboxDatabase, outbox: Outbox, deleter: Deleter
) -> None:
    ours = Reader(outbox, Declarations(outbox.database, [ITEM], {}), WorkerSettings(batch=10))

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
    deleter.forget("")
    assert not deleter.gave_up
    deleter.put([Deletion({0: [3]}, {}, {})])
    until(lambda: bool(deleter.deleted()))
    assert [number for (number,) in database.execute("SELECT id FROM gearsync.outbox")] == [2]


def test_nothing_is_deleted_from_another_server_than_that_of_the_drains_session(
    database: OutboxDatabase, deleter: Deleter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearsync.apply.deleter._PAUSE", 0.01)
    database.put(insert(1), insert(2), insert(3))
    with database.connect() as drain, drain.cursor() as cursor:
        cursor.execute("DO GET_LOCK('gearsync.one', 0)")
        deleter.forget("gearsync.one")
        deleter.put([Deletion({0: [1]}, {}, {})])
        until(lambda: bool(deleter.deleted()))
    # As if the drain had another server by now, and as if this one had not noticed it yet.
    until(lambda: database.execute("SELECT IS_USED_LOCK('gearsync.one')"), [(None,)])
    deleter._outbox.database.interrupt()
    deleter.put([Deletion({0: [2]}, {}, {})])
    until(lambda: deleter.gave_up)
    deleter.forget("gearsync.two")
    deleter.put([Deletion({0: [2]}, {}, {})])
    until(lambda: deleter.gave_up)
    assert [number for (number,) in database.execute("SELECT id FROM gearsync.outbox")] == [2, 3]
