"""What a resync does beside writers when it stands still, when the table is declared anew, and with rows and keys of every kind."""

from __future__ import annotations

import pytest
from gearsync import source
from gearsync.change import decode_outbox
from gearsync.config import MySQLSettings
from gearsync.database import Database
from harness.outbox_database import OutboxDatabase


def _shards_of(database: OutboxDatabase, name: str, kind: str, values: list[str]) -> list[tuple[int, int]]:
    """For each value of a key of this type the shard of the trigger's change, and of one that the worker makes of it."""
    declaration = {"table": f"shop.{name}", "delivery": "durable", "columns": ["k"], "write": [{"type": "hash", "key": name + ":{k}"}], "shards": 64}
    database.execute(f"CREATE TABLE shop.{name} (k {kind} NOT NULL PRIMARY KEY) ENGINE=InnoDB")
    database.sync_table(**declaration)
    for value in values:
        database.execute("SET SESSION sql_mode = ''", f"INSERT INTO shop.{name} VALUES ({value})")
    connection, found = Database(MySQLSettings(**database.account), 60.0), []
    made = source.load(connection)[f"shop.{name}"]
    for number, shard, payload in database.execute(f"SELECT id, shard, payload FROM gearsync.outbox WHERE table_name = 'shop.{name}'"):
        row = decode_outbox(f"shop.{name}", "insert", payload.encode()).new or {}
        source.enqueue_reload(connection, made, [row])
        ((other,),) = database.execute(f"SELECT shard FROM gearsync.outbox WHERE id > {number} AND operation = 'reload' ORDER BY id DESC LIMIT 1")
        found.append((int(shard), int(other)))
    connection.close()
    return found


@pytest.mark.parametrize(("kind", "values"), [
    *[(f"TIMESTAMP({digits})", ["'2026-01-01 10:11:12.123456'", "'2026-07-01 00:00:00'"]) for digits in (0, 1, 3, 5, 6)],
    ("DATETIME(2)", ["'2026-01-01 10:11:12.12'"]), ("DOUBLE", ["-0e0", "0.1", "1e30", "-2.5", "1e-7"]), ("DECIMAL(8,3)", ["1.5", "-0.001"]),
    ("ENUM('x', 'ö')", ["'ö'"]), ("SET('a', 'b')", ["'a,b'"]), ("INT(6) ZEROFILL", ["42"]), ("BIT(9)", ["b'100000001'"]),
    ("VARCHAR(20) CHARACTER SET latin1", ["'äöß'", "'a '"]), ("BINARY(4)", ["x'00ff'"]), ("TIME(1)", ["'-10:00:00.5'"]), ("BIGINT", ["-7"]),
])
def test_a_change_that_the_worker_makes_goes_to_the_shard_of_the_triggers(database: OutboxDatabase, kind: str, values: list[str]) -> None:
    found = _shards_of(database, "keyed", kind, values)
    assert len(found) == len(values)
    assert [mine for mine, _theirs in found] == [theirs for _mine, theirs in found]
