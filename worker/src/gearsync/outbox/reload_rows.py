# SPDX-License-Identifier: GPL-3.0-or-later
"""The rows that reloads ask for, many in one SELECT, from the snapshot that the changes of the batch were
read from.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

from gearsync.contract import ROW, SCHEMA
from gearsync.outbox.changes import Entry
from gearsync.outbox.declarations import Declarations, KeyColumn, LargeColumn, number_of
from gearsync.outbox.sql import literal, quote, text_list
from gearsync.outbox.synced_table import SyncedTable, bare, identity_bytes, records
from gearsync.project.payload import Change, Layout, decode_change, decode_outbox
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import AccessDenied, DatabaseUnavailable, StatementRefused
from gearsync.values import Malformed, Number, Row, Value

#: Rows of one SELECT: of the first, when their size is unknown, and at most.
_FIRST_ROWS, _MOST_ROWS = 8, 256
#: When the rows of one SELECT have at most so many bytes, the next one is for twice as many rows.
_SMALL_RESULT = 1 << 20
#: Attempts to read a row that the server refuses to return.
_ATTEMPTS = 3


class RowsDenied(Exception):
    """The account may not read the rows of ``table``; the message is the server's."""

    def __init__(self, table: str, error: DatabaseUnavailable) -> None:
        super().__init__(str(error))
        self.table = table


class _Unreadable(Exception):
    """Some row of a SELECT cannot be read or decoded, so that smaller parts are to be read."""


def _deletion(change: Change, key: Row) -> Change:
    """The change that the reload of an absent row results in: a delete with the known values. The row's
    own delete has the others.
    """
    return Change(change.table, "delete", None, {**key, **(change.old or {})}, True)


class _Readable(NamedTuple):
    """How to read the rows for the reloads of one declaration: by that declaration's key, as the current
    declaration has them.
    """

    number: int
    """The number of the current declaration."""
    layout: Optional[Layout]
    """The layout of the reloads' own declaration."""
    key: list[KeyColumn]
    """The columns that identify a row."""
    large: list[LargeColumn]
    """The columns that are selected by themselves."""
    select: str
    """The SELECT, without a WHERE, of the key, the row without its large columns, and these; empty when
    the table lacks a column of the key.
    """

    def condition(self, keys: Sequence[Row]) -> str:
        """The condition for the rows with these keys. Raises KeyError and ValueError."""
        names = [f"{ROW}.{quote(column.real)}" for column in self.key]
        literals = [[literal(column.kind, key[column.declared]) for column in self.key] for key in keys]
        if len(names) == 1 and len(keys) > 1:
            return f"{names[0]} IN ({', '.join(text for (text,) in literals)})"
        return " OR ".join(
            "(" + " AND ".join(f"{name} = {text}" for name, text in zip(names, each)) + ")"
            for each in literals
        )


def _shown(column: KeyColumn) -> str:
    """The expression that selects a key column as its values are in payloads: as text or bytes."""
    name = f"{ROW}.{quote(column.real)}"
    return (
        name
        if column.kind == "binary"
        else f"{name} + 0"
        if column.kind == "bit"
        else f"CONVERT({name} USING utf8mb4)"
    )


def _kind_of(value: Value) -> str:
    """The kind of a key column, from a value of it. Pure."""
    return (
        "binary"
        if isinstance(value, bytes)
        else "bit"
        if isinstance(value, int)
        else "decimal"
        if isinstance(value, Number)
        else "text"
    )


def _key_of(entry: Entry) -> Row:
    """The key in a payload with names, as triggers of the first releases write it; empty when the payload
    is invalid. Pure.
    """
    try:
        return decode_outbox(entry.table, entry.operation, entry.payload).new or {}
    except Malformed:
        return {}


def _group_of(entry: Entry) -> tuple[Any, ...]:
    """A key that is equal for reloads that one SELECT can read. Pure."""
    number = number_of(entry.payload)
    return (entry.table, number) if number else (entry.table, number, *_key_of(entry))


class Reloaded(NamedTuple):
    """The change that a reload results in, and the number of the declaration by which the row is to be
    written.
    """

    change: Change
    number: int


