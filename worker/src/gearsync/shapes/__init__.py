# SPDX-License-Identifier: GPL-3.0-or-later
"""The types of writes: a file for each."""

from __future__ import annotations

from collections.abc import Iterable

from gearsync.declare.declaration import Write
from gearsync.shapes.hash import Hash
from gearsync.shapes.json import Document
from gearsync.shapes.list import List
from gearsync.shapes.set import Set
from gearsync.shapes.shape import Shape
from gearsync.shapes.stream import Stream
from gearsync.shapes.string import String
from gearsync.shapes.zset import SortedSet

#: The types by their names in declarations.
TYPES: dict[str, type[Shape]] = {
    "string": String,
    "hash": Hash,
    "json": Document,
    "set": Set,
    "zset": SortedSet,
    "list": List,
    "stream": Stream,
}


def shapes(writes: Iterable[Write], columns: list[str]) -> list[Shape]:
    """The shapes of a table's writes. ``columns`` are those that the table has or computes."""
    return [TYPES[write.type].made(number, write, columns) for number, write in enumerate(writes)]
