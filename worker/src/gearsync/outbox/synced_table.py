"""A declared table in MySQL, as the database `gearsync` describes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import msgspec

from gearsync.contract import ROW, SCHEMA
from gearsync.outbox import declarations
from gearsync.outbox.declarations import KeyColumn, LargeColumn
from gearsync.outbox.sql import literal, quote
from gearsync.project.payload import Layout, decode_outbox
from gearsync.servers.mysql import Database
from gearsync.values import Json, Row, Value, as_bytes


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


def identity(synced: SyncedTable, row: Row) -> Position:
    """The literals of a row's key. Raises KeyError when the row lacks one of its columns, ValueError when one is no value of its kind."""
    return [literal(column.kind, row[column.declared]) for column in synced.key]


def identity_bytes(key: Sequence[KeyColumn], row: Row) -> tuple[bytes, ...]:
    """A row's key as Redis sees it: rows are the same when these are, whatever the server's collations say."""
    values = (row[column.declared] for column in key)
    return tuple(b"" if value is None else as_bytes(value) for value in values)


def bare(kind: str, value: Optional[bytes]) -> Value:
    """A value that was read by itself."""
    if value is None or kind == "binary":
        return value
    return Json(value.decode()) if kind == "json" else value.decode()
