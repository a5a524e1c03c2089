# SPDX-License-Identifier: GPL-3.0-or-later
"""What a column of a row can hold."""

from __future__ import annotations

from typing import Union


class Number(str):
    """A number as its literal text, so that neither scale nor digits are lost."""

    __slots__ = ()


class Json(str):
    """The text of a JSON document."""

    __slots__ = ()


#: What a column can hold; None is NULL. Text, numbers and JSON are str, so that they are written unchanged;
#: whole numbers may be int.
Value = Union[None, bytes, str, int]
Row = dict[str, Value]


class Malformed(ValueError):
    """An invalid payload or row. The message is the reason, without any value of the row; ``detail`` may
    show values.
    """

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail or message


def as_bytes(value: Union[bytes, str, int]) -> bytes:
    """A value as Redis stores it: bytes as they are, text in UTF-8."""
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else b"%d" % value


def missing(column: str) -> Malformed:
    """The error of a row that does not have ``column``."""
    return Malformed(
        f"column {column!r} is missing: the trigger and the worker have different declarations, run site.yml"
    )


def cell(row: Row, column: str) -> Value:
    """The value of ``column``. Raises Malformed when the row does not have it."""
    try:
        return row[column]
    except KeyError:
        raise missing(column) from None
