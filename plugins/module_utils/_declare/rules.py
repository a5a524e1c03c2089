# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule book: what a declaration of tables may hold. Pure, and nothing but the standard library.

This file, fields.py, problem.py and template.py stand twice, byte for byte the same: in
plugins/module_utils/_declare for modules and playbooks, and in worker/src/gearsync/declare for the worker. A
field that is null is as one that is left out, unless it has a default.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .fields import (
    COMMON_FIELDS,
    FIELDS,
    REQUIRED,
    TEXT,
    WHOLE_TYPES,
    WRITE_FIELDS,
    WRITE_TYPES,
    kind_of,
    listed_names,
    usable_fields,
    value_problem,
)
from .problem import Problem, path_text, shown, suggestion
from .template import COLUMN_NAME, TEMPLATE_FIELDS, TemplateError, is_per_column, parse_template, write_keys

EVENTS = ("insert", "update", "delete")
DELIVERIES = ("durable", "direct")
# What the schema of durable delivery takes as a table's name, in characters.
MAX_TABLE_NAME = 129
# What Gearman takes as a function's name, in bytes.
MAX_FUNCTION = 255
# It is part of names of Gearman functions and of Redis keys.
SOURCE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
TRANSFORM = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
SCORE = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?)", re.IGNORECASE)
TABLE = re.compile(r"(?:`((?:[^`]|``)+)`|([^`.]+))\.(?:`((?:[^`]|``)+)`|([^`]+))")


def split_table_name(text: str) -> tuple[str, str] | None:
    """'shop.user_list' or '`my.db`.`a table`' as (schema, table); None when it is neither."""
    match = TABLE.fullmatch(text)
    if not match:
        return None
    schema, plain_schema, table, plain_table = match.groups()
    return (schema.replace("``", "`") if schema else plain_schema), (
        table.replace("``", "`") if table else plain_table
    )


def is_durable(declaration: Any) -> bool:
    """Whether a declaration, right or wrong, asks for durable delivery."""
    return isinstance(declaration, Mapping) and declaration.get("delivery", DELIVERIES[0]) == DELIVERIES[0]


def source_problems(source: Any) -> list[Problem]:
    """What is wrong with the name of a source."""
    problem = value_problem(source, TEXT)
    if not problem and not SOURCE.fullmatch(source):
        problem = Problem(
            (),
            f"{shown(source)} cannot be the name of a source",
            "use 1 to 64 letters, digits, '_', '.' and '-'",
        )
    return [problem.below("source")] if problem else []


def declaration_problems(declaration: Any) -> list[Problem]:
    """Everything that is wrong with a declaration whatever its table looks like. The paths begin inside
    of it.
    """
    if not isinstance(declaration, Mapping):
        return [
            Problem((), f"must be a mapping, not {kind_of(declaration)}", "begin with table: schema.table")
        ]
    problems: list[Problem] = []
    usable = usable_fields(declaration, FIELDS, problems)
    missing = [name for name in REQUIRED if declaration.get(name) is None]
    problems += [Problem((name,), "is missing", "it has no default: add it") for name in missing]
    empty = [name for name in ("events", "columns", "write") if name in usable and not usable[name]]
    problems += [Problem((name,), "is empty", "name at least one") for name in empty]
    problems += _text_problems(usable, is_durable(declaration))
    known = _known_names(declaration, usable, problems)
    for number, write in enumerate(usable.get("write", ())):
        problems += (problem.below("write", number) for problem in _write_problems(write, known))
    return problems + list(_same_key_problems(declaration))


def _known_names(
    declaration: Mapping[str, Any], usable: Mapping[str, Any], problems: list[Problem]
) -> list[str] | None:
    """The names that a template may have; None when not all of them can be read. What is wrong with the
    lists becomes problems.
    """
    events, columns, computed = (
        listed_names(usable, name, problems) for name in ("events", "columns", "computed")
    )
    for number, event in events.items():
        if event not in EVENTS:
            hint = suggestion(event, EVENTS, f"use {', '.join(EVENTS)}")
            problems.append(Problem(("events", number), f"{shown(event)} is unknown", hint))
    for number, name in computed.items():
        if name in columns.values():
            problems.append(
                Problem(("computed", number), f"{shown(name)} is also in columns", "leave one of them out")
            )
    if computed and declaration.get("transform") is None:
        message = f"{', '.join(map(shown, computed.values()))} needs a transform that computes it"
        problems.append(Problem(("computed",), message, "add transform: package.module:function"))
    computed_is_read = "computed" not in declaration or len(computed) == len(usable.get("computed", "?"))
    if not columns or len(columns) < len(usable["columns"]) or not computed_is_read:
        return None
    return [*columns.values(), *computed.values()]


