# SPDX-License-Identifier: GPL-3.0-or-later
"""Render templates from a row, and parse keys back into the values of a row. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from gearsync.declare.template import COLUMN_NAME, parse_template
from gearsync.values import Row, Value, as_bytes, cell


class Rendered:
    """A template that is prepared for rendering many rows."""

    def __init__(self, template: str) -> None:
        texts, self.columns = parse_template(template)
        self.texts = [text.encode() for text in texts]
        # Almost all keys name one column.
        self._one = self.columns[0] if len(self.columns) == 1 else None
        self._before, self._after = texts[0], texts[-1]

    def __call__(self, row: Row, column: str = "") -> Optional[bytes]:
        """The text for ``row``, with ``column`` for ``{column}``; None when one of its values is NULL.
        Raises Malformed for a missing column.
        """
        if self._one is not None and not column:
            value: Value = row.get(self._one)
            if value is not None and not isinstance(value, bytes):
                return f"{self._before}{value}{self._after}".encode()
        parts = [self.texts[0]]
        for name, text in zip(self.columns, self.texts[1:]):
            value = column if column and name == COLUMN_NAME else cell(row, name)
            if value is None:
                return None
            parts += [as_bytes(value), text]
        return b"".join(parts)


class Untraceable(Exception):
    """A key can be parsed in more ways than are tried: its rows cannot be looked up."""


class Pattern(Rendered):
    """A template that can also be parsed: from a text to the values that it may contain."""

    def parses(self, text: bytes, limit: int = 64) -> Iterator[dict[str, bytes]]:
        """Every way to parse ``text``; a column that the template names twice has one value. Raises
        Untraceable after ``limit`` attempts.
        """
        if not text.startswith(self.texts[0]):
            return
        for attempt, values in enumerate(self._split(text[len(self.texts[0]) :], 0)):
            if attempt == limit:
                raise Untraceable
            row: dict[str, bytes] = {}
            if all(row.setdefault(name, value) == value for name, value in zip(self.columns, values)):
                yield row

    def _split(self, text: bytes, number: int) -> Iterator[list[bytes]]:
        if number == len(self.columns):
            if not text:
                yield []
            return
        following = self.texts[number + 1]
        if number == len(self.columns) - 1:
            if text.endswith(following):
                yield [text[: len(text) - len(following)]]
            return
        at = text.find(following)
        while at >= 0:
            for rest in self._split(text[at + len(following) :], number + 1):
                yield [text[:at], *rest]
            at = text.find(following, at + 1) if at < len(text) else -1
