# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A declaration that keeps to the rule book, and the table that it is about: which columns, which keys,
what cannot work. No I/O here.
"""

from __future__ import annotations

import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.fields import WHOLE_TYPES
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    Problem,
    shown,
    suggestion,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.template import (
    COLUMN_NAME,
    is_per_column,
    parse_template,
    write_columns,
    write_keys,
)

# Types of writes that keep what was written before, and those in which a row is one member of a key.
LOG_TYPES = ("list", "stream")
MEMBER_TYPES = ("set", "zset")

# The characters of a value's text by the column's type, for what is not free text; and the types whose texts
# all have one length.
ALPHABETS = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "integer", "bigint", "bit"), "-0123456789"),
    **dict.fromkeys(("decimal", "numeric", "time"), "-.:0123456789"),
    **dict.fromkeys(("float", "double", "real"), "-+.e0123456789"),
    "inet4": ".0123456789",
    "inet6": ".:0123456789abcdef",
}
FIXED_LENGTH = ("date", "datetime", "timestamp", "year", "uuid")
# Types whose values are never numbers, whatever stands around them.
NEVER_NUMBERS = {
    "date",
    "datetime",
    "timestamp",
    "time",
    "json",
    "uuid",
    "inet6",
    "geometry",
    "point",
    "linestring",
    "polygon",
    "multipoint",
    "multilinestring",
    "multipolygon",
    "geometrycollection",
}


def old_columns(declaration):
    """The columns whose old value an update or a delete needs to remove what is in Redis, in the
    declaration's order.
    """
    if declaration.get("transform"):
        # What it computes may be of any column.
        return list(declaration["columns"])
    used = {name for write in declaration["write"] for name in write_columns(write)}
    return [column for column in declaration["columns"] if column in used]


def _same_name(wanted, names):
    """A column by its name; the server compares these without regard to case."""
    lower = [name for name in names if name.lower() == wanted.lower()]
    return wanted if wanted in names else lower[0] if lower else None


def match_columns(columns, names):
    """Declared columns as the table calls them: ({declared: real}, [those that it does not have])."""
    real = {column: _same_name(column, names) for column in columns}
    return {column: name for column, name in real.items() if name is not None}, [
        column for column, name in real.items() if name is None
    ]


def column_problems(declaration, names):
    """The declared columns that are not among the table's."""
    _real, missing = match_columns(declaration["columns"], names)
    return [
        Problem(
            ("columns", number),
            f"the table has no column {shown(column)}",
            suggestion(column, names, f"it has {', '.join(names)}"),
        )
        for number, column in enumerate(declaration["columns"])
        if column in missing
    ]


def _identifying_columns(write):
    """The columns by which one row's entry differs from another's in this write."""
    return set(write_columns(write, ("key", "member") if write["type"] in MEMBER_TYPES else ("key",)))


def shard_columns(declaration, real, unique_keys):
    """The columns, by their declared names, that a row's shard is made of: those of a unique key that every
    write's key has in it.

    Without such a key changes of different rows may meet in one Redis key, and the whole table needs one
    shard: an empty list. real: {declared: real}. unique_keys: as of key_problems.
    """
    declared = {name: each for each, name in real.items()}
    for key in unique_keys:
        if all(
            {real[name] for name in _identifying_columns(write) if name in real}.issuperset(key)
            for write in declaration["write"]
        ):
            return [declared[name] for name in key]
    return []


def key_columns(declaration, real, unique_keys):
    """The columns, by their declared names, by which one row of the table differs from all others; empty
    when none that do are declared.
    """
    declared = {name: each for each, name in real.items()}
    shard = shard_columns(declaration, real, unique_keys)
    return shard or next(
        ([declared[name] for name in key] for key in unique_keys if set(key) <= set(declared)), []
    )


def _cannot_hold(column, character):
    """Whether the text of a column's value ends before a character whatever the value is. column: of the
    table's facts, or None when it is computed.
    """
    if column is None:
        return False
    kind = column["data_type"].lower()
    if kind in ("enum", "set"):
        values = re.findall(r"'((?:[^']|'')*)'", column["column_type"])
        return character not in ("," if kind == "set" else "") + "".join(values)
    return kind in FIXED_LENGTH or character not in ALPHABETS.get(kind, character)


def distinguished(texts, names, columns):
    """(the columns whose values a text made of a template shows for sure, the first and the last of those
    between which it does not, or None).

    texts, names: the template. columns: facts by these names. From both ends a value is known as long as it
    cannot hold what separates it from the next one, and one that is left over alone is known, too.
    """
    between = texts[1:-1]
    first, last = 0, len(names) - 1
    while first < last and _cannot_hold(columns.get(names[first]), between[first][:1]):
        first += 1
    while first < last and _cannot_hold(columns.get(names[last]), between[last - 1][-1:]):
        last -= 1
    if first >= last:
        return set(names), None
    # What stands between the two in an example.
    middle = "1".join(between[first:last])
    return set(names[:first] + names[last + 1 :]), (names[first], names[last], middle)


