# SPDX-License-Identifier: GPL-3.0-or-later
"""What a row of the outbox says, with the names and marks of the columns that its declaration has."""

from __future__ import annotations

import json
from typing import Any

from harness.database import DatabaseServer

_MARKS = {"float": "$num", "binary": "$hex", "json": "$json"}


def named(database: DatabaseServer, table: str, operation: str, payload: str) -> dict[str, Any]:
    """The payload as one with names would be."""
    number, *values = json.loads(payload)
    ((content,),) = [
        row[2:3]
        for row in database.execute("SELECT * FROM gearsync.numbered_declaration")
        if row[:2] == (table, number)
    ]
    declared = json.loads(content)
    kinds, key = dict(declared["columns"]), [column["declared"] for column in declared["key"]]
    new = {"delete": [], "reload": key}.get(operation, list(kinds))
    old = {
        "update": declared["old"],
        "delete": declared["deleted"],
        "reload": declared["old"] if len(values) > len(key) else [],
    }.get(operation, [])
    assert len(values) == len(new) + len(old)

    def row(names: list[str], found: list[Any]) -> dict[str, Any]:
        return {
            name: {_MARKS[kinds[name]]: value} if kinds[name] in _MARKS else value
            for name, value in zip(names, found)
        }

    parts = {
        "new" if operation != "reload" else "key": row(new, values[: len(new)]),
        "old": row(old, values[len(new) :]),
    }
    return {
        part: found
        for part, found in parts.items()
        if found or (part == "old" and operation in ("update", "delete"))
    }
