# SPDX-License-Identifier: GPL-3.0-or-later
"""What Redis should hold for a row, and which row a key of Redis may belong to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union

from gearsync.declare.declaration import Table
from gearsync.shapes import shapes
from gearsync.shapes.rendering import Untraceable
from gearsync.shapes.set import Members
from gearsync.shapes.shape import Probe, Shape
from gearsync.values import Row

#: Kinds of difference.
MISSING, STALE, WRONG_TYPE, ORPHANED = KINDS = ("missing", "stale", "wrong_type", "orphaned")
#: A key with a time to live is absent: expired, or lost. Not a difference by itself.
ABSENT = "absent"

#: What TTL answers for a key that never expires.
_FOR_EVER = -1


def is_wrong_type(answer: Any) -> bool:
    """Whether an answer is the error for a key of another type than the command's."""
    return isinstance(answer, Exception) and str(answer).startswith("WRONGTYPE")


def difference(probe: Probe, answer: Any, expires: bool, seconds: Any = None) -> Optional[str]:
    """How ``answer`` differs from what the probe expects; None when it does not.

    ``expires``: the key has a time to live, and is ABSENT rather than missing; ``seconds`` is the answer of
    TTL for it. Raises any other error in ``answer``.
    """
    if isinstance(answer, Exception):
        if is_wrong_type(answer):
            return WRONG_TYPE
        raise answer
    absent = probe.shape.is_absent(answer)
    if probe.shape.same(answer, probe.expected):
        return STALE if not absent and seconds == _FOR_EVER else None
    return (ABSENT if expires else MISSING) if absent else STALE


class Expectation:
    """One declared table: what its rows should have in Redis, and which keys may be theirs."""

    def __init__(self, table: Table, identity: Sequence[str]) -> None:
        """``identity``: the declared columns that identify a row; empty when the writes share no unique
        key.
        """
        self.table = table
        self.identity = frozenset(identity)
        self.shapes = shapes(table.write, table.fields)
        self._compared = [shape for shape in self.shapes if self._is_of_one_row(shape)]
        self._traced = [shape for shape in self._compared if self.identity <= shape.named]
        self._others = [shape for shape in self.shapes if shape not in self._traced]
        self.unverifiable = [str(shape) for shape in self.shapes if shape not in self._compared]
        self.untraced = [str(shape) for shape in self._compared if shape not in self._traced]
        self.may_expire = any(shape.write.ttl is not None for shape in self._compared)

    def _is_of_one_row(self, shape: Shape) -> bool:
        """Whether one row alone determines what Redis holds: its key and member are made from the
        identity, or from another unique key.
        """
        if shape.is_log or not self.identity:
            return False
        # Where only inserts are synced, a member need not contain a unique key.
        return self.identity <= shape.named or (bool(shape.named) and set(self.table.events) != {"insert"})

    def probes(self, row: Row) -> list[Probe]:
        """What to ask Redis about ``row``. Raises Malformed for a row that cannot be written."""
        return [probe for shape in self._compared for probe in shape.probes(row)]

    def probes_of_all(self, row: Row) -> list[Probe]:
        """What to ask Redis about a row that was written just now: also for writes whose keys other rows
        may write.
        """
        return [probe for shape in self.shapes for probe in shape.probes(row)]

    def expires(self, probe: Probe) -> bool:
        return probe.shape.write.ttl is not None

    def claims(self, key: bytes) -> list[int]:
        """The writes that may have made ``key``, and whose rows can be looked up."""
        return [shape.number for shape in self._traced if _may_be(shape, key)]

    def may_hold(self, key: bytes, redis_type: bytes) -> bool:
        """Whether a write whose rows cannot be looked up may have made ``key``, which has this type."""
        return any(shape.redis_type == redis_type and _may_be(shape, key) for shape in self._others)

    def redis_type(self, number: int) -> bytes:
        """The type of the keys of write ``number``, as the command TYPE names it."""
        return self.shapes[number].redis_type

    def members(self, number: int) -> Optional[Members]:
        """The shape of write ``number`` when its rows are members of keys."""
        shape = self.shapes[number]
        return shape if isinstance(shape, Members) else None

    @property
    def needs_values(self) -> bool:
        """Whether it depends on more than the templates' columns what a row writes."""
        return any(shape.per_column for shape in self._traced)

    def rows(self, number: int, key: bytes, member: Optional[bytes]) -> Iterator[Row]:
        """Rows for which write ``number`` may have made the key and the member, with the columns that
        these contain. Raises Untraceable.
        """
        for values in self.shapes[number].rows(key, member):
            yield {name: _text(value) for name, value in values.items()}

    def holds(self, number: int, row: Row, key: bytes, member: Optional[bytes]) -> bool:
        return self.shapes[number].holds(row, key, member)


def _may_be(shape: Shape, key: bytes) -> bool:
    try:
        return shape.may_be(key)
    except Untraceable:
        return True


def _text(value: bytes) -> Union[bytes, str]:
    """Text; bytes only when they are not UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
