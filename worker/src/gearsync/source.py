"""A declared table in MySQL, as the database `gearsync` describes it: walk it by its key, fetch rows, put rows into the outbox again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import msgspec

from gearsync.change import Number, Row, Value
from gearsync.commands import as_bytes
from gearsync.database import Database

#: The alias that the stored SQL texts use for the row.
ALIAS = "gearsync_row"

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")


class NoKey(Exception):
    """The table has no key to go by; the message says which table."""


class KeyColumn(msgspec.Struct):
    """One column of a row's identity: its declared name, the table's own name for it, and how its value travels."""

    declared: str
    real: str
    kind: str
    #: How the server orders it when that is not by its value: ENUM and SET are ordered by number and compared as text.
    data_type: str = ""


class Source(msgspec.Struct):
    """One row of gearsync.synced_table."""

    table: str
    schema: str
    name: str
    shards: int
    key: list[KeyColumn]
    shard_sql: str
    row_sql: str
    old_sql: str


#: Values of the key columns as SQL literals, in the key's order.
Position = list[str]


class Entry(NamedTuple):
    """One row of a walk: its place, its shard, and its columns as JSON; None when the row is too large to be put into words."""

    position: Position
    shard: int
    row: Optional[bytes]


def quote(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def text_literal(value: bytes) -> bytes:
    """A string literal of UTF-8 text; needs a session without NO_BACKSLASH_ESCAPES."""
    return b"'" + value.replace(b"\\", b"\\\\").replace(b"'", b"''") + b"'"


def literal(kind: str, value: Value) -> str:
    """A key column's value as an SQL literal. Raises ValueError for a number that is none."""
    if value is None:
        raise ValueError("a key column is NULL")
    if kind == "binary":
        return "x'" + (value if isinstance(value, bytes) else str(value).encode()).hex() + "'"
    text = value.decode() if isinstance(value, bytes) else str(value)  # a UnicodeDecodeError is a ValueError
    if kind in ("integer", "decimal", "float", "bit"):
        if not _NUMBER.fullmatch(text):
            raise ValueError("not a number")
        return text
    return text_literal(text.encode()).decode()


def load(database: Database) -> dict[str, Source]:
    """The durable tables by their declared names. Raises DatabaseUnavailable."""
    found = {}
    for name, schema, table, shards, key, *sql in database.rows(
        "SELECT table_name, source_schema, source_table, shards, key_columns, shard_sql, row_sql, old_sql FROM gearsync.synced_table"
    ):
        columns = msgspec.json.decode(key, type=list[KeyColumn])
        for column in columns:
            types = database.rows(
                "SELECT DATA_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND COLUMN_NAME = %s",
                (schema, table, column.real),
            )
            column.data_type = _text(types[0][0]).lower() if types else ""
        found[_text(name)] = Source(_text(name), _text(schema), _text(table), int(shards), columns, *[_text(part) for part in sql])
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def from_clause(source: Source) -> str:
    return f"{quote(source.schema)}.{quote(source.name)} AS {ALIAS}"


def _ordered(column: KeyColumn) -> str:
    """What the walk orders and compares by."""
    name = f"{ALIAS}.{quote(column.real)}"
    if column.data_type in ("enum", "set"):
        return f"({name} + 0)"
    # A FLOAT's text is shorter than its value: the row would come after itself.
    return f"({name} + 0e0)" if column.kind == "float" else name


def _shown(column: KeyColumn) -> str:
    """What tells the column's value as bytes of text."""
    if column.kind == "binary":
        return f"HEX({ALIAS}.{quote(column.real)})"
    if column.kind == "bit":
        return f"{ALIAS}.{quote(column.real)} + 0"
    return _ordered(column)


def _place(column: KeyColumn, shown: bytes) -> str:
    if column.kind == "binary":
        return f"x'{shown.decode()}'"
    if column.data_type in ("enum", "set"):
        return shown.decode()
    return literal(column.kind, shown)


def after(source: Source, position: Position) -> str:
    """The condition that holds for all rows behind ``position`` in the key's order, in a form that both servers find by the index."""
    names = [_ordered(column) for column in source.key]
    condition = f"{names[-1]} > {position[-1]}"
    for name, value in zip(reversed(names[:-1]), reversed(position[:-1])):
        condition = f"({name} >= {value} AND ({name} > {value} OR {condition}))"
    return condition


def chunk_sql(source: Source, position: Optional[Position], limit: int, where: str = "", tail: str = "") -> str:
    """The SELECT of the ``limit`` rows behind ``position``; ``tail`` is what follows, a lock for example. Raises NoKey."""
    if not source.key:
        raise NoKey(f"{source.table} has no key that its declaration names; it cannot be walked in pieces")
    conditions = [after(source, position)] if position else []
    if where:
        conditions.append(f"({where})")
    order = [_ordered(column) for column in source.key]
    return " ".join([
        f"SELECT {', '.join(_shown(column) for column in source.key)}, {source.shard_sql}, {source.row_sql} FROM {from_clause(source)}",
        *([f"WHERE {' AND '.join(conditions)}"] if conditions else []),
        f"ORDER BY {', '.join(order)} LIMIT {limit}", *([tail] if tail else []),
    ])


