# SPDX-License-Identifier: GPL-3.0-or-later
"""Marks in Redis of the tables of which Redis has changes that the database has lost: a worker sets them, and
`gearsync verify` removes them when a table is equal again.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gearsync.contract import lost_key
from gearsync.servers.redis_errors import Unavailable, message_of, text
from gearsync.servers.target import Target


class LostTable(msgspec.Struct):
    """What is known of a table's loss."""

    at: float
    """When it was noticed, in seconds since 1970."""
    changes: int
    """So many changes at least; 0 when no number is known."""


#: The marks as they are in Redis: "SHARD TABLE" and "AT CHANGES".
Marks = dict[bytes, bytes]


def _ask(target: Target, *command: object) -> object:
    (answer,) = target.ask([command])  # type: ignore[list-item]  # names, texts and bytes
    if isinstance(answer, Exception):
        raise Unavailable(message_of(answer))
    return answer


def marks(target: Target, source: str) -> Marks:
    """All marks of a source. Raises Unavailable."""
    answer = _ask(target, "HGETALL", lost_key(source))
    if isinstance(answer, dict):
        return answer
    assert isinstance(answer, list)  # noqa: S101  # HGETALL's answer by either protocol
    return dict(zip(answer[::2], answer[1::2]))


def mark(target: Target, source: str, lost: Mapping[tuple[int, str], int], now: float) -> None:
    """Mark tables: the number of lost changes by shard and table, beside what is marked already. Raises
    Unavailable.
    """
    before = marks(target, source)
    fields: list[object] = []
    for (shard, table), changes in lost.items():
        field = f"{shard} {table}".encode()
        fields += [field, f"{now:.0f} {changes + _parsed(before.get(field, b'0 0')).changes}"]
    _ask(target, "HSET", lost_key(source), *fields)


def tables_of(of_source: Marks) -> dict[str, LostTable]:
    """The tables that are marked. Pure."""
    tables: dict[str, LostTable] = {}
    for field, value in sorted(of_source.items()):
        table, lost = text(field).partition(" ")[2], _parsed(value)
        former = tables.get(table, LostTable(0.0, 0))
        tables[table] = LostTable(max(former.at, lost.at), former.changes + lost.changes)
    return tables


def _parsed(value: bytes) -> LostTable:
    at, _space, changes = value.partition(b" ")
    return LostTable(float(at), int(changes))


def unmark(target: Target, source: str, table: str, before: Marks) -> None:
    """Remove a table's marks, unless one was set after ``before`` was read. Raises Unavailable."""
    its = {field: value for field, value in before.items() if text(field).partition(" ")[2] == table}
    if its:
        now = marks(target, source)
        gone = [field for field, value in its.items() if now.get(field) == value]
        if gone:
            _ask(target, "HDEL", lost_key(source), *gone)
