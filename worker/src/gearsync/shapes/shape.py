# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of a write type: what it writes and removes, what Redis should hold, and which row a key
may belong to. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Optional, Union

import msgspec

from gearsync.declare.declaration import Write
from gearsync.declare.template import COLUMN_NAME
from gearsync.shapes.rendering import Pattern
from gearsync.values import Malformed, Row

#: One Redis command: its name and its arguments.
Command = tuple[Union[str, bytes, int], ...]

#: What a step does at its place: replaces everything, removes it, or appends to it (again each time that it
#: is executed).
PUT, REMOVE, APPEND = range(3)


class Step(msgspec.Struct, gc=False):
    """Commands that are executed together: after the first error the rest is skipped.

    ``place`` is what they write: a key, or a member of one. Steps at different places can be executed in any
    order.
    """

    kind: int
    shape: Shape
    key: bytes
    place: Any
    commands: list[Command]
    #: The number of its change in the batch; set when the batch is made.
    change: int = 0


class Probe(NamedTuple):
    """A command that reads from Redis, and its answer when Redis equals MySQL."""

    shape: Shape
    key: bytes
    member: Optional[bytes]
    command: Command
    expected: Any

    @property
    def write(self) -> int:
        """The number of the write in the declaration."""
        return self.shape.number


class Shape:
    """One declared write. Each subclass is a write type, in a file of this package."""

    #: The type of its keys, as the command TYPE names it.
    redis_type: ClassVar[bytes]
    #: Whether the result of a put does not depend on the former value.
    absolute: ClassVar[bool] = False
    #: Whether it keeps what was written before, so that it does not show the row's present values.
    is_log: ClassVar[bool] = False
    #: Whether a row is a member of a key, not a key.
    has_members: ClassVar[bool] = False
    #: Whether a row is a key for each column.
    per_column: ClassVar[bool] = False
    #: The commands that write it, and those that compare it, each without the key that is its first argument:
    #: for selftest.
    writes: ClassVar[tuple[Command, ...]]
    reads: ClassVar[tuple[Command, ...]] = ()

    @classmethod
    def made(cls, number: int, write: Write, columns: list[str]) -> Shape:
        """The shape of a write. ``number`` is its position in the declaration, ``columns`` are the
        declared and the computed ones.
        """
        return cls(number, write, columns)

    def __init__(self, number: int, write: Write, columns: list[str]) -> None:
        self.number = number
        self.write = write
        self.columns = columns
        self.key = Pattern(write.key)

    def __str__(self) -> str:
        return f"write[{self.number}] ({self.write.type} {self.write.key})"

    # From a row to Redis

    def put(self, row: Row) -> list[Step]:
        """The steps that write ``row``."""
        raise NotImplementedError

    def written(self, row: Row, _event: str) -> list[Step]:
        """The steps that write ``row`` after an event."""
        return self.put(row)

    def remove(self, row: Row) -> list[Step]:
        """The steps that remove what ``row`` had written."""
        key = self.key(row)
        return [] if key is None else [self.removal(key)]

    def replaced(self, old: Row, new: Row) -> list[Step]:
        """The steps that remove what ``old`` had written and ``new`` does not overwrite."""
        key = self.key(old)
        return [] if key is None or key == self.key(new) else [self.removal(key)]

    def knows(self, old: Row) -> bool:
        """Whether ``old`` has the columns that a removal needs."""
        return not self.is_log and all(name in old for name in self.key.columns if name != COLUMN_NAME)

    def removal(self, key: bytes) -> Step:
        return Step(REMOVE, self, key, key, [("DEL", key)])

    def expire(self, key: bytes) -> list[Command]:
        return [] if self.write.ttl is None else [("EXPIRE", key, self.write.ttl)]

    def string(self, key: bytes, value: bytes) -> Step:
        command: Command = (
            ("SET", key, value) if self.write.ttl is None else ("SET", key, value, "EX", self.write.ttl)
        )
        return Step(PUT, self, key, key, [command])

    # What Redis should hold for a row

    def probes(self, row: Row) -> Iterator[Probe]:
        """What to ask Redis about ``row``. Raises Malformed for a row that cannot be written."""
        raise NotImplementedError

    def same(self, answer: Any, expected: Any) -> bool:
        """Whether the answer to a probe is equal to the expected one."""
        return bool(answer == expected)

    def is_absent(self, answer: Any) -> bool:
        """Whether the answer to a probe means that the key or the member does not exist."""
        return answer is None

    def complete(self, row: Row) -> None:
        """Raises Malformed for a row that lacks a column."""
        missing = next((column for column in self.columns if column not in row), None)
        if missing is not None:
            raise Malformed(
                f"column {missing!r} is neither in the deployed declaration nor computed: run site.yml"
            )

    # From a key in Redis to a row

    @property
    def named(self) -> set[str]:
        """The columns whose values are in the key or in the member."""
        return set(self.key.columns)

    def may_be(self, key: bytes) -> bool:
        """Whether this write may have made ``key``. Raises Untraceable."""
        return next(self.key.parses(key), None) is not None

    def rows(self, key: bytes, _member: Optional[bytes]) -> Iterator[dict[str, bytes]]:
        """The values that the key and the member contain, for each row that may have made them. Raises
        Untraceable.
        """
        yield from self.key.parses(key)

    def holds(self, row: Row, key: bytes, _member: Optional[bytes]) -> bool:
        """Whether ``row`` writes this key, and this member of it. Raises Malformed for a row that lacks a
        column.
        """
        return self.key(row) == key