def last_sql(source: Source, limit: int) -> str:
    """The SELECT of the ``limit`` rows with the greatest keys. Raises NoKey."""
    if not source.key:
        raise NoKey(f"{source.table} has no key that its declaration names; its last rows cannot be found")
    order = [f"{_ordered(column)} DESC" for column in source.key]
    return (f"SELECT {', '.join(_shown(column) for column in source.key)}, {source.shard_sql}, {source.row_sql} FROM {from_clause(source)}"
            f" ORDER BY {', '.join(order)} LIMIT {limit}")


def entries(source: Source, rows: Iterable[Sequence[Any]]) -> list[Entry]:
    """What a SELECT of chunk_sql has answered, over a connection that leaves values as bytes."""
    width = len(source.key)
    return [
        Entry([_place(column, shown) for column, shown in zip(source.key, row)], int(row[width]), row[width + 1])
        for row in rows
    ]


def walk(database: Database, source: Source, size: int, where: str = "", position: Optional[Position] = None) -> Iterator[list[Entry]]:
    """The table's rows in pieces of ``size``, without locks, in the key's order. Raises NoKey and DatabaseUnavailable."""
    while True:
        found = entries(source, database.rows(chunk_sql(source, position, size, where)))
        if found:
            yield found
            position = found[-1].position
        if len(found) < size:
            return


def identity(source: Source, row: Row) -> Position:
    """The literals of a row's key. Raises KeyError when the row lacks one of its columns, ValueError when one is no value of its kind."""
    return [literal(column.kind, row[column.declared]) for column in source.key]


def identity_bytes(key: Sequence[KeyColumn], row: Row) -> tuple[bytes, ...]:
    """A row's key as Redis sees it: rows are the same when these are, whatever the server's collations say."""
    values = (row[column.declared] for column in key)
    return tuple(b"" if value is None else as_bytes(value) for value in values)


def _matches(source: Source, positions: Sequence[Position]) -> str:
    names = [f"{ALIAS}.{quote(column.real)}" for column in source.key]
    if len(names) == 1:
        return f"{names[0]} IN ({', '.join(position[0] for position in positions)})"
    return " OR ".join("(" + " AND ".join(f"{name} = {value}" for name, value in zip(names, position)) + ")" for position in positions)


def fetch(database: Database, source: Source, positions: Sequence[Position], sql: str = "") -> list[bytes]:
    """The rows with these keys as they are now, as JSON by ``sql`` (row_sql when none is given); rows that are not there are left out."""
    found: list[bytes] = []
    for start in range(0, len(positions), 500):
        condition = _matches(source, positions[start : start + 500])
        rows = database.rows(f"SELECT {sql or source.row_sql} FROM {from_clause(source)} WHERE {condition}")
        found += [row for (row,) in rows if row is not None]
    return found


def _wire(value: Value) -> Any:
    """A value as payloads have it."""
    if isinstance(value, bytes):
        return {"$hex": value.hex()}
    return {"$num": str(value)} if isinstance(value, Number) else value


def enqueue_reload(database: Database, source: Source, rows: Sequence[Row]) -> None:
    """Have the worker look at these rows again, in the order of all their changes: what is there is written, what is gone is removed.

    ``rows`` hold the key's columns, and whatever else tells what is to be removed. Raises DatabaseUnavailable; then none is enqueued.
    """
    with database.transaction():
        for row in rows:
            put_change(database, source, row, "reload", reload_payload(source, row))


def reload_payload(source: Source, row: Row) -> bytes:
    """What a reload of one row stands in the outbox as. Raises KeyError when the row lacks a column of its key."""
    return msgspec.json.encode({
        "key": {column.declared: _wire(row[column.declared]) for column in source.key},
        "old": {name: _wire(value) for name, value in row.items()},
        "partial": True,
    })


def put_change(database: Database, source: Source, row: Row, operation: str, payload: bytes) -> None:
    """Put a change of ``row`` into its shard of the outbox. Raises DatabaseUnavailable; KeyError and ValueError when the row has no key."""
    derived = ", ".join(f"{value} AS {quote(column.real)}" for column, value in zip(source.key, identity(source, row)))
    # The server's own words for the shard, with the key's values in place of a row.
    ((shard,),) = database.rows(f"SELECT {source.shard_sql} FROM (SELECT {derived}) AS {ALIAS}")
    database.run("INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (%s, %s, %s, %s)", (int(shard), source.table, operation, payload))
