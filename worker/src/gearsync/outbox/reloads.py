# SPDX-License-Identifier: GPL-3.0-or-later
"""Reloads: entries of the outbox that have the worker read a row again, in order with the changes of that
row.
"""

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
    """A value as it is in payloads with column names."""
    if isinstance(value, bytes):
        return {"$hex": value.hex()}
    return (
        {"$json" if isinstance(value, Json) else "$num": str(value)}
        if isinstance(value, (Json, Number))
        else value
    )


def enqueue_reload(database: Database, synced: SyncedTable, rows: Sequence[Row]) -> None:
    """Enqueue reloads of these rows: the worker writes a row that exists, and removes what a row that is gone
    had written.

    ``rows`` hold the key's columns, and the other columns that what is removed depends on. Raises
    DatabaseUnavailable; then none is enqueued.
    """
    with database.transaction():
        for row in rows:
            put_reload(database, synced, row)


def put_reload(database: Database, synced: SyncedTable, row: Row) -> None:
    """Enqueue the reload of one row. Raises DatabaseUnavailable, and KeyError or ValueError when the row
    has no valid key.
    """
    put(
        database,
        shard_of(database, synced, row),
        synced.table,
        "reload",
        reload_payload(synced.number, synced.key, row),
    )


def reload_payload(number: int, key: Sequence[KeyColumn], row: Row) -> bytes:
    """The payload of a reload of one row. ``number`` is that of the declaration of the ``key``. Raises
    KeyError when the row lacks a column of it.
    """
    return msgspec.json.encode(
        {
            **({"declaration": number} if number else {}),
            "key": {column.declared: wire(row[column.declared]) for column in key},
            "old": {name: wire(value) for name, value in row.items()},
            "partial": True,
        }
    )


def _typed(column: KeyColumn, value: str) -> str:
    """A literal with as many fractional digits as the column has: the text of a time depends on them."""
    return f"CAST({value} AS DATETIME({column.precision}))" if column.kind == "timestamp" else value


def shard_of(database: Database, synced: SyncedTable, row: Row) -> int:
    """A row's shard. Raises DatabaseUnavailable, and KeyError or ValueError when the row has no valid key."""
    derived = ", ".join(
        f"{_typed(column, value)} AS {quote(column.real)}"
        for column, value in zip(synced.key, identity(synced, row))
    )
    # The expression of the triggers, evaluated by the server over the key's values instead of a row.
    ((shard,),) = database.rows(f"SELECT {synced.shard_sql} FROM (SELECT {derived}) AS {ROW}")
    return int(shard)


def put(database: Database, shard: int, table: str, operation: str, payload: bytes) -> None:
    """Put a change into the outbox. Raises DatabaseUnavailable."""
    database.run(
        "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (%s, %s, %s, %s)",
        (shard, table, operation, payload),
    )
