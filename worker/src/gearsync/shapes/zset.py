# SPDX-License-Identifier: GPL-3.0-or-later
"""Sorted sets: the row is a member with a score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Optional

from gearsync.declare.declaration import Write
from gearsync.shapes.rendering import Rendered
from gearsync.shapes.set import Members
from gearsync.shapes.shape import PUT, Probe, Step
from gearsync.values import Malformed, Row


class SortedSet(Members):
    """A sorted set of which the row is a member."""

    redis_type = b"zset"
    removes, asks = "ZREM", "ZSCORE"
    writes = (("ZADD", 1, "m"), ("ZREM", "m"))
    reads = (("ZSCAN", 0), ("ZSCORE", "m"))

    def __init__(self, number: int, write: Write, columns: list[str]) -> None:
        super().__init__(number, write, columns)
        self.score = Rendered(write.score or "")

    def put(self, row: Row) -> list[Step]:
        entry, score = self.entry(row), self.score(row)
        if entry is None:
            return []
        if score is None:
            return self.remove(row)
        return [
            Step(PUT, self, entry[0], entry, [("ZADD", entry[0], score, entry[1]), *self.expire(entry[0])])
        ]

    def probes(self, row: Row) -> Iterator[Probe]:
        entry = self.entry(row)
        if entry is not None:
            yield Probe(self, *entry, self.asked(*entry), self._number(self.score(row)))

    def _number(self, score: Optional[bytes]) -> Optional[bytes]:
        try:
            usable = score is None or not math.isnan(float(score))
        except ValueError:
            usable = False
        if not usable:
            raise Malformed(f"the score of write[{self.number}] is not a number")
        return score

    def same(self, answer: Any, expected: Any) -> bool:
        return answer is expected if answer is None or expected is None else float(answer) == float(expected)

    def holds(self, row: Row, key: bytes, member: Optional[bytes]) -> bool:
        return super().holds(row, key, member) and self.score(row) is not None
