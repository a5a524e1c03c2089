# SPDX-License-Identifier: GPL-3.0-or-later
"""The row as one JSON document, in a string."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from gearsync.shapes.shape import Probe, Shape, Step
from gearsync.shapes.string import String
from gearsync.values import Json, Number, Row, cell


def document(row: Row, columns: list[str]) -> bytes:
    """The row's declared columns as one JSON document: numbers bare, JSON as it is, binary as base64."""
    members: dict[str, object] = {}
    for column in columns:
        value = cell(row, column)
        if isinstance(value, (Number, Json)):
            members[column] = msgspec.Raw(value.encode())
        elif isinstance(value, bytes):
            members[column] = base64.b64encode(value).decode()
        else:
            members[column] = value
    return msgspec.json.encode(members)


class Document(Shape):
    """One document for the row."""

    redis_type = b"string"
    absolute = True
    writes, reads = String.writes, String.reads

    def put(self, row: Row) -> list[Step]:
        key = self.key(row)
        return [] if key is None else [self.string(key, document(row, self.columns))]

    def probes(self, row: Row) -> Iterator[Probe]:
        key = self.key(row)
        if key is not None:
            yield Probe(self, key, None, ("GET", key), document(row, self.columns))

    def same(self, answer: Any, expected: Any) -> bool:
        return answer == expected or (answer is not None and _same_document(answer, expected))


def _same_document(answer: bytes, expected: bytes) -> bool:
    # Numbers are compared digit by digit, and differ from text and from true and false: msgspec and == take
    # 1.0, true and 1 for the same.
    def exactly(text: bytes) -> Any:
        return json.loads(text, parse_int=_digits, parse_float=_digits)

    try:
        return _alike(exactly(answer), exactly(expected))
    except (ValueError, RecursionError):
        return False


def _digits(text: str) -> tuple[str]:
    return (text,)


def _alike(one: Any, other: Any) -> bool:
    """Whether two documents are equal, with true different from 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)
