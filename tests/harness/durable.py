# SPDX-License-Identifier: GPL-3.0-or-later
"""A declaration with durable delivery, what its triggers leave in the outbox, and a reader of that."""

from __future__ import annotations

import json
from typing import Any

from harness.changes import named
from harness.database import DatabaseServer

WRITE = [{"type": "hash", "key": "t:{id}"}, {"type": "set", "key": "by-name:{name}", "member": "{id}"}]
DECLARATION: dict[str, Any] = {"table": "shop.t", "columns": ["id", "name", "note"], "write": WRITE}


def outbox(database: DatabaseServer) -> list[tuple[Any, ...]]:
    """The rows of the outbox: shard, id, table, operation, payload."""
    return database.execute(
        "SELECT shard, id, table_name, operation, payload FROM gearsync.outbox ORDER BY id"
    )


def changes(database: DatabaseServer) -> list[tuple[str, dict[str, Any]]]:
    """What the changes in the outbox say, with their operations."""
    return [
        (operation, named(database, table, operation, payload))
        for _shard, _id, table, operation, payload in outbox(database)
    ]


class Replay:
    """A table as a reader of the outbox knows it: every shard in the order of its ids, one shard after
    the other.
    """

    def __init__(self, key: list[str]) -> None:
        self.key = key
        self.rows: dict[tuple[str, ...], dict[str, Any]] = {}

    def read(self, database: DatabaseServer) -> list[tuple[Any, ...]]:
        """Read what the outbox has, and empty it; the rows of the table after that."""
        found = outbox(database)
        for shard in sorted({row[0] for row in found}):
            for _shard, _id, table, operation, payload in (row for row in found if row[0] == shard):
                change = named(database, table, operation, payload)
                if operation == "delete":
                    self.rows.pop(self._identity(change["old"]), None)
                elif operation == "reload":
                    self.rows.pop(self._identity(change["key"]), None)
                    self.rows.update(self._look(database, change["key"]))
                else:
                    assert operation in {"insert", "update"}
                    self.rows[self._identity(change["new"])] = change["new"]
        database.execute("DELETE FROM gearsync.outbox")
        return sorted(tuple(row.values()) for row in self.rows.values())

    def _look(self, database: DatabaseServer, key: dict[str, Any]) -> dict[tuple[str, ...], dict[str, Any]]:
        """The row as the table has it, by the SQL that workers are told."""
        ((name, row, schema, table),) = database.execute(
            "SELECT table_name, row_sql, source_schema, source_table FROM gearsync.synced_table"
        )
        found = database.execute(f"SELECT {row} FROM `{schema}`.`{table.replace('`', '``')}` AS gearsync_row")
        rows = [named(database, name, "refresh", text)["new"] for (text,) in found]
        return {self._identity(each): each for each in rows if self._identity(each) == self._identity(key)}

    def _identity(self, row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(json.dumps(row[column]) for column in self.key)
