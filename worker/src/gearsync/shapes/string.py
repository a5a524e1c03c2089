# SPDX-License-Identifier: GPL-3.0-or-later
"""Strings: one for each column, or one for the row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from gearsync.declare.declaration import Write
from gearsync.declare.template import COLUMN_NAME
from gearsync.shapes.rendering import Rendered
from gearsync.shapes.shape import Probe, Shape, Step
from gearsync.values import Row, as_bytes


class String(Shape):
    """One string for the row, from a template."""

    redis_type = b"string"
    absolute = True
    writes = (("SET", "v"),)
    reads = (("GET",),)

    @classmethod
    def made(cls, number: int, write: Write, columns: list[str]) -> Shape:
        return (StringPerColumn if write.value is None else cls)(number, write, columns)

    def __init__(self, number: int, write: Write, columns: list[str]) -> None:
        super().__init__(number, write, columns)
        self.value = Rendered(write.value or "")

    def put(self, row: Row) -> list[Step]:
        key, value = self.key(row), self.value(row)
        if key is None:
            return []
        return [self.removal(key) if value is None else self.string(key, value)]

    def probes(self, row: Row) -> Iterator[Probe]:
        key = self.key(row)
        if key is not None:
            yield Probe(self, key, None, ("GET", key), self.value(row))

    def holds(self, row: Row, key: bytes, member: Optional[bytes]) -> bool:
        return super().holds(row, key, member) and self.value(row) is not None


class StringPerColumn(Shape):
    """A string for each column, with the column's name in the key: the article's mapping."""

    redis_type = b"string"
    absolute = True
    per_column = True
    writes, reads = String.writes, String.reads

    def put(self, row: Row) -> list[Step]:
        steps: list[Step] = []
        for column in self.columns:
            if column in row:
                key, value = self.key(row, column), row[column]
                if key is not None:
                    steps.append(self.removal(key) if value is None else self.string(key, as_bytes(value)))
        return steps

    def remove(self, row: Row) -> list[Step]:
        keys = [self.key(row, column) for column in self.columns]
        return [self.removal(key) for key in keys if key is not None]

    def replaced(self, old: Row, new: Row) -> list[Step]:
        if set(self.key.columns) <= {COLUMN_NAME}:
            return []
        keep = {self.key(new, column) for column in self.columns}
        return [step for step in self.remove(old) if step.key not in keep]

    def probes(self, row: Row) -> Iterator[Probe]:
        self.complete(row)
        for column in self.columns:
            key, value = self.key(row, column), row[column]
            if key is not None:
                yield Probe(self, key, None, ("GET", key), None if value is None else as_bytes(value))

    @property
    def named(self) -> set[str]:
        return super().named - {COLUMN_NAME}

    def may_be(self, key: bytes) -> bool:
        return any(
            values[COLUMN_NAME].decode(errors="replace") in self.columns for values in self.key.parses(key)
        )

    def rows(self, key: bytes, _member: Optional[bytes]) -> Iterator[dict[str, bytes]]:
        for values in self.key.parses(key):
            if values.pop(COLUMN_NAME).decode(errors="replace") in self.columns:
                yield values

    def holds(self, row: Row, key: bytes, _member: Optional[bytes]) -> bool:
        self.complete(row)
        return any(self.key(row, column) == key and row[column] is not None for column in self.columns)
