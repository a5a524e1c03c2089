# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying the rows of a synced table into the outbox, a range of its key at a time."""

from __future__ import annotations

from typing import NamedTuple, Optional

from gearsync.contract import ROW
from gearsync.outbox.sql import quote, text_literal
from gearsync.outbox.synced_table import Position, SyncedTable, from_clause
from gearsync.outbox.walk import BUDGET, after, order_sql, position_of, select_sql, upto
from gearsync.servers.mysql import Database


class Reach(NamedTuple):
    """A range of rows: its last position, its number of rows, the bytes of its large columns, and whether
    it ends the table.
    """

    last: Optional[Position]
    rows: int
    size: int
    done: bool


def reach(database: Database, synced: SyncedTable, position: Optional[Position], number: int) -> Reach:
    """The range of the next ``number`` rows after ``position``, or of fewer when these have BUDGET bytes.
    Locks no row.

    Raises NoKey and DatabaseUnavailable.
    """
    length = " + ".join(f"COALESCE(OCTET_LENGTH({column.sql}), 0)" for column in synced.large) or "0"
    rows = database.rows(
        select_sql(synced, [length], [after(synced, position)] if position else [], f"LIMIT {number}")
    )
    size = 0
    for count, row in enumerate(rows, 1):
        size += int(row[-1])
        if size >= BUDGET or count == number:
            return Reach(position_of(synced, row), count, size, False)
    return Reach(position_of(synced, rows[-1]) if rows else position, len(rows), size, True)


def _operation_and_payload(synced: SyncedTable) -> tuple[str, str]:
    """What a row is written into the outbox as, in SQL."""
    payload = synced.row_sql if synced.number else f"CONCAT('{{\"new\":', {synced.row_sql}, '}}')"
    if synced.large_sql == "FALSE":
        return "'refresh'", payload
    # Too large to be rendered as JSON: the worker reads the row itself.
    number = f'"declaration":{synced.number},' if synced.number else ""
    key = f"CONCAT('{{{number}\"partial\":true,\"key\":', {synced.small_sql}, '}}')"
    return f"IF({synced.large_sql}, 'reload', 'refresh')", f"IF({synced.large_sql}, {key}, {payload})"


def copy_sql(
    synced: SyncedTable, start: Optional[Position], last: Position, where: str, *, alone: bool, mariadb: bool
) -> str:
    """The INSERT … SELECT that puts the rows after ``start`` and up to ``last`` into the outbox; none of them
    when the table was declared again since.

    It locks each row while it copies it and does not wait for a locked one, unless only the row ``last`` is
    copied (``alone``). It chooses the rows without a lock: a row that is inserted meanwhile is sent by its
    trigger.
    """
    keys = [quote(column.real) for column in synced.key]
    version, table = (text_literal(text.encode()).decode() for text in (synced.version, synced.table))
    conditions = [
        *([after(synced, start)] if start else []),
        upto(synced, last),
        *([f"({where})"] if where else []),
        f"EXISTS (SELECT 1 FROM gearsync.synced_table WHERE table_name = {table} AND changed_at = {version})",
    ]
    # The limit keeps the servers from merging this SELECT into the outer one, which would lock the row after
    # the last.
    order = ", ".join(f"{order_sql(column)} DESC" for column in synced.key)
    chosen = (
        f"SELECT {', '.join(f'{ROW}.{key}' for key in keys)} FROM {from_clause(synced)} WHERE "
        f"{' AND '.join(conditions)}"
        f" ORDER BY {order} LIMIT {1 if alone else 1 << 63}"
    )
    operation, payload = _operation_and_payload(synced)
    lock = "LOCK IN SHARE MODE" if mariadb else f"FOR SHARE OF {ROW}"
    return (
        f"{'SET STATEMENT max_statement_time = 10 FOR ' if mariadb else ''}INSERT INTO gearsync.outbox "
        "(shard, table_name, operation, payload)"
        f" SELECT {synced.shard_sql}, {table}, {operation}, {payload} FROM ({chosen}) AS gearsync_chosen "
        f"STRAIGHT_JOIN {from_clause(synced)}"
        f" ON {' AND '.join(f'{ROW}.{key} = gearsync_chosen.{key}' for key in keys)} "
        f"{lock}{'' if alone else ' NOWAIT'}"
    )