class ReloadRows:
    """The rows for the reloads of a batch, read some at a time within one snapshot."""

    def __init__(
        self, database: Database, declarations: Optional[Declarations], entries: list[Entry]
    ) -> None:
        self._database = database
        self._declarations = declarations
        self._entries = entries
        #: By group.
        self._tables: dict[tuple[Any, ...], Optional[_Readable]] = {}
        #: Rows of the next SELECT, by table.
        self._sizes: dict[str, int] = {}
        #: The results so far, by the entries' ids: changes, and errors.
        self.changes: dict[int, Reloaded] = {}
        self.wrong: dict[int, Malformed] = {}
        self.bytes = 0

    def look(self, number: int) -> None:
        """Read the row for the reload at ``number``, and for some later ones of its group. Raises
        DatabaseUnavailable and RowsDenied.
        """
        first = self._entries[number]
        group = _group_of(first)
        if group not in self._tables:
            self._tables[group] = self._readable(first)
        table = self._tables[group]
        if table is None and number_of(first.payload):
            # Its declaration is absent: the change waits.
            return
        size = self._sizes.setdefault(
            first.table, _FIRST_ROWS if table is None or table.large else _MOST_ROWS
        )
        asked: dict[int, Change] = {}
        same = (
            entry
            for entry in itertools.islice(self._entries, number, None)
            if entry.operation == "reload" and entry.table == first.table and _group_of(entry) == group
        )
        for entry in itertools.islice(same, size):
            try:
                asked[entry.id] = decode_change(
                    table and table.layout, entry.table, entry.operation, entry.payload
                )
                if table is None or not table.key:
                    raise Malformed(
                        f"reload of a table that is not in {SCHEMA}.synced_table, or has no key there: "
                        "declare it again"
                    )
                table.condition([asked[entry.id].new or {}])
            except Malformed as error:
                self.wrong[entry.id] = error
                asked.pop(entry.id, None)
            except (KeyError, ValueError) as error:
                self.wrong[entry.id] = Malformed(f"reload with an invalid key: {error}")
                asked.pop(entry.id, None)
        if table is not None and asked:
            before = self.bytes
            self._read(table, asked)
            self._sizes[first.table] = (
                min(2 * size, _MOST_ROWS) if self.bytes - before <= _SMALL_RESULT else max(size // 4, 1)
            )

    def _read(self, table: _Readable, asked: dict[int, Change]) -> None:
        if len(asked) > 1:
            try:
                self._read_together(table, asked)
            except _Unreadable:
                # Usually the cause is one row, which halving finds in a few steps.
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
            raise _Unreadable from None
        by_key: dict[tuple[bytes, ...], Row] = {}
        for columns in rows:
            if columns[len(table.key)] is None:
                raise _Unreadable
            try:
                by_key[tuple(bytes(value or b"") for value in columns[: len(table.key)])] = self._row(
                    table, columns
                )
            except Malformed:
                raise _Unreadable from None
        for number, change in asked.items():
            self._take(table, number, change, by_key)

    def _read_alone(self, table: _Readable, number: int, change: Change) -> None:
        """Raises Malformed."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                rows = self._select(table, [change.new or {}], change)
                break
            except StatementRefused as error:
                if attempt == _ATTEMPTS:
                    raise Malformed(
                        f"the row cannot be read, error {error.code}", f"the row cannot be read: {error}"
                    ) from None
        if rows and rows[0][len(table.key)] is None:
            raise Malformed("the row is too large to be rendered as JSON; raise max_allowed_packet")
        by_key = {
            tuple(bytes(value or b"") for value in columns[: len(table.key)]): self._row(table, columns)
            for columns in rows
        }
        self._take(table, number, change, by_key)

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
        decoded = decode_outbox("", "update", b'{"new":%s}' % (small or b"null"))
        values = {column.declared: bare(column.kind, value) for column, value in zip(table.large, large)}
        return {**(decoded.new or {}), **values}

    def _take(
        self, table: _Readable, number: int, change: Change, by_key: dict[tuple[bytes, ...], Row]
    ) -> None:
        key = change.new or {}
        # 'a' and 'A' are one key for many collations, but two rows in Redis, and maybe in two shards.
        row = by_key.get(identity_bytes(table.key, key))
        result = (
            _deletion(change, key)
            if row is None
            else Change(change.table, "update", dict(row), change.old, change.partial)
        )
        self.changes[number] = Reloaded(result, table.number)

    def _readable(self, entry: Entry) -> Optional[_Readable]:
        synced = records(self._database, f"table_name = {text_list([entry.table])}")
        own, in_force = number_of(entry.payload), synced[0].number if synced else 0
        # The newest declaration counts only once all triggers are made from it: they must send as old values
        # what it writes.
        number = max(own, in_force)
        if number == 0:
            return self._readable_by_names(synced[0]) if synced else None
        current, made_under = (
            self._declarations.find(entry.table, each) if self._declarations else None
            for each in (number, own)
        )
        if current is None or current.declared is None or made_under is None:
            return None
        declared = current.declared
        kinds = dict(declared.columns)
        key = (
            made_under.declared.key
            if made_under.declared
            else [
                KeyColumn(name, name, kinds.get(name) or _kind_of(value))
                for name, value in _key_of(entry).items()
            ]
        )
        where = (declared.source_schema, declared.source_table)
        names = (
            "SELECT CONVERT(COLUMN_NAME USING utf8mb4) FROM information_schema.COLUMNS WHERE "
            "TABLE_SCHEMA = %s AND TABLE_NAME = %s"
        )
        present = (
            {name.decode().lower() for (name,) in self._database.rows(names, where)}
            if own != number
            else None
        )
        has_key = present is None or all(column.real.lower() in present for column in key)
        select = _select_sql(key, declared.small_sql, declared.large_columns, *where) if has_key else ""
        return _Readable(number, made_under.layout, key, declared.large_columns, select)

    @staticmethod
    def _readable_by_names(synced: SyncedTable) -> _Readable:
        """How to read rows before the schema is migrated."""
        return _Readable(
            0,
            None,
            synced.key,
            synced.large,
            _select_sql(synced.key, synced.small_sql, synced.large, synced.schema, synced.name),
        )


def _select_sql(
    key: Sequence[KeyColumn], small_sql: str, large: Sequence[LargeColumn], schema: str, table: str
) -> str:
    wanted = ", ".join([*map(_shown, key), small_sql, *(column.sql for column in large)])
    return f"SELECT {wanted} FROM {quote(schema)}.{quote(table)} AS {ROW}"
