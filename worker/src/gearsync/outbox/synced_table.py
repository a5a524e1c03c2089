"""A declared table in MySQL, as the database `gearsync` describes it: walk it by its key, fetch rows, put rows into the outbox again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional

import msgspec

from gearsync.contract import ROW, SCHEMA
from gearsync.outbox import declarations
from gearsync.outbox.declarations import KeyColumn, LargeColumn
from gearsync.project.payload import Layout, decode_outbox
from gearsync.servers.mysql import Database
from gearsync.values import Json, Number, Row, Value, as_bytes

#: The alias that the stored SQL texts use for the row.

#: Bytes that the rows of one piece may have together; one row alone may have more.
BUDGET = 4 << 20
#: Rows of the first piece of a walk, when nobody knows how large rows are.
_FIRST = 100
#: Where only some rows are wanted, a piece is looked for among so many times its size.
SPARSE = 10

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")


class NoKey(Exception):
    """The table has no key to go by; the message says which table."""


class SyncedTable(msgspec.Struct):
    """One row of gearsync.synced_table."""

    table: str
    schema: str
    name: str
    shards: int
    key: list[KeyColumn]
    shard_sql: str
    row_sql: str
    old_sql: str
    #: True for a row that is too large to be put into words as a whole.
    large_sql: str = "FALSE"
    #: The row without its large columns, and these.
    small_sql: str = ""
    large: list[LargeColumn] = msgspec.field(default_factory=list)
    #: That of its declaration, and where the values are in a payload made under it; 0 and None for triggers of a release that did not number.
    number: int = 0
    layout: Optional[Layout] = None
    #: Another one for each declaration of the table: the moment at which it was saved.
    version: str = ""

    def row(self, words: bytes) -> Row:
        """A row by one of the SQL texts, with the values' places or with their names. Raises Malformed."""
        if self.layout is not None and words[:1] == b"[":
            return self.layout.row(words)
        return decode_outbox(self.table, "refresh", b'{"new":%s}' % words).new or {}

    @property
    def words_sql(self) -> str:
        """The row as JSON; NULL when it is too large, in place of JSON that lacks a part."""
        return self.row_sql if self.large_sql == "FALSE" else f"IF({self.large_sql}, NULL, {self.row_sql})"


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
        # Without an exponent it would be a decimal number, which knows no -0.
        return f"{text}e0" if kind == "float" and "e" not in text.lower() else text
    return text_literal(text.encode()).decode()


def load(database: Database) -> dict[str, SyncedTable]:
    """The durable tables by their declared names. Raises DatabaseUnavailable."""
    found = {}
    # A schema that is not migrated yet has no numbers.
    for row in database.named_rows(f"SELECT * FROM {SCHEMA}.synced_table"):
        texts = {name.decode(): _text(value) for name, value in row.items()}
        name, number = texts["table_name"], int(texts.get("number", 0))
        known = declarations.load(database, name).get(number) if number else None
        columns = msgspec.json.decode(texts["key_columns"], type=list[KeyColumn])
        for column in columns:
            types = database.rows(
                "SELECT DATA_TYPE, COALESCE(DATETIME_PRECISION, 0) FROM information_schema.COLUMNS"
                " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND COLUMN_NAME = %s",
                (texts["source_schema"], texts["source_table"], column.real),
            )
            if types:
                column.data_type, column.precision = _text(types[0][0]).lower(), int(types[0][1])
        found[name] = SyncedTable(
            name, texts["source_schema"], texts["source_table"], int(texts["shards"]), columns,
            texts["shard_sql"], texts["row_sql"], texts["old_sql"], texts["large_sql"], texts["small_sql"],
            msgspec.json.decode(texts["large_columns"], type=list[LargeColumn]), number, known.layout() if known else None,
            texts["changed_at"])
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def from_clause(synced: SyncedTable) -> str:
    return f"{quote(synced.schema)}.{quote(synced.name)} AS {ROW}"


def _ordered(column: KeyColumn) -> str:
    """What the walk orders and compares by."""
    name = f"{ROW}.{quote(column.real)}"
    if column.data_type in ("enum", "set"):
        return f"({name} + 0)"
    # A FLOAT's text is shorter than its value: the row would come after itself.
    return f"({name} + 0e0)" if column.kind == "float" else name


