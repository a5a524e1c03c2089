"""The rows that reloads ask for: read in one snapshot with the changes around them, many at a time."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Optional

import msgspec

from gearsync.contract import ROW, SCHEMA
from gearsync.outbox.changes import Entry
from gearsync.outbox.declarations import Declarations, KeyColumn, LargeColumn, number_of
from gearsync.outbox.sql import literal, quote, text_list
from gearsync.outbox.synced_table import bare, identity_bytes
from gearsync.project.payload import Change, Layout, decode_change, decode_outbox
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import AccessDenied, DatabaseUnavailable, StatementRefused
from gearsync.values import Malformed, Number, Row, Value

#: Rows that are read by one SELECT, when nothing is known of their sizes and at most.
_FIRST_ROWS, _MOST_ROWS = 8, 256
#: While the rows of one SELECT are no more bytes than this, the next one is for twice as many.
_FEW_BYTES = 1 << 20
#: A row that the server refuses to show is asked for so many times.
_ATTEMPTS = 3


class RowsDenied(Exception):
    """The account may not read the rows of ``table``; the message is the server's."""

    def __init__(self, table: str, error: DatabaseUnavailable) -> None:
        super().__init__(str(error))
        self.table = table


class _Unclear(Exception):
    """Not all rows of a SELECT can be understood, so that they are to be read one by one."""


def _gone(change: Change, key: Row) -> Change:
    """What the reload of a row that is not there comes to. What is known of it is removed; what else it had written, its delete tells."""
    return Change(change.table, "delete", None, {**key, **(change.old or {})}, True)


class _Readable(NamedTuple):
    """How the rows are read that the reloads of one declaration ask for: under the declaration that is in force, found by the key of theirs."""

    number: int
    """That of the declaration in force."""
    layout: Optional[Layout]
    """Of the reloads' own declaration."""
    key: list[KeyColumn]
    """The columns that a row is found by."""
    large: list[LargeColumn]
    """Those that come by themselves."""
    select: str
    """The SELECT of both and of the row without its large columns, without its condition; empty when the table has not all columns of the key any more."""

    def condition(self, keys: Sequence[Row]) -> str:
        """What holds for the rows with these keys. Raises KeyError and ValueError."""
        names = [f"{ROW}.{quote(column.real)}" for column in self.key]
        literals = [[literal(column.kind, key[column.declared]) for column in self.key] for key in keys]
        if len(names) == 1 and len(keys) > 1:
            return f"{names[0]} IN ({', '.join(text for (text,) in literals)})"
        return " OR ".join("(" + " AND ".join(f"{name} = {text}" for name, text in zip(names, each)) + ")" for each in literals)


def _shown(column: KeyColumn) -> str:
    """What shows a key column as its values travel: as text, or as bytes."""
    name = f"{ROW}.{quote(column.real)}"
    return name if column.kind == "binary" else f"{name} + 0" if column.kind == "bit" else f"CONVERT({name} USING utf8mb4)"


def _kind_of(value: Value) -> str:
    """What a key column is by a value of it. Pure."""
    return "binary" if isinstance(value, bytes) else "bit" if isinstance(value, int) else "decimal" if isinstance(value, Number) else "text"


def _key_of(entry: Entry) -> Row:
    """The key in a payload with names, which triggers of the first releases wrote; empty when the payload is none. Pure."""
    try:
        return decode_outbox(entry.table, entry.operation, entry.payload).new or {}
    except Malformed:
        return {}


def _alike(entry: Entry) -> tuple[Any, ...]:
    """What is equal for reloads that are read in one way. Pure."""
    number = number_of(entry.payload)
    return (entry.table, number) if number else (entry.table, number, *_key_of(entry))


class Reloaded(NamedTuple):
    """What a reload comes to: a change, and the number of the declaration that its row is to be written under."""

    change: Change
    number: int


