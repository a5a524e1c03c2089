# SPDX-License-Identifier: GPL-3.0-or-later
"""A hash with a field for each column that is not NULL."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any, Callable, Union

from gearsync.declare.declaration import Write
from gearsync.shapes.shape import PUT, Command, Probe, Shape, Step
from gearsync.values import Row, Value, as_bytes, missing

#: A script in Redis cannot pass more arguments to one command than Lua's stack holds.
_MOST_ARGUMENTS = 4000


class Hash(Shape):
    """One hash for the row."""

    redis_type = b"hash"
    writes = (("HSET", "f", "v"), ("HDEL", "f"))
    reads = (("HMGET", "f"),)

    def __init__(self, number: int, write: Write, columns: list[str]) -> None:
        super().__init__(number, write, columns)
        self._values: Callable[[Row], tuple[Value, ...]] = (
            itemgetter(*columns) if len(columns) > 1 else lambda row: (row[columns[0]],)
        )
        self._fields: list[Any] = [part for column in columns for part in (column, None)]

    def put(self, row: Row) -> list[Step]:
        key = self.key(row)
        if key is None:
            return []
        try:
            values = self._values(row)
        except KeyError as error:
            raise missing(error.args[0]) from None
        if None in values or len(self._fields) > _MOST_ARGUMENTS:
            return [Step(PUT, self, key, key, self._commands(key, row))]
        fields = self._fields.copy()
        fields[1::2] = values
        return [Step(PUT, self, key, key, [("HSET", key, *fields), *self.expire(key)])]

    def _commands(self, key: bytes, row: Row) -> list[Command]:
        fields: list[Union[str, bytes, int]] = []
        absent: list[str] = []
        for column in self.columns:
            value = row[column]
            if value is None:
                absent.append(column)
            else:
                fields += [column, value]
        commands: list[Command] = [
            ("HSET", key, *fields[start : start + _MOST_ARGUMENTS])
            for start in range(0, len(fields), _MOST_ARGUMENTS)
        ]
        commands += [
            ("HDEL", key, *absent[start : start + _MOST_ARGUMENTS])
            for start in range(0, len(absent), _MOST_ARGUMENTS)
        ]
        return [*commands, *self.expire(key)]

    def probes(self, row: Row) -> Iterator[Probe]:
        key = self.key(row)
        if key is not None:
            self.complete(row)
            fields = [
                None if value is None else as_bytes(value)
                for value in (row[column] for column in self.columns)
            ]
            yield Probe(self, key, None, ("HMGET", key, *self.columns), fields)

    def is_absent(self, answer: Any) -> bool:
        return all(value is None for value in answer)
