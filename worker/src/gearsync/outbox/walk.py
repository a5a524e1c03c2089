"""Walk a synced table by its key, in pieces and without locks; fetch rows by their keys."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

from gearsync.contract import ROW
from gearsync.outbox.declarations import KeyColumn
from gearsync.outbox.sql import literal, quote
from gearsync.outbox.synced_table import NoKey, Position, SyncedTable, bare, from_clause
from gearsync.servers.mysql import Database
from gearsync.values import Row

#: Bytes that the rows of one piece may have together; one row alone may have more.
BUDGET = 4 << 20
#: Rows of the first piece of a walk, when nobody knows how large rows are.
_FIRST = 100
#: Where only some rows are wanted, a piece is looked for among so many times its size.
SPARSE = 10


class Entry(NamedTuple):
    """One row of a walk: its place, its shard, and its columns as JSON; None when the row is too large to be put into words."""

    position: Position
    shard: int
    row: Optional[bytes]


def order_sql(column: KeyColumn) -> str:
    """What the walk orders and compares by."""
    name = f"{ROW}.{quote(column.real)}"
    if column.data_type in ("enum", "set"):
        return f"({name} + 0)"
    # A FLOAT's text is shorter than its value: the row would come after itself.
    return f"({name} + 0e0)" if column.kind == "float" else name


def shown_sql(column: KeyColumn) -> str:
    """What tells the column's value as bytes of text."""
    if column.kind == "binary":
        return f"HEX({ROW}.{quote(column.real)})"
    if column.kind == "bit":
        return f"{ROW}.{quote(column.real)} + 0"
    return order_sql(column)


def _place(column: KeyColumn, shown: bytes) -> str:
    if column.kind == "binary":
        return f"x'{shown.decode()}'"
    if column.data_type in ("enum", "set"):
        return shown.decode()
    return literal(column.kind, shown)


def position_of(synced: SyncedTable, row: Sequence[bytes]) -> Position:
    return [_place(column, shown) for column, shown in zip(synced.key, row)]


def after(synced: SyncedTable, position: Position) -> str:
    """The condition that holds for all rows behind ``position`` in the key's order, in a form that both servers find by the index."""
    names = [order_sql(column) for column in synced.key]
    condition = f"{names[-1]} > {position[-1]}"
    for name, value in zip(reversed(names[:-1]), reversed(position[:-1])):
        condition = f"({name} >= {value} AND ({name} > {value} OR {condition}))"
    return condition


def upto(synced: SyncedTable, position: Position) -> str:
    """The condition that holds for ``position`` and all rows before it in the key's order."""
    names = [order_sql(column) for column in synced.key]
    condition = f"{names[-1]} <= {position[-1]}"
    for name, value in zip(reversed(names[:-1]), reversed(position[:-1])):
        condition = f"({name} <= {value} AND ({name} < {value} OR {condition}))"
    return condition


def select_sql(synced: SyncedTable, columns: Sequence[str], conditions: Sequence[str], end: str) -> str:
    """A SELECT of the key and ``columns`` in the key's order. Raises NoKey."""
    if not synced.key:
        raise NoKey(f"{synced.table} has no key that its declaration names; it cannot be walked in pieces")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join(order_sql(column) for column in synced.key)
    return f"SELECT {', '.join([*map(shown_sql, synced.key), *columns])} FROM {from_clause(synced)}{where} ORDER BY {order} {end}"


class Piece(NamedTuple):
    """Some rows of a walk: those found, their bytes, the place that the walk has come to, and whether it is the table's end."""

    entries: list[Entry]
    size: int
    position: Optional[Position]
    done: bool


def piece(database: Database, synced: SyncedTable, position: Optional[Position], size: int, share: float = 1.0) -> Piece:
    """At most ``size`` rows behind ``position``, or a random ``share`` of some, and no more than BUDGET bytes.

    When not all rows are wanted, a piece is a range of the key: however few there are, no statement looks for long. Raises NoKey and DatabaseUnavailable.
    """
    conditions = [after(synced, position)] if position else []
    last: Optional[Position] = None
    if share < 1.0:
        found = database.rows(select_sql(synced, [], conditions, f"LIMIT 1 OFFSET {size * SPARSE - 1}"))
        last = position_of(synced, found[0]) if found else None
        conditions += [upto(synced, last)] if last else []
        conditions += [f"RAND() < {share!r}"]
    rows, cut = database.rows_within(select_sql(synced, [synced.shard_sql, synced.words_sql], conditions, f"LIMIT {size}"), BUDGET)
    there = entries(synced, rows)
    weight = sum([len(entry.row) for entry in there if entry.row is not None])
    if cut or len(there) == size:
        return Piece(there, weight, there[-1].position, False)
    if last is not None:
        return Piece(there, weight, last, False)
    return Piece(there, weight, there[-1].position if there else position, True)