class ReloadRows:
    """The rows that the reloads of a batch ask for, read some at a time, all in one snapshot."""

    def __init__(self, database: Database, declarations: Optional[Declarations], entries: list[Entry]) -> None:
        self._database = database
        self._declarations = declarations
        self._entries = entries
        #: By those that are read in one way.
        self._tables: dict[tuple[Any, ...], Optional[_Readable]] = {}
        self._few: dict[str, int] = {}
        #: What was found out so far, by the entries' ids.
        self.changes: dict[int, Reloaded] = {}
        self.wrong: dict[int, Malformed] = {}
        self.bytes = 0

    def look(self, number: int) -> None:
        """Find out what the reload at ``number`` comes to, and some of the same table behind it. Raises DatabaseUnavailable and RowsDenied."""
        first = self._entries[number]
        alike = _alike(first)
        if alike not in self._tables:
            self._tables[alike] = self._readable(first)
        table = self._tables[alike]
        if table is None and number_of(first.payload):
            # It waits.
            return
        few = self._few.setdefault(first.table, _FIRST_ROWS if table is None or table.large else _MOST_ROWS)
        asked: dict[int, Change] = {}
        same = (entry for entry in itertools.islice(self._entries, number, None)
                if entry.operation == "reload" and entry.table == first.table and _alike(entry) == alike)
        for entry in itertools.islice(same, few):
            try:
                asked[entry.id] = decode_change(table and table.layout, entry.table, entry.operation, entry.payload)
                if table is None or not table.key:
                    raise Malformed("reload of a table that synced_table does not know, or knows no key of")
                table.condition([asked[entry.id].new or {}])
            except Malformed as error:
                self.wrong[entry.id] = error
                asked.pop(entry.id, None)
            except (KeyError, ValueError) as error:
                self.wrong[entry.id] = Malformed(f"reload with a wrong key: {error}")
                asked.pop(entry.id, None)
        if table is not None and asked:
            before = self.bytes
            self._read(table, asked)
            self._few[first.table] = min(2 * few, _MOST_ROWS) if self.bytes - before <= _FEW_BYTES else max(few // 4, 1)

    def _read(self, table: _Readable, asked: dict[int, Change]) -> None:
        if len(asked) > 1:
            try:
                self._read_together(table, asked)
            except _Unclear:
                # Most often it is one row's fault, which is found in a few steps.
                pairs = list(asked.items())
                self._read(table, dict(pairs[: len(pairs) // 2]))
                self._read(table, dict(pairs[len(pairs) // 2 :]))
            return
        for number, change in asked.items():
            try:
                self._read_alone(table, number, change)
            except Malformed as error:
                self.wrong[number] = error

    def _read_together(self, table: _Readable, asked: dict[int, Change]) -> None:
        keys = {identity_bytes(table.key, change.new or {}): change.new or {} for change in asked.values()}
        try:
            rows = self._select(table, list(keys.values()), next(iter(asked.values())))
        except StatementRefused:
            raise _Unclear from None
        found: dict[tuple[bytes, ...], Row] = {}
        for columns in rows:
            if columns[len(table.key)] is None:
                raise _Unclear
            try:
                found[tuple(bytes(value or b"") for value in columns[: len(table.key)])] = self._row(table, columns)
            except Malformed:
                raise _Unclear from None
        for number, change in asked.items():
            self._take(table, number, change, found)

    def _read_alone(self, table: _Readable, number: int, change: Change) -> None:
        """Raises Malformed."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                rows = self._select(table, [change.new or {}], change)
                break
            except StatementRefused as error:
                if attempt == _ATTEMPTS:
                    raise Malformed(f"the row cannot be read, error {error.code}", f"the row cannot be read: {error}") from None
        if rows and rows[0][len(table.key)] is None:
            raise Malformed("the row is too large to be put into words; raise max_allowed_packet")
        found = {tuple(bytes(value or b"") for value in columns[: len(table.key)]): self._row(table, columns) for columns in rows}
        self._take(table, number, change, found)

    def _select(self, table: _Readable, keys: list[Row], change: Change) -> list[tuple[Optional[bytes], ...]]:
        if not table.select:
            return []
        try:
            rows = self._database.rows(f"{table.select} WHERE {table.condition(keys)}")
        except AccessDenied as error:
            raise RowsDenied(str(change.table), error) from None
        self.bytes += sum(len(value) for columns in rows for value in columns if value is not None)
        return rows

    @staticmethod
    def _row(table: _Readable, columns: tuple[Optional[bytes], ...]) -> Row:
        small, *large = columns[len(table.key) :]
        found = decode_outbox("", "update", b'{"new":%s}' % (small or b"null"))
        values = {column.declared: bare(column.kind, value) for column, value in zip(table.large, large)}
        return {**(found.new or {}), **values}

    def _take(self, table: _Readable, number: int, change: Change, found: dict[tuple[bytes, ...], Row]) -> None:
        key = change.new or {}
        # 'a' and 'A' are one key for many collations, and two rows for Redis, perhaps in two shards.
        row = found.get(identity_bytes(table.key, key))
        found_change = _gone(change, key) if row is None else Change(change.table, "update", dict(row), change.old, change.partial)
        self.changes[number] = Reloaded(found_change, table.number)

    def _readable(self, entry: Entry) -> Optional[_Readable]:
        synced = self._database.named_rows(f"SELECT * FROM {SCHEMA}.synced_table WHERE table_name = {text_list([entry.table])}")
        own, in_force = number_of(entry.payload), int(synced[0].get(b"number", 0)) if synced else 0
        # That which was written down last is not in force before all triggers are of it: what is written under it must be told by them as old.
        number = max(own, in_force)
        if number == 0:
            return self._readable_by_names(synced[0]) if synced else None
        under, of = (self._declarations.find(entry.table, each) if self._declarations else None for each in (number, own))
        if under is None or under.declared is None or of is None:
            return None
        found = under.declared
        kinds = dict(found.columns)
        key = of.declared.key if of.declared else [KeyColumn(name, name, kinds.get(name) or _kind_of(value)) for name, value in _key_of(entry).items()]
        where = (found.source_schema, found.source_table)
        names = "SELECT CONVERT(COLUMN_NAME USING utf8mb4) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
        there = {name.decode().lower() for (name,) in self._database.rows(names, where)} if own != number else None
        is_found = there is None or all(column.real.lower() in there for column in key)
        return _Readable(number, of.layout, key, found.large_columns, _select_sql(key, found.small_sql, found.large_columns, *where) if is_found else "")

    @staticmethod
    def _readable_by_names(synced: Mapping[bytes, bytes]) -> _Readable:
        """How rows are read before the schema is migrated."""
        key = msgspec.json.decode(synced[b"key_columns"], type=list[KeyColumn])
        large = msgspec.json.decode(synced[b"large_columns"], type=list[LargeColumn])
        small, schema, name = (synced[column].decode() for column in (b"small_sql", b"source_schema", b"source_table"))
        return _Readable(0, None, key, large, _select_sql(key, small, large, schema, name))


def _select_sql(key: Sequence[KeyColumn], small_sql: str, large: Sequence[LargeColumn], schema: str, table: str) -> str:
    wanted = ", ".join([*map(_shown, key), small_sql, *(column.sql for column in large)])
    return f"SELECT {wanted} FROM {quote(schema)}.{quote(table)} AS {ROW}"
