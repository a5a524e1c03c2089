# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading a synced table: a walk in the order of its key, in pieces and without locks; and rows by their
keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

from gearsync.contract import ROW
from gearsync.outbox.declarations import KeyColumn
from gearsync.outbox.sql import literal, quote
from gearsync.outbox.synced_table import NoKey, Position, SyncedTable, bare, from_clause
from gearsync.servers.mysql import Database
from gearsync.values import Row

#: Bytes of the rows of one piece; a single row may have more.
BUDGET = 4 << 20
#: Rows of the first piece of a walk, when the size of a row is unknown.
_FIRST = 100
#: When only a share of the rows is wanted, a piece is chosen from so many times its size.
SPARSE = 10


class Entry(NamedTuple):
    """One row of a walk: its position, its shard, and its columns as JSON, which is None for a row that
    is too large for it.
    """

    position: Position
    shard: int
    row: Optional[bytes]


def order_sql(column: KeyColumn) -> str:
    """The expression that a walk orders and compares by."""
    name = f"{ROW}.{quote(column.real)}"
    if column.data_type in ("enum", "set"):
        return f"({name} + 0)"
    # A FLOAT's text has fewer digits than its value: compared with its text, a row would come after itself.
    return f"({name} + 0e0)" if column.kind == "float" else name


def shown_sql(column: KeyColumn) -> str:
    """The expression that selects the column's value as text."""
    if column.kind == "binary":
        return f"HEX({ROW}.{quote(column.real)})"
    if column.kind == "bit":
        return f"{ROW}.{quote(column.real)} + 0"
    return order_sql(column)


def _literal(column: KeyColumn, shown: bytes) -> str:
    """The literal of a value that ``shown_sql`` has selected."""
    if column.kind == "binary":
        return f"x'{shown.decode()}'"
    if column.data_type in ("enum", "set"):
        return shown.decode()
    return literal(column.kind, shown)


def position_of(synced: SyncedTable, row: Sequence[bytes]) -> Position:
    """The position of a row whose first columns are selected by ``shown_sql``."""
    return [_literal(column, shown) for column, shown in zip(synced.key, row)]


def after(synced: SyncedTable, position: Position) -> str:
    """The condition for all rows after ``position`` in the key's order, in a form for which MySQL and
    MariaDB use the index.
    """
    names = [order_sql(column) for column in synced.key]
    condition = f"{names[-1]} > {position[-1]}"
    for name, value in zip(reversed(names[:-1]), reversed(position[:-1])):
        condition = f"({name} >= {value} AND ({name} > {value} OR {condition}))"
    return condition


def upto(synced: SyncedTable, position: Position) -> str:
    """The condition for the row at ``position`` and all rows before it in the key's order."""
    names = [order_sql(column) for column in synced.key]
    condition = f"{names[-1]} <= {position[-1]}"
    for name, value in zip(reversed(names[:-1]), reversed(position[:-1])):
        condition = f"({name} <= {value} AND ({name} < {value} OR {condition}))"
    return condition


def select_sql(synced: SyncedTable, columns: Sequence[str], conditions: Sequence[str], end: str) -> str:
    """A SELECT of the key and ``columns`` in the key's order. Raises NoKey."""
    if not synced.key:
        raise NoKey(
            f"{synced.table} has no primary or unique key in its declared columns, by which its rows could "
            "be read in order; add the key's columns"
        )
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join(order_sql(column) for column in synced.key)
    return (
        f"SELECT {', '.join([*map(shown_sql, synced.key), *columns])} FROM "
        f"{from_clause(synced)}{where} ORDER BY {order} {end}"
    )


class Piece(NamedTuple):
    """One piece of a walk: its rows, their bytes, the position that the walk has reached, and whether it
    ends the table.
    """

    entries: list[Entry]
    size: int
    position: Optional[Position]
    done: bool


def piece(
    database: Database, synced: SyncedTable, position: Optional[Position], size: int, share: float = 1.0
) -> Piece:
    """At most ``size`` rows after ``position``, of BUDGET bytes at most; with a ``share`` below 1, a random
    part of a range of rows.

    The range bounds the time of a statement, however small the share. Raises NoKey and DatabaseUnavailable.
    """
    conditions = [after(synced, position)] if position else []
    last: Optional[Position] = None
    if share < 1.0:
        last_rows = database.rows(select_sql(synced, [], conditions, f"LIMIT 1 OFFSET {size * SPARSE - 1}"))
        last = position_of(synced, last_rows[0]) if last_rows else None
        conditions += [upto(synced, last)] if last else []
        conditions += [f"RAND() < {share!r}"]
    rows, cut = database.rows_within(
        select_sql(synced, [synced.shard_sql, synced.json_sql], conditions, f"LIMIT {size}"), BUDGET
    )
    walked = entries(synced, rows)
    weight = sum([len(entry.row) for entry in walked if entry.row is not None])
    if cut or len(walked) == size:
        return Piece(walked, weight, walked[-1].position, False)
    if last is not None:
        return Piece(walked, weight, last, False)
    return Piece(walked, weight, walked[-1].position if walked else position, True)


