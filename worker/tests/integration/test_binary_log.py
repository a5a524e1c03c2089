# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deletion adds to the binary log, and how a replica applies it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gearsync.apply.deleter import Deleter, Deletion
from gearsync.declare.configuration import MySQLSettings
from gearsync.outbox.store import Outbox
from gearsync.servers.mysql import Database as Session
from gearsync.servers.outage import Outage
from gearsync.telemetry.metrics import Tally
from harness.outbox_database import OutboxDatabase, collection
from harness.waiting import until

#: Bits of the columns that the image of an outbox row has, the first one lowest.
KEY, ALL = 0b000010, 0b111111


@pytest.fixture(scope="module")
def module_primary() -> Iterator[OutboxDatabase]:
    with OutboxDatabase() as server:
        yield server


@pytest.fixture
def primary(module_primary: OutboxDatabase) -> OutboxDatabase:
    """A server that writes a binary log, and an account with the rights of a worker's."""
    module_primary.reset()
    module_primary.execute(
        "DROP USER IF EXISTS 'limited'@'localhost'",
        "CREATE USER 'limited'@'localhost'",
        "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON gearsync.* TO 'limited'@'localhost'",
    )
    return module_primary


@pytest.fixture
def session(primary: OutboxDatabase) -> Session:
    return Session(MySQLSettings(user="limited", unix_socket=primary.socket), 120.0)


@pytest.fixture
def deleter(session: Session) -> Iterator[Deleter]:
    deleter = Deleter(Outbox(session), Outage("MySQL", "mysql", 1.0, Tally()))
    yield deleter
    deleter.close(60.0)


def delete(primary: OutboxDatabase, deleter: Deleter) -> set[int]:
    """Have two changes deleted, one as a dead letter. Returns which columns the images of the deleted
    rows have.
    """
    primary.execute("FLUSH BINARY LOGS")
    (name, *_sizes) = primary.execute("SHOW BINARY LOGS")[-1]
    primary.put(("insert", "[1]"), ("insert", "[1]"))
    first, second = (number for (number,) in primary.execute("SELECT id FROM gearsync.outbox ORDER BY id"))
    deleter.put([Deletion({0: [first, second]}, {second: "dead"}, {})])
    until(lambda: bool(deleter.deleted()))
    assert not primary.waiting
    return images(primary, name)


def images(primary: OutboxDatabase, name: str) -> set[int]:
    """Which columns the images of deleted rows have in a binary log."""
    log = (primary.directory / "data" / name).read_bytes()
    # After the event's header and its own: the number of columns, in a byte, and a bit for each.
    start = 19 + (10 if primary.engine == "mysql" else 8) + 1
    events = primary.execute(f"SHOW BINLOG EVENTS IN '{name}'")
    return {
        log[position + start] & ALL
        for _name, position, kind, *_more in events
        if kind.startswith("Delete_rows")
    }


def replica_of(primary: OutboxDatabase) -> OutboxDatabase:
    """A server that has applied all that the primary has logged."""
    replica = OutboxDatabase("--server-id=2")
    primary.execute(
        "DROP USER IF EXISTS 'replica'@'%'",
        "CREATE USER 'replica'@'%'",
        "GRANT REPLICATION SLAVE ON *.* TO 'replica'@'%'",
    )
    source, word = ("SOURCE", "REPLICA") if primary.engine == "mysql" else ("MASTER", "SLAVE")
    (log, *_sizes) = primary.execute("SHOW BINARY LOGS")[0]
    replica.execute(
        f"CHANGE {'REPLICATION SOURCE' if word == 'REPLICA' else 'MASTER'} TO {source}_HOST='127.0.0.1', "
        f"{source}_PORT={primary.port},"
        f" {source}_USER='replica', {source}_LOG_FILE='{log}', {source}_LOG_POS=4",
        f"START {word}",
    )
    primary.execute("CREATE TABLE shop.last (id INT) ENGINE=InnoDB")

    def is_done() -> bool:
        tables = (
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'shop' AND TABLE_NAME "
            "= 'last'"
        )
        return bool(replica.execute(tables)[0][0])

    until(is_done)
    return replica


def test_a_deleted_row_is_logged_by_its_key_alone_and_a_replica_deletes_it(
    primary: OutboxDatabase, deleter: Deleter
) -> None:
    assert delete(primary, deleter) == {KEY}
    primary.put(("insert", "[2]"))
    replica = replica_of(primary)
    try:
        for rows in ("SELECT * FROM gearsync.outbox", "SELECT * FROM gearsync.dead_letter"):
            left: list[Any] = replica.execute(rows)
            assert left == primary.execute(rows)
            assert len(left) == 1
    finally:
        replica.remove()


@pytest.mark.parametrize(
    "reason",
    [
        "the procedure is absent",
        "the definer lacks the right",
        "the definer is gone",
        "the account may not call it",
    ],
)
def test_when_the_log_cannot_be_shortened_one_session_deletes_all(
    primary: OutboxDatabase, session: Session, deleter: Deleter, reason: str
) -> None:
    if reason == "the account may not call it":
        primary.execute(
            "REVOKE EXECUTE ON gearsync.* FROM 'limited'@'localhost'",
            "GRANT EXECUTE ON PROCEDURE gearsync.transactions TO 'limited'@'localhost'",
        )
    else:
        ((_name, _mode, text, *_more),) = primary.execute("SHOW CREATE PROCEDURE gearsync.minimal_row_image")
        assert "DEFINER=`root`@`localhost`" in text
        primary.execute("DROP PROCEDURE gearsync.minimal_row_image")
        if "definer" in reason:
            definer = "absent" if reason == "the definer is gone" else "limited"
            primary.execute("USE gearsync", text.replace("`root`@", f"`{definer}`@"))
    for _ in range(2):
        assert delete(primary, deleter) == {ALL}
    assert session.sessions == 1


def test_the_log_is_shortened_when_the_schema_is_migrated_after_the_start(
    primary: OutboxDatabase, session: Session, deleter: Deleter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gearsync.apply.deleter._ASK_AGAIN", 0.0)
    statements = collection("_outbox").migration_statements(7)
    primary.execute(
        "DROP PROCEDURE gearsync.minimal_row_image", "DELETE FROM gearsync.schema_version WHERE version > 7"
    )
    assert delete(primary, deleter) == {ALL}
    primary.execute(*statements)
    assert delete(primary, deleter) == {KEY}
    assert session.sessions == 1