def _shown(column: KeyColumn) -> str:
    """What tells the column's value as bytes of text."""
    if column.kind == "binary":
        return f"HEX({ROW}.{quote(column.real)})"
    if column.kind == "bit":
        return f"{ROW}.{quote(column.real)} + 0"
    return _ordered(column)


def _place(column: KeyColumn, shown: bytes) -> str:
    if column.kind == "binary":
        return f"x'{shown.decode()}'"
    if column.data_type in ("enum", "set"):
        return shown.decode()
    return literal(column.kind, shown)


def _position(synced: SyncedTable, row: Sequence[bytes]) -> Position:
    return [_place(column, shown) for column, shown in zip(synced.key, row)]


def after(synced: SyncedTable, position: Position) -> str:
    """The condition that holds for all rows behind ``position`` in the key's order, in a form that both servers find by the index."""
    names = [_ordered(column) for column in synced.key]
    condition = f"{names[-1]} > {position[-1]}"
    for name, value in zip(reversed(names[:-1]), reversed(position[:-1])):
        condition = f"({name} >= {value} AND ({name} > {value} OR {condition}))"
    return condition


def upto(synced: SyncedTable, position: Position) -> str:
    """The condition that holds for ``position`` and all rows before it in the key's order."""
    names = [_ordered(column) for column in synced.key]
    condition = f"{names[-1]} <= {position[-1]}"
    for name, value in zip(reversed(names[:-1]), reversed(position[:-1])):
        condition = f"({name} <= {value} AND ({name} < {value} OR {condition}))"
    return condition


def _select(synced: SyncedTable, columns: Sequence[str], conditions: Sequence[str], end: str) -> str:
    """A SELECT of the key and ``columns`` in the key's order. Raises NoKey."""
    if not synced.key:
        raise NoKey(f"{synced.table} has no key that its declaration names; it cannot be walked in pieces")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    order = ", ".join(_ordered(column) for column in synced.key)
    return f"SELECT {', '.join([*map(_shown, synced.key), *columns])} FROM {from_clause(synced)}{where} ORDER BY {order} {end}"


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
        found = database.rows(_select(synced, [], conditions, f"LIMIT 1 OFFSET {size * SPARSE - 1}"))
        last = _position(synced, found[0]) if found else None
        conditions += [upto(synced, last)] if last else []
        conditions += [f"RAND() < {share!r}"]
    rows, cut = database.rows_within(_select(synced, [synced.shard_sql, synced.words_sql], conditions, f"LIMIT {size}"), BUDGET)
    there = entries(synced, rows)
    weight = sum([len(entry.row) for entry in there if entry.row is not None])
    if cut or len(there) == size:
        return Piece(there, weight, there[-1].position, False)
    if last is not None:
        return Piece(there, weight, last, False)
    return Piece(there, weight, there[-1].position if there else position, True)


class Reach(NamedTuple):
    """How far a piece reaches: to which row, how many bytes its large columns have, and whether it is the table's end."""

    last: Optional[Position]
    rows: int
    size: int
    done: bool


def reach(database: Database, synced: SyncedTable, position: Optional[Position], number: int) -> Reach:
    """How far the next ``number`` rows behind ``position`` reach, or those that hold BUDGET bytes; no row is locked. Raises NoKey and DatabaseUnavailable."""
    length = " + ".join(f"COALESCE(OCTET_LENGTH({column.sql}), 0)" for column in synced.large) or "0"
    rows = database.rows(_select(synced, [length], [after(synced, position)] if position else [], f"LIMIT {number}"))
    size = 0
    for count, row in enumerate(rows, 1):
        size += int(row[-1])
        if size >= BUDGET or count == number:
            return Reach(_position(synced, row), count, size, False)
    return Reach(_position(synced, rows[-1]) if rows else position, len(rows), size, True)