class Pace:
    """How many rows the next piece has: few at first, then as many as fit into BUDGET, ``most`` at most."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = min(_FIRST, most)

    def went(self, rows: int, size: int) -> None:
        """After a piece of so many rows and bytes: twice as many the next time, if they are as large as these."""
        fits = BUDGET * rows // size if size else self.most
        self.size = max(1, min(self.most, self.size * 2, fits))

    def blocked(self) -> None:
        """A row was locked: a smaller piece passes what is in the way, up to the row itself."""
        self.size = max(1, self.size // 4)


def last_sql(synced: SyncedTable, limit: int) -> str:
    """The SELECT of the ``limit`` rows with the greatest keys. Raises NoKey."""
    if not synced.key:
        raise NoKey(f"{synced.table} has no key that its declaration names; its last rows cannot be found")
    order = [f"{order_sql(column)} DESC" for column in synced.key]
    return (f"SELECT {', '.join(shown_sql(column) for column in synced.key)}, {synced.shard_sql}, {synced.words_sql} FROM {from_clause(synced)}"
            f" ORDER BY {', '.join(order)} LIMIT {limit}")


def entries(synced: SyncedTable, rows: Iterable[Sequence[Any]]) -> list[Entry]:
    """The rows of a SELECT of the key, the shard and the words, over a connection that leaves values as bytes."""
    width = len(synced.key)
    return [
        Entry([_place(column, shown) for column, shown in zip(synced.key, row)], int(row[width]), row[width + 1])
        for row in rows
    ]


def walk(database: Database, synced: SyncedTable, most: int, share: float = 1.0) -> Iterator[Piece]:
    """The table's rows, or a random ``share`` of them, in pieces of ``most`` at most, without locks, in the key's order.

    Raises NoKey and DatabaseUnavailable.
    """
    pace, position = Pace(most), None
    while True:
        found = piece(database, synced, position, pace.size, share)
        yield found
        if found.done:
            return
        position = found.position
        pace.went(len(found.entries), found.size)


def ends(database: Database, synced: SyncedTable, number: int) -> Iterator[Piece]:
    """The rows with the least keys and those with the greatest, so many of each, or as many as fit into BUDGET, and each once.

    Raises NoKey and DatabaseUnavailable.
    """
    first = piece(database, synced, None, number)
    yield first
    if not first.done:
        met = {tuple(entry.position) for entry in first.entries}
        rows, _cut = database.rows_within(last_sql(synced, number), BUDGET)
        yield Piece([entry for entry in entries(synced, rows) if tuple(entry.position) not in met], 0, None, True)


def large_row(database: Database, synced: SyncedTable, position: Position) -> Optional[Row]:
    """A row that is too large for words, its large columns as they are; None when it is not there. Raises Malformed and DatabaseUnavailable."""
    columns = ", ".join([synced.small_sql, *(column.sql for column in synced.large)])
    rows = database.rows(f"SELECT {columns} FROM {from_clause(synced)} WHERE {_matches(synced, [position])}")
    if not rows:
        return None
    small, *values = rows[0]
    return {**synced.row(small or b"null"), **{column.declared: bare(column.kind, value) for column, value in zip(synced.large, values)}}


def _matches(synced: SyncedTable, positions: Sequence[Position]) -> str:
    names = [f"{ROW}.{quote(column.real)}" for column in synced.key]
    if len(names) == 1:
        return f"{names[0]} IN ({', '.join(position[0] for position in positions)})"
    return " OR ".join("(" + " AND ".join(f"{name} = {value}" for name, value in zip(names, position)) + ")" for position in positions)


def fetch(database: Database, synced: SyncedTable, positions: Sequence[Position], sql: str = "") -> Iterator[list[tuple[Position, Optional[bytes]]]]:
    """The rows with these keys as they are now, some at a time: their places, and JSON by ``sql`` (all columns when none is given).

    It is None for a row that is too large for words; rows that are not there are left out. Raises DatabaseUnavailable.
    """
    names = ", ".join(map(shown_sql, synced.key))
    groups = [positions[start : start + 500] for start in range(0, len(positions), 500)]
    while groups:
        group = groups.pop(0)
        statement = f"SELECT {names}, {sql or synced.words_sql} FROM {from_clause(synced)} WHERE {_matches(synced, group)}"
        rows, cut = database.rows_within(statement, BUDGET)
        if cut and len(group) > 1:
            half = len(group) // 2
            groups[:0] = [group[:half], group[half:]]
            continue
        yield [([_place(column, shown) for column, shown in zip(synced.key, row)], row[-1]) for row in rows]
