# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists: each change appends a value. They are logs: an update does not remove what was appended before."""

from __future__ import annotations

from collections.abc import Iterator

from gearsync.declare.declaration import Write
from gearsync.shapes.rendering import Rendered
from gearsync.shapes.shape import APPEND, Command, Probe, Shape, Step
from gearsync.values import Row


class List(Shape):
    """A list to which each change of the row appends."""

    redis_type = b"list"
    is_log = True
    # Elements far from the head of a long list are searched in pieces: LLEN, LRANGE, LSET.
    writes = (
        ("RPUSH", "v"),
        ("LREM", 1, "v"),
        ("LTRIM", 0, 1),
        ("LLEN",),
        ("LRANGE", 0, 1),
        ("LSET", 0, "v"),
    )

    def __init__(self, number: int, write: Write, columns: list[str]) -> None:
        super().__init__(number, write, columns)
        self.value = Rendered(write.value or "")

    def put(self, row: Row) -> list[Step]:
        key, value = self.key(row), self.value(row)
        if key is None or value is None:
            return []
        commands: list[Command] = [("RPUSH", key, value)]
        if self.write.max is not None:
            commands.append(("LTRIM", key, -self.write.max, -1))
        return [Step(APPEND, self, key, None, commands + self.expire(key))]

    def remove(self, row: Row) -> list[Step]:
        key, value = self.key(row), self.value(row)
        return (
            [] if key is None or value is None else [Step(APPEND, self, key, None, [("LREM", key, 1, value)])]
        )

    def replaced(self, old: Row, new: Row) -> list[Step]:
        return []

    def probes(self, row: Row) -> Iterator[Probe]:
        return iter(())
