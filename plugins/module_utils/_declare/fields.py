# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fields of a declaration and of its writes, and the kinds of values that they hold. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

from .problem import Problem, shown, suggestion

# What JSON, the servers and Redis all take.
MAX_NUMBER = 2**53 - 1
# A name that is longer is not one of a field, and may be something that is not to be shown.
MAX_FIELD = 40

# The kinds of values, as messages have them; each with its types and how it is written.
TEXT, NUMBER, BOOL, LIST = "text", "a whole number", "true or false", "a list"
_TYPES: dict[str, Any] = {TEXT: str, NUMBER: int, BOOL: bool, LIST: (list, tuple)}
_WRITTEN = {
    TEXT: "put it into quotes",
    NUMBER: "write digits without quotes",
    BOOL: "write true or false, without quotes",
    LIST: "write [a, b], or '- ' before each in a line of its own",
}
# What values are called that are of another kind; the first that fits.
_OTHERS: dict[str, Any] = {
    "null": type(None),
    BOOL: bool,
    "a number": (int, float),
    "a date": datetime.date,
    TEXT: str,
    LIST: (list, tuple),
    "a mapping": Mapping,
}

FIELDS = {
    **dict.fromkeys(("table", "delivery", "function"), TEXT),
    **dict.fromkeys(("events", "columns", "write"), LIST),
    "transform": TEXT,
    "computed": LIST,
}
REQUIRED = ("table", "columns", "write")
# Those that have a default, which null is not.
DEFAULTED = ("delivery", "function", "events", "computed")
WRITE_FIELDS = {
    **dict.fromkeys(("type", "key", "value", "member", "score"), TEXT),
    **dict.fromkeys(("ttl", "max", "maxlen"), NUMBER),
    "distinct": BOOL,
}
# What every write may have, and what the types have beside it: the fields that are required, and the others.
COMMON_FIELDS = ("type", "key", "ttl", "distinct")
WRITE_TYPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "string": ((), ("value",)),
    "hash": ((), ()),
    "json": ((), ()),
    "set": (("member",), ()),
    "zset": (("member", "score"), ()),
    "list": (("value",), ("max",)),
    "stream": ((), ("maxlen",)),
}
# Types of which a key holds one row. Tables may share the keys of the others.
WHOLE_TYPES = ("string", "hash", "json")


def kind_of(value: Any) -> str:
    return next((kind for kind, types in _OTHERS.items() if isinstance(value, types)), "of another type")


def value_problem(value: Any, kind: str) -> Problem | None:
    """Why a value cannot be one of this kind."""
    if not isinstance(value, _TYPES[kind]) or (kind == NUMBER and isinstance(value, bool)):
        hint = "write a value, or leave it out" if value is None else _WRITTEN[kind]
        return Problem((), f"must be {kind}, not {kind_of(value)}", hint)
    if kind == NUMBER and not 1 <= value <= MAX_NUMBER:
        return Problem((), f"must be 1 to {MAX_NUMBER}, not {value}", "leave it out for no limit")
    if kind == TEXT and not value:
        return Problem((), "is empty", "write a text, or leave it out where it is not required")
    if kind == TEXT and any("\ud800" <= character <= "\udfff" for character in value):
        return Problem((), f"{shown(value)} has half a character in it", "write it in UTF-8")
    return None


def _unknown_problem(name: Any, known: Iterable[str]) -> Problem:
    hint = suggestion(name, known, f"known are {', '.join(known)}")
    if isinstance(name, str) and name.isidentifier() and len(name) <= MAX_FIELD:
        return Problem((str(name),), "is unknown", hint)
    # It may be anything.
    return Problem((), "has a field that is unknown", hint)


def usable_fields(
    mapping: Mapping[Any, Any], known: Mapping[str, str], problems: list[Problem]
) -> dict[str, Any]:
    """The fields that hold what they should. What is wrong with the others becomes a problem."""
    problems += [
        _unknown_problem(name, known) for name in mapping if not isinstance(name, str) or name not in known
    ]
    usable = {}
    for name, kind in known.items():
        if name in mapping and (mapping[name] is not None or name in DEFAULTED):
            problem = value_problem(mapping[name], kind)
            if problem:
                problems.append(problem.below(name))
            else:
                usable[name] = mapping[name]
    return usable


def listed_names(usable: Mapping[str, Any], field: str, problems: list[Problem]) -> dict[int, str]:
    """The texts of a list by their places. What is not one, or stands there twice, becomes a problem."""
    names: dict[int, str] = {}
    seen = set()
    for number, value in enumerate(usable.get(field, ())):
        problem = value_problem(value, TEXT)
        if problem:
            problems.append(problem.below(field, number))
            continue
        if value.lower() in seen:
            hint = "leave one of them out; upper and lower case are the same"
            problems.append(Problem((field, number), f"{shown(value)} is listed twice", hint))
        seen.add(value.lower())
        names[number] = value
    return names
