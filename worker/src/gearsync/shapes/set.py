# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets: the row is a member."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Optional

from gearsync.declare.declaration import Write
from gearsync.shapes.rendering import Pattern
from gearsync.shapes.shape import PUT, REMOVE, Command, Probe, Shape, Step
from gearsync.values import Row


class Members(Shape):
    """What sets and sorted sets have in common."""

    has_members = True
    #: The command that removes a member, and the one that asks for it.
    removes: ClassVar[str]
    asks: ClassVar[str]

    def __init__(self, number: int, write: Write, columns: list[str]) -> None:
        super().__init__(number, write, columns)
        self.member = Pattern(write.member or "")

    def entry(self, row: Row) -> Optional[tuple[bytes, bytes]]:
        """The key and the row's member of it; None when one of them contains NULL."""
        key, member = self.key(row), self.member(row)
        return None if key is None or member is None else (key, member)

    def knows(self, old: Row) -> bool:
        return super().knows(old) and all(name in old for name in self.member.columns)

    def remove(self, row: Row) -> list[Step]:
        entry = self.entry(row)
        return [] if entry is None else [Step(REMOVE, self, entry[0], entry, [(self.removes, *entry)])]

    def replaced(self, old: Row, new: Row) -> list[Step]:
        return [] if self.entry(old) == self.entry(new) else self.remove(old)

    def asked(self, key: bytes, member: bytes) -> Command:
        """The command that asks for a member."""
        return (self.asks, key, member)

    def has(self, answer: Any) -> bool:
        """Whether its answer means that the member is present."""
        return answer is not None and not isinstance(answer, Exception)

    @property
    def named(self) -> set[str]:
        return {*super().named, *self.member.columns}

    def rows(self, key: bytes, member: Optional[bytes]) -> Iterator[dict[str, bytes]]:
        for from_key in self.key.parses(key):
            for from_member in self.member.parses(member or b""):
                if all(from_key.get(name, value) == value for name, value in from_member.items()):
                    yield {**from_key, **from_member}

    def holds(self, row: Row, key: bytes, member: Optional[bytes]) -> bool:
        return self.entry(row) == (key, member)


class Set(Members):
    """A set of which the row is a member."""

    redis_type = b"set"
    removes, asks = "SREM", "SISMEMBER"
    writes = (("SADD", "m"), ("SREM", "m"))
    reads = (("SSCAN", 0), ("SISMEMBER", "m"))

    def put(self, row: Row) -> list[Step]:
        entry = self.entry(row)
        return (
            []
            if entry is None
            else [Step(PUT, self, entry[0], entry, [("SADD", *entry), *self.expire(entry[0])])]
        )

    def probes(self, row: Row) -> Iterator[Probe]:
        entry = self.entry(row)
        if entry is not None:
            yield Probe(self, *entry, self.asked(*entry), True)

    def same(self, answer: Any, expected: Any) -> bool:
        return bool(answer) is bool(expected)

    def is_absent(self, answer: Any) -> bool:
        return not answer

    def has(self, answer: Any) -> bool:
        return not isinstance(answer, Exception) and bool(answer)