def _text_problems(usable: Mapping[str, Any], durable: bool) -> Iterator[Problem]:
    """What is wrong with the fields that are one text each."""
    table, delivery, function, transform = (
        usable.get(name) for name in ("table", "delivery", "function", "transform")
    )
    if table is not None and not split_table_name(table):
        yield Problem(("table",), f"{shown(table)} does not name a schema and a table", "write schema.table")
    elif table is not None and durable and len(table) > MAX_TABLE_NAME:
        message = f"has {len(table)} characters, and the outbox takes {MAX_TABLE_NAME}"
        yield Problem(("table",), message, "leave out backticks that are not needed")
    if delivery is not None and delivery not in DELIVERIES:
        yield Problem(
            ("delivery",),
            f"{shown(delivery)} is unknown",
            suggestion(delivery, DELIVERIES, f"use {' or '.join(DELIVERIES)}"),
        )
    if function is not None and (
        len(function.encode("utf-8")) > MAX_FUNCTION or any(character < " " for character in function)
    ):
        hint = f"use at most {MAX_FUNCTION} bytes, and no control characters"
        yield Problem(("function",), f"{shown(function)} cannot be the name of a Gearman function", hint)
    if transform is not None and not TRANSFORM.fullmatch(transform):
        yield Problem(
            ("transform",), f"{shown(transform)} does not name a function", "write package.module:function"
        )


def _write_problems(write: Any, known: list[str] | None) -> list[Problem]:
    """What is wrong with one write taken alone."""
    if not isinstance(write, Mapping):
        return [Problem((), f"must be a mapping, not {kind_of(write)}", "write {type: hash, key: …}")]
    kind = next((each for each in WRITE_TYPES if each == write.get("type")), None)
    required, optional = WRITE_TYPES[kind] if kind else ((), tuple(WRITE_FIELDS))
    allowed = [name for name in WRITE_FIELDS if name in COMMON_FIELDS + required + optional]
    foreign = [name for name in WRITE_FIELDS if name not in allowed and write.get(name) is not None]
    problems = [
        Problem((name,), f"is not a field of a {kind}", f"a {kind} has {', '.join(allowed)}")
        for name in foreign
    ]
    usable = usable_fields(
        {name: value for name, value in write.items() if name not in foreign}, WRITE_FIELDS, problems
    )
    if "type" in usable and not kind:
        hint = suggestion(usable["type"], WRITE_TYPES, f"use one of {', '.join(WRITE_TYPES)}")
        problems.append(Problem(("type",), f"{shown(usable['type'])} is unknown", hint))
    needed = [name for name in ("type", "key", *required) if write.get(name) is None]
    problems += [Problem((name,), "is missing", f"a {kind or 'write'} needs it") for name in needed]
    for field in TEMPLATE_FIELDS:
        if field in usable:
            problems += (each.below(field) for each in _template_problems(usable[field], field, kind, known))
    return problems or (_string_problems(usable) if kind == "string" else [])


def _template_problems(text: str, field: str, kind: str | None, known: list[str] | None) -> Iterator[Problem]:
    """What is wrong with one template. kind: the write's type, if that is known."""
    try:
        texts, names = parse_template(text)
    except TemplateError as error:
        hint = "a column's name stands between braces; write {[} and {]} for braces that are meant as such"
        yield Problem((), f"{shown(text)} {error}", hint)
        return
    for name in dict.fromkeys(names):
        if (
            known is None
            or name in known
            or (name == COLUMN_NAME and field == "key" and kind in ("string", None))
        ):
            continue
        hint = suggestion(name, known, "add it to columns, or name another")
        hint = "only the key of a string takes {column}" if name == COLUMN_NAME else hint
        yield Problem((), f"{shown(text)} names {shown(name)}, which is not in columns", hint)
    for name in ("[", "]"):
        if name in (known or ()) and f"{{{name}}}" in text:
            message = f"{shown(text)} has {{{name}}}, which is a brace, and not the column of that name"
            yield Problem((), message, "leave this column out of templates")
    for between, first, second in zip(texts[1:], names, names[1:]):
        if field in ("key", "member") and not between:
            message = (
                f"{shown(text)} has {{{first}}} and {{{second}}} side by side, which makes one text of "
                "1 and 23, and of 12 and 3"
            )
            yield Problem((), message, "put something between them")
    if field == "score" and not names and not SCORE.fullmatch(texts[0]):
        yield Problem(
            (), f"{shown(text)} is not a number", "write a number, or a column that holds numbers in braces"
        )


