# SPDX-License-Identifier: GPL-3.0-or-later
"""A synced table: a table of MySQL with triggers for durable delivery, as its row in
`gearsync.synced_table` describes it.
"""

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
    """The table has no key that its rows could be ordered by; the message names the table."""


class SyncedTable(msgspec.Struct):
    """A row of gearsync.synced_table, as `sync_table` saved it; `load` adds what must be looked up beside
    it.
    """

    table: str
    schema: str
    name: str
    shards: int
    key: list[KeyColumn]
    shard_sql: str
    row_sql: str
    old_sql: str
    #: True for a row that is too large to be rendered as JSON as a whole.
    large_sql: str = "FALSE"
    #: The row as JSON without its large columns, and these columns.
    small_sql: str = ""
    large: list[LargeColumn] = msgspec.field(default_factory=list)
    #: The declaration's number, and the layout of its payloads; 0 and None for triggers of a release without
    #: numbers.
    number: int = 0
    layout: Optional[Layout] = None
    #: When the declaration was saved: it differs for each declaration of the table.
    version: str = ""
    #: The checksums of the triggers, by their names.
    triggers: dict[str, str] = msgspec.field(default_factory=dict)
    #: The generations into whose shards the triggers may write; empty in a schema that is not migrated yet.
    generations: list[int] = msgspec.field(default_factory=list)
    #: The types of the columns when the triggers were made; empty in a schema that is not migrated yet.
    column_types: dict[str, str] = msgspec.field(default_factory=dict)

    def row(self, content: bytes) -> Row:
        """A row of the JSON of ``row_sql``, ``old_sql`` or ``small_sql``: an array of values, or an
        object with names. Raises Malformed.
        """
        if self.layout is not None and content[:1] == b"[":
            return self.layout.row(content)
        return decode_outbox(self.table, "refresh", b'{"new":%s}' % content).new or {}

    @property
    def json_sql(self) -> str:
        """The row as JSON; NULL when it is too large, since the server would cut the JSON."""
        return self.row_sql if self.large_sql == "FALSE" else f"IF({self.large_sql}, NULL, {self.row_sql})"


def records(database: Database, condition: str = "TRUE") -> list[SyncedTable]:
    """The records of all synced tables, or of those for which an SQL condition is true. Raises
    DatabaseUnavailable.
    """
    stored = []
    # A schema that is not migrated yet lacks some columns.
    for row in database.named_rows(f"SELECT * FROM {SCHEMA}.synced_table WHERE {condition}"):
        texts = {name.decode(): _text(value) for name, value in row.items() if value is not None}
        triggers = msgspec.json.decode(texts["triggers"], type=dict[str, str])
        # Where earlier releases kept the types.
        former_types = triggers.pop("", "")
        stored.append(
            SyncedTable(
                texts["table_name"],
                texts["source_schema"],
                texts["source_table"],
                int(texts["shards"]),
                msgspec.json.decode(texts["key_columns"], type=list[KeyColumn]),
                texts["shard_sql"],
                texts["row_sql"],
                texts["old_sql"],
                texts["large_sql"],
                texts["small_sql"],
                msgspec.json.decode(texts["large_columns"], type=list[LargeColumn]),
                int(texts.get("number", 0)),
                version=texts["changed_at"],
                triggers=triggers,
                generations=[
                    int(generation)
                    for generation in msgspec.json.decode(
                        texts.get("generations") or "{}", type=dict[str, str]
                    )
                ],
                column_types=msgspec.json.decode(
                    texts.get("column_types") or former_types or "{}", type=dict[str, str]
                ),
            )
        )
    return stored


#: Values of the key columns as SQL literals, in the key's order.
Position = list[str]


def load(database: Database) -> dict[str, SyncedTable]:
    """The synced tables by their declared names. Raises DatabaseUnavailable."""
    tables = {}
    for synced in records(database):
        declared = declarations.load(database, synced.table).get(synced.number) if synced.number else None
        synced.layout = declared.layout() if declared else None
        for column in synced.key:
            types = database.rows(
                "SELECT DATA_TYPE, COALESCE(DATETIME_PRECISION, 0) FROM information_schema.COLUMNS"
                " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND COLUMN_NAME = %s",
                (synced.schema, synced.name, column.real),
            )
            if types:
                column.data_type, column.precision = _text(types[0][0]).lower(), int(types[0][1])
        tables[synced.table] = synced
    return tables


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def from_clause(synced: SyncedTable) -> str:
    return f"{quote(synced.schema)}.{quote(synced.name)} AS {ROW}"


def identity(synced: SyncedTable, row: Row) -> Position:
    """The literals of a row's key. Raises KeyError when the row lacks a column of it, ValueError when a
    value is invalid for its kind.
    """
    return [literal(column.kind, row[column.declared]) for column in synced.key]


def identity_bytes(key: Sequence[KeyColumn], row: Row) -> tuple[bytes, ...]:
    """A row's key as bytes: in Redis, rows are the same when these are equal, whatever the server's
    collations compare as equal.
    """
    values = (row[column.declared] for column in key)
    return tuple(b"" if value is None else as_bytes(value) for value in values)


def bare(kind: str, value: Optional[bytes]) -> Value:
    """The value of a column that was selected by itself."""
    if value is None or kind == "binary":
        return value
    return Json(value.decode()) if kind == "json" else value.decode()