def copy_sql(synced: SyncedTable, start: Optional[Position], last: Position, where: str, *, alone: bool, mariadb: bool) -> str:
    """The statement that puts the rows behind ``start`` and up to ``last`` into the outbox, as the table's declaration of this version has it; none when
    there is another one by now.

    It locks each row by itself while it is copied and waits for none, but for that of ``last`` when it is to be copied ``alone``.
    The rows are chosen without a lock: one that comes to be meanwhile tells of itself.
    """
    keys = [quote(column.real) for column in synced.key]
    version, table = (text_literal(text.encode()).decode() for text in (synced.version, synced.table))
    conditions = [*([after(synced, start)] if start else []), upto(synced, last), *([f"({where})"] if where else []),
                  f"EXISTS (SELECT 1 FROM gearsync.synced_table WHERE table_name = {table} AND changed_at = {version})"]
    # A limit keeps the servers from merging it with the SELECT around it, which would lock the row behind the last.
    order = ", ".join(f"{_ordered(column)} DESC" for column in synced.key)
    chosen = (f"SELECT {', '.join(f'{ROW}.{key}' for key in keys)} FROM {from_clause(synced)} WHERE {' AND '.join(conditions)}"
              f" ORDER BY {order} LIMIT {1 if alone else 1 << 63}")
    operation, payload = "'refresh'", synced.row_sql if synced.number else f"CONCAT('{{\"new\":', {synced.row_sql}, '}}')"
    if synced.large_sql != "FALSE":
        # Too large to be put into words: the worker reads it itself.
        operation = f"IF({synced.large_sql}, 'reload', 'refresh')"
        number = f'"declaration":{synced.number},' if synced.number else ""
        payload = f"IF({synced.large_sql}, CONCAT('{{{number}\"partial\":true,\"key\":', {synced.small_sql}, '}}'), {payload})"
    lock = "LOCK IN SHARE MODE" if mariadb else f"FOR SHARE OF {ROW}"
    return (f"{'SET STATEMENT max_statement_time = 10 FOR ' if mariadb else ''}INSERT INTO gearsync.outbox (shard, table_name, operation, payload)"
            f" SELECT {synced.shard_sql}, {table}, {operation}, {payload} FROM ({chosen}) AS gearsync_chosen STRAIGHT_JOIN {from_clause(synced)}"
            f" ON {' AND '.join(f'{ROW}.{key} = gearsync_chosen.{key}' for key in keys)} {lock}{'' if alone else ' NOWAIT'}")


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
    order = [f"{_ordered(column)} DESC" for column in synced.key]
    return (f"SELECT {', '.join(_shown(column) for column in synced.key)}, {synced.shard_sql}, {synced.words_sql} FROM {from_clause(synced)}"
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


def bare(kind: str, value: Optional[bytes]) -> Value:
    """A value that was read by itself."""
    if value is None or kind == "binary":
        return value
    return Json(value.decode()) if kind == "json" else value.decode()


def identity(synced: SyncedTable, row: Row) -> Position:
    """The literals of a row's key. Raises KeyError when the row lacks one of its columns, ValueError when one is no value of its kind."""
    return [literal(column.kind, row[column.declared]) for column in synced.key]


def identity_bytes(key: Sequence[KeyColumn], row: Row) -> tuple[bytes, ...]:
    """A row's key as Redis sees it: rows are the same when these are, whatever the server's collations say."""
    values = (row[column.declared] for column in key)
    return tuple(b"" if value is None else as_bytes(value) for value in values)


def _matches(synced: SyncedTable, positions: Sequence[Position]) -> str:
    names = [f"{ROW}.{quote(column.real)}" for column in synced.key]
    if len(names) == 1:
        return f"{names[0]} IN ({', '.join(position[0] for position in positions)})"
    return " OR ".join("(" + " AND ".join(f"{name} = {value}" for name, value in zip(names, position)) + ")" for position in positions)


def fetch(database: Database, synced: SyncedTable, positions: Sequence[Position], sql: str = "") -> Iterator[list[tuple[Position, Optional[bytes]]]]:
    """The rows with these keys as they are now, some at a time: their places, and JSON by ``sql`` (all columns when none is given).

    It is None for a row that is too large for words; rows that are not there are left out. Raises DatabaseUnavailable.
    """
    names = ", ".join(map(_shown, synced.key))
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