class PieceSize:
    """The number of rows of the next piece: small at first, then as many as fit into BUDGET, ``most`` at
    most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = min(_FIRST, most)

    def adapt(self, rows: int, size: int) -> None:
        """After a piece of so many rows and bytes: double the number, as far as rows of the same size fit."""
        fits = BUDGET * rows // size if size else self.most
        self.size = max(1, min(self.most, self.size * 2, fits))

    def shrink(self) -> None:
        """A row was locked: smaller pieces get past the rows before it, until the piece is the row itself."""
        self.size = max(1, self.size // 4)


def last_sql(synced: SyncedTable, limit: int) -> str:
    """The SELECT of the ``limit`` rows with the greatest keys. Raises NoKey."""
    if not synced.key:
        raise NoKey(
            f"{synced.table} has no primary or unique key in its declared columns, by which its last rows "
            "could be found; add the key's columns"
        )
    order = [f"{order_sql(column)} DESC" for column in synced.key]
    return (
        f"SELECT {', '.join(shown_sql(column) for column in synced.key)}, {synced.shard_sql}, "
        f"{synced.json_sql} FROM {from_clause(synced)}"
        f" ORDER BY {', '.join(order)} LIMIT {limit}"
    )


def entries(synced: SyncedTable, rows: Iterable[Sequence[Any]]) -> list[Entry]:
    """The rows of a SELECT of the key, the shard and the row's JSON, over a connection that returns
    values as bytes.
    """
    width = len(synced.key)
    return [
        Entry(
            [_literal(column, shown) for column, shown in zip(synced.key, row)],
            int(row[width]),
            row[width + 1],
        )
        for row in rows
    ]


def walk(database: Database, synced: SyncedTable, most: int, share: float = 1.0) -> Iterator[Piece]:
    """The table's rows, or a random ``share`` of them, in the key's order, without locks, in pieces of
    ``most`` rows at most.

    Raises NoKey and DatabaseUnavailable.
    """
    piece_size, position = PieceSize(most), None
    while True:
        walked = piece(database, synced, position, piece_size.size, share)
        yield walked
        if walked.done:
            return
        position = walked.position
        piece_size.adapt(len(walked.entries), walked.size)


def ends(database: Database, synced: SyncedTable, number: int) -> Iterator[Piece]:
    """The ``number`` rows with the smallest keys and the ``number`` with the greatest, or as many as fit into
    BUDGET, each once.

    Raises NoKey and DatabaseUnavailable.
    """
    first = piece(database, synced, None, number)
    yield first
    if not first.done:
        yielded = {tuple(entry.position) for entry in first.entries}
        rows, _cut = database.rows_within(last_sql(synced, number), BUDGET)
        yield Piece(
            [entry for entry in entries(synced, rows) if tuple(entry.position) not in yielded], 0, None, True
        )


def large_row(database: Database, synced: SyncedTable, position: Position) -> Optional[Row]:
    """A row that is too large for JSON, with its large columns selected by themselves; None when there is no
    such row.

    Raises Malformed and DatabaseUnavailable.
    """
    columns = ", ".join([synced.small_sql, *(column.sql for column in synced.large)])
    rows = database.rows(f"SELECT {columns} FROM {from_clause(synced)} WHERE {_matches(synced, [position])}")
    if not rows:
        return None
    small, *values = rows[0]
    return {
        **synced.row(small or b"null"),
        **{column.declared: bare(column.kind, value) for column, value in zip(synced.large, values)},
    }


def _matches(synced: SyncedTable, positions: Sequence[Position]) -> str:
    names = [f"{ROW}.{quote(column.real)}" for column in synced.key]
    if len(names) == 1:
        return f"{names[0]} IN ({', '.join(position[0] for position in positions)})"
    return " OR ".join(
        "(" + " AND ".join(f"{name} = {value}" for name, value in zip(names, position)) + ")"
        for position in positions
    )


def fetch(
    database: Database, synced: SyncedTable, positions: Sequence[Position], sql: str = ""
) -> Iterator[list[tuple[Position, Optional[bytes]]]]:
    """The rows with these keys as they are now, some at a time: their positions, and JSON by ``sql`` (by
    default all columns).

    The JSON is None for a row that is too large; rows that do not exist are left out. Raises
    DatabaseUnavailable.
    """
    names = ", ".join(map(shown_sql, synced.key))
    groups = [positions[start : start + 500] for start in range(0, len(positions), 500)]
    while groups:
        group = groups.pop(0)
        statement = (
            f"SELECT {names}, {sql or synced.json_sql} FROM {from_clause(synced)} WHERE "
            f"{_matches(synced, group)}"
        )
        rows, cut = database.rows_within(statement, BUDGET)
        if cut and len(group) > 1:
            half = len(group) // 2
            groups[:0] = [group[:half], group[half:]]
            continue
        yield [([_literal(column, shown) for column, shown in zip(synced.key, row)], row[-1]) for row in rows]
