# SPDX-License-Identifier: GPL-3.0-or-later
"""SQL fragments: identifiers, literals, and conditions on ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Optional

from gearsync.outbox.spans import runs
from gearsync.values import Value

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?")


def quote(name: str) -> str:
    """An identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def text_literal(value: bytes) -> bytes:
    """A string literal of UTF-8 text; needs a session without NO_BACKSLASH_ESCAPES."""
    return b"'" + value.replace(b"\\", b"\\\\").replace(b"'", b"''") + b"'"


def literal(kind: str, value: Value) -> str:
    """A key column's value as an SQL literal. Raises ValueError for NULL, an invalid number or invalid
    UTF-8.
    """
    if value is None:
        raise ValueError("a key column is NULL")
    if kind == "binary":
        return "x'" + (value if isinstance(value, bytes) else str(value).encode()).hex() + "'"
    text = value.decode() if isinstance(value, bytes) else str(value)  # a UnicodeDecodeError is a ValueError
    if kind in ("integer", "decimal", "float", "bit"):
        if not _NUMBER.fullmatch(text):
            raise ValueError("not a number")
        # Without an exponent it would be a DECIMAL, which has no -0.
        return f"{text}e0" if kind == "float" and "e" not in text.lower() else text
    return text_literal(text.encode()).decode()


def text_list(names: Iterable[str]) -> str:
    """String literals, sorted, for IN (...)."""
    return ", ".join(text_literal(name.encode()).decode() for name in sorted(names))


def ranges_condition(ranges: Iterable[tuple[int, Optional[int]]]) -> str:
    """The condition that is true for ids in these ranges; one without an end has no upper bound. Pure."""
    return " OR ".join(
        f"id >= {first}"
        if last is None
        else f"id = {first}"
        if first == last
        else f"id BETWEEN {first} AND {last}"
        for first, last in ranges
    )


def ids_condition(ids: Sequence[int]) -> str:
    """The condition that is true for exactly these ids, which are sorted. Pure."""
    return ranges_condition(runs(ids))