def _ambiguity(write, columns, covered):
    """Why two rows may have one key or member although the write names a unique key; None when they
    cannot.
    """
    templates = {"key": write_keys(write, [COLUMN_NAME])[0]}
    if write["type"] in MEMBER_TYPES:
        templates["member"] = parse_template(write["member"])
    known, doubts = set(), []
    for field, (texts, names) in templates.items():
        sure, doubt = distinguished(texts, names, columns)
        known |= sure
        doubts += [(field, doubt)] if doubt else []
    if not doubts or covered(known):
        return None
    field, (first, last, middle) = doubts[0]
    message = (
        f"{shown(write[field])} is the same text for different rows, for example for {first}='a', "
        f"{last}='b{middle}c' and for {first}='a{middle}b', {last}='c': a delete of one would remove "
        "the other's"
    )
    return Problem(
        (field,),
        message,
        f"put something between {{{first}}} and {{{last}}} that their values cannot hold, or use numbers, "
        "dates, UUIDs or "
        "ENUMs for them, or declare distinct: true in this write if you know that no value holds it",
    )


def _key_problem(write, events, unique_keys, covered):
    """Whether two rows could write one key, or one row take away what another has written; None when all
    is well.
    """
    kind, key = write["type"], shown(write["key"])
    if kind in LOG_TYPES or covered(_identifying_columns(write)):
        return None
    choices = " or ".join(f"({', '.join(names)})" for names in unique_keys)
    if kind in WHOLE_TYPES:
        message = f"{key} is not made of a unique key, so that two rows would write one Redis key"
        return Problem(("key",), message, f"name all columns of {choices}")
    if set(events) == {"insert"}:
        return None
    message = (
        f"{key} and member {shown(write['member'])} do not name all columns of a unique key, so that a "
        "change of one row would remove another row's"
    )
    return Problem(("key",), message, f"name all columns of {choices}, or declare events: [insert]")


def _score_problem(write, columns):
    """Why no row's score can be a number; None when it can be. columns: what is known of each by its
    declared name.
    """
    for name in write_columns(write, ("score",)):
        column = columns.get(name)
        if column is not None and (column["data_type"].lower() in NEVER_NUMBERS or column["is_json"]):
            message = (
                f"{shown(write['score'])} is made of {name}, whose type {column['column_type']} has no "
                "numbers, so that no row could be applied"
            )
            return Problem(
                ("score",),
                message,
                f"use a numeric column, for example a generated one, ADD {name}_seconds BIGINT AS "
                f"(TO_SECONDS({name})), or compute it with a transform",
            )
    return None


def _shares_nothing(write, events):
    """Whether two rows with the same key or member take nothing from each other."""
    return write["type"] in LOG_TYPES or (write["type"] in MEMBER_TYPES and set(events) == {"insert"})


def key_problems(declaration, names, unique_keys, columns=None):
    """What the table's keys and types rule out in a declaration that keeps to the rule book: (problems,
    warnings).

    names: the table's columns. unique_keys: a list of column lists, each of a PRIMARY KEY or a UNIQUE key of
    NOT NULL columns. columns: what is known of each by its name, for the texts that two rows may share and
    for scores; without it these are not looked at.
    """
    problems, warnings = [], []
    real, _missing = match_columns(declaration["columns"], names)
    facts = {} if columns is None else {name: columns[each] for name, each in real.items()}

    def covered(used):
        # What a transform computes is in no key of the table.
        return any({real[name] for name in used if name in real}.issuperset(key) for key in unique_keys)

    for number, write in enumerate(declaration["write"]):
        of_write = []
        if is_per_column(write) and not write_columns(write, ("key",)):
            # The article's own mapping: one set of keys for the whole table.
            warnings.append(
                f"write[{number}].key: {shown(write['key'])} names no column of a unique key, so every row "
                "writes the same Redis keys and the last change wins"
            )
        elif not unique_keys:
            of_write.append(
                Problem(
                    (),
                    "the table has no usable key, neither a PRIMARY KEY nor a UNIQUE key of NOT NULL columns",
                    'add one, or declare the mapping {type: string, key: "{column}"}',
                )
            )
        else:
            of_write.append(_key_problem(write, declaration["events"], unique_keys, covered))
            looks_at_texts = columns is not None and not write.get("distinct")
            if of_write == [None] and looks_at_texts and not _shares_nothing(write, declaration["events"]):
                of_write.append(_ambiguity(write, facts, covered))
        # A transform may make anything of a column.
        of_write.append(None if declaration.get("transform") else _score_problem(write, facts))
        problems += [problem.below("write", number) for problem in of_write if problem]
    return problems, warnings