def _string_problems(write: Mapping[str, Any]) -> list[Problem]:
    """Why a string is neither one per column nor one per row."""
    if is_per_column(write) and "value" in write:
        message = (
            "cannot be set: {column} in the key makes a string of each column, with the column's own value"
        )
        return [Problem(("value",), message, "leave it out, or take {column} out of the key")]
    if not is_per_column(write) and "value" not in write:
        hint = "write {column} in the key for one string per column, or add a value for one string per row"
        return [
            Problem(("key",), f"{shown(write['key'])} has no {{column}}, and the write has no value", hint)
        ]
    return []


def _readable_keys(declaration: Any) -> Iterator[tuple[int, str, str, tuple[list[str], list[str]]]]:
    """(place of the write, its type, its key, the key taken apart) for each key that can be read,
    whatever else is wrong.
    """
    usable = usable_fields(declaration, FIELDS, []) if isinstance(declaration, Mapping) else {}
    fields = [name for field in ("columns", "computed") for name in listed_names(usable, field, []).values()]
    for place, each in enumerate(usable.get("write", ())):
        write = usable_fields(each, WRITE_FIELDS, []) if isinstance(each, Mapping) else {}
        if write.get("type") in WRITE_TYPES and "key" in write:
            try:
                keys = write_keys(write, fields)
            except TemplateError:
                continue
            yield from ((place, write["type"], write["key"], key) for key in keys)


def _same_key_problems(declaration: Mapping[str, Any]) -> Iterator[Problem]:
    """Keys that two writes of a table write."""
    seen: dict[str, int] = {}
    reported = set()
    for place, _kind_of_write, key, parsed in _readable_keys(declaration):
        other = seen.setdefault(repr(parsed), place)
        if other != place and place not in reported:
            reported.add(place)
            message = f"{shown(key)} may be a key that write[{other}] writes too"
            yield Problem(("write", place, "key"), message, "give each write a key of its own")


def _shared_key_problems(tables: Iterable[Any]) -> Iterator[tuple[int, Problem]]:
    """Keys of which one table writes the whole and another one writes too: rows with equal values would
    overwrite each other's.

    Keys are compared as texts, whatever the columns in them are called.
    """
    seen: dict[tuple[str, ...], list[tuple[Any, bool, str]]] = {}
    reported = set()
    for number, table in enumerate(tables):
        name = _table_name(table) or number
        for place, kind, key, (texts, _names_between) in _readable_keys(table):
            whole = kind in WHOLE_TYPES
            before = seen.setdefault(tuple(texts), [])
            other = next((each for each in before if each[0] != name and (whole or each[1])), None)
            before.append(
                (name, whole, f"{_shown_name(table) or path_text(('tables', number))} writes as {shown(key)}")
            )
            if other and (number, place) not in reported:
                reported.add((number, place))
                message = f"{shown(key)} may be a key that {other[2]}"
                yield (
                    number,
                    Problem(("write", place, "key"), message, "begin the keys of each table with its name"),
                )


def _table_name(declaration: Any) -> tuple[str, str] | None:
    text = declaration.get("table") if isinstance(declaration, Mapping) else None
    return split_table_name(text) if isinstance(text, str) else None


def _shown_name(declaration: Any) -> str:
    """The name of a table if it is one that can be shown."""
    name = declaration["table"] if _table_name(declaration) else ""
    return name if name.isprintable() else ""


def _twice_problems(tables: Iterable[Any]) -> Iterator[tuple[int, Problem]]:
    """Tables that are declared twice."""
    seen: dict[tuple[str, str], int] = {}
    for number, each in enumerate(tables):
        name = _table_name(each)
        if name and seen.setdefault(name, number) != number:
            hint = "put all writes of the table into one declaration"
            yield number, Problem(("table",), f"is declared by tables[{seen[name]}] already", hint)


def tables_problems(tables: Any) -> list[Problem]:
    """Everything that is wrong with a list of declarations, whatever the tables look like. The paths
    begin with tables.
    """
    if not isinstance(tables, (list, tuple)):
        return [
            Problem(
                ("tables",),
                f"must be a list, not {kind_of(tables)}",
                "begin each declaration with '- table: schema.table'",
            )
        ]
    single = [
        (number, problem) for number, each in enumerate(tables) for problem in declaration_problems(each)
    ]
    problems = []
    for number, problem in (*single, *_twice_problems(tables), *_shared_key_problems(tables)):
        problems.append(problem._replace(table=_shown_name(tables[number])).below("tables", number))
    return problems
