"""Put changes into the outbox that ask the worker to read rows again, in the order of all their changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from gearsync.contract import ROW
from gearsync.outbox.declarations import KeyColumn
from gearsync.outbox.sql import quote
from gearsync.outbox.synced_table import SyncedTable, identity
from gearsync.servers.mysql import Database
from gearsync.values import Json, Number, Row, Value


def wire(value: Value) -> Any:
    """A value as payloads with names have it."""
    if isinstance(value, bytes):
        return {"$hex": value.hex()}
    return {"$json" if isinstance(value, Json) else "$num": str(value)} if isinstance(value, (Json, Number)) else value


def enqueue_reload(database: Database, synced: SyncedTable, rows: Sequence[Row]) -> None:
    """Have the worker look at these rows again, in the order of all their changes: what is there is written, what is gone is removed.

    ``rows`` hold the key's columns, and whatever else tells what is to be removed. Raises DatabaseUnavailable; then none is enqueued.
    """
    with database.transaction():
        for row in rows:
            put_reload(database, synced, row)


def put_reload(database: Database, synced: SyncedTable, row: Row) -> None:
    """The same for one row. Raises DatabaseUnavailable; KeyError and ValueError when the row has no key."""
    put(database, shard_of(database, synced, row), synced.table, "reload", reload_payload(synced.number, synced.key, row))


def reload_payload(number: int, key: Sequence[KeyColumn], row: Row) -> bytes:
    """What a reload of one row stands in the outbox as. ``number`` is that of the declaration of the ``key``. Raises KeyError when a column of it is absent."""
    return msgspec.json.encode({
        **({"declaration": number} if number else {}),
        "key": {column.declared: wire(row[column.declared]) for column in key},
        "old": {name: wire(value) for name, value in row.items()},
        "partial": True,
    })


def _typed(column: KeyColumn, value: str) -> str:
    """A literal with as many digits of a second as the column has: a moment's text depends on them."""
    return f"CAST({value} AS DATETIME({column.precision}))" if column.kind == "timestamp" else value


def shard_of(database: Database, synced: SyncedTable, row: Row) -> int:
    """A row's shard. Raises DatabaseUnavailable; KeyError and ValueError when the row has no key."""
    derived = ", ".join(f"{_typed(column, value)} AS {quote(column.real)}" for column, value in zip(synced.key, identity(synced, row)))
    # The server's own words for the shard, with the key's values in place of a row.
    ((shard,),) = database.rows(f"SELECT {synced.shard_sql} FROM (SELECT {derived}) AS {ROW}")
    return int(shard)


def put(database: Database, shard: int, table: str, operation: str, payload: bytes) -> None:
    """Put a change into the outbox. Raises DatabaseUnavailable."""
    database.run("INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (%s, %s, %s, %s)", (shard, table, operation, payload))
