# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with the declaration of a table, found before anything changes. No I/O here."""

from __future__ import annotations

import re

EVENTS = ("insert", "update", "delete")
DELIVERIES = ("durable", "direct")
TRANSFORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*\Z")

# The fields of each type of write: the templates that it must have, those that it may have, its numbers.
WRITE_TYPES = {
    "string": (("key",), ("value",), ("ttl",)),
    "hash": (("key",), (), ("ttl",)),
    "json": (("key",), (), ("ttl",)),
    "set": (("key", "member"), (), ("ttl",)),
    "zset": (("key", "member", "score"), (), ("ttl",)),
    "list": (("key", "value"), (), ("max", "ttl")),
    "stream": (("key",), (), ("maxlen", "ttl")),
}
TEMPLATE_FIELDS = ("key", "member", "score", "value")
NUMBER_FIELDS = ("ttl", "max", "maxlen")

# In the key of a string: the column's own name, one Redis key per column.
COLUMN_NAME = "column"


class TemplateError(ValueError):
    pass


def parse_template(text):
    """'user:{id}' as [('user:', None), ('', 'id')…]: pairs of literal text and the name in the braces that follow it."""
    parts, literal, position = [], "", 0
    while position < len(text):
        character = text[position]
        if text[position:position + 2] in ("{{", "}}"):
            literal += character
            position += 2
        elif character == "{":
            end = text.find("}", position)
            name = text[position + 1:end] if end > position else ""
            if end < 0 or "{" in name:
                raise TemplateError("has a '{' that is not closed; write '{{' for a brace that is meant as such")
            if not name:
                raise TemplateError("has empty braces; name a column in them, or write '{{}}' for braces that are meant as such")
            parts.append((literal, name))
            literal, position = "", end + 1
        elif character == "}":
            raise TemplateError("has a '}' that closes nothing; write '}}' for a brace that is meant as such")
        else:
            literal += character
            position += 1
    if literal or not parts:
        parts.append((literal, None))
    return parts


def template_names(text):
    """The names in a template's braces, each once, in their order."""
    names = []
    for _literal, name in parse_template(text):
        if name is not None and name not in names:
            names.append(name)
    return names


def is_per_column(write):
    """Whether a write makes one string of each column."""
    return write.get("type") == "string" and COLUMN_NAME in template_names(write["key"])


def write_columns(write, fields):
    """The columns that these templates of a write name."""
    names = []
    for field in fields:
        for name in template_names(write[field]) if write.get(field) is not None else []:
            if name not in names and not (name == COLUMN_NAME and field == "key" and write["type"] == "string"):
                names.append(name)
    return names


def old_columns(declaration):
    """The columns whose old value tells what an update or a delete must remove, in the declaration's order."""
    used = set()
    for write in declaration["write"]:
        used.update(write_columns(write, TEMPLATE_FIELDS))
    if declaration.get("transform"):
        # What it computes may be of any column.
        return list(declaration["columns"])
    return [column for column in declaration["columns"] if column in used]


def _same_name(wanted, names):
    """A column by its name; the server compares these without regard to case."""
    for name in names:
        if name == wanted:
            return name
    for name in names:
        if name.lower() == wanted.lower():
            return name
    return None


def match_columns(columns, names):
    """Declared columns as the table calls them: ({declared: real}, [those that it does not have])."""
    found, missing = {}, []
    for column in columns:
        real = _same_name(column, names)
        if real is None:
            missing.append(column)
        else:
            found[column] = real
    return found, missing


def duplicates(names):
    seen, twice = set(), []
    for name in names:
        if name.lower() in seen and name not in twice:
            twice.append(name)
        seen.add(name.lower())
    return twice


def _keys(write, columns):
    """The key templates that a write comes to: one, or one per column."""
    if not is_per_column(write):
        return [write["key"]]
    keys = []
    for column in columns:
        text = ""
        for literal, name in parse_template(write["key"]):
            text += literal.replace("{", "{{").replace("}", "}}")
            if name == COLUMN_NAME:
                text += column.replace("{", "{{").replace("}", "}}")
            elif name is not None:
                text += f"{{{name}}}"
        keys.append(text)
    return keys


def _template_problems(write, where, field, columns):
    """What is wrong with one template that a write has."""
    kind, text = write["type"], write[field]
    if text == "":
        return [f"{where}: {field} is empty"]
    try:
        names = template_names(text)
    except TemplateError as error:
        return [f"{where}: {field} {text!r} {error}"]
    problems = []
    for name in names:
        if name in columns or (name == COLUMN_NAME and kind == "string" and field == "key"):
            continue
        if name == COLUMN_NAME:
            problems.append(f"{where}: {field} {text!r} uses {{column}}, which only the key of a string may")
        else:
            problems.append(f"{where}: {field} {text!r} names the column {name!r}, which is not in columns ({', '.join(columns)})")
    if field in ("key", "member"):
        parts = parse_template(text)
        for (_before, first), (between, second) in zip(parts, parts[1:]):
            if second is not None and not between:
                problems.append(f"{where}: {field} {text!r} has {{{first}}} and {{{second}}} side by side, so that other values make the same text"
                                " (1 and 23, 12 and 3); put something between them")
    return problems


def _number_problems(write, where):
    kind, problems = write["type"], []
    for field in NUMBER_FIELDS:
        if write.get(field) is None:
            continue
        if field not in WRITE_TYPES[kind][2]:
            problems.append(f"{where}: a {kind} has no {field}")
        elif write[field] < 1:
            problems.append(f"{where}: {field} must be 1 or more, not {write[field]}")
    return problems


def _string_problems(write, where):
    """A string is one per column or one per row."""
    if is_per_column(write):
        if write.get("value") is not None:
            return [f"{where}: a string with {{column}} in its key takes each column's own value; value cannot be set"]
    elif write.get("value") is None:
        return [f"{where}: a string needs {{column}} in its key (one string per column) or a value (one string per row)"]
    return []


def _write_problems(write, where, columns):
    """What is wrong with one write taken alone."""
    kind = write.get("type")
    if kind not in WRITE_TYPES:
        return [f"{where}: unknown write type {kind!r}; known are {', '.join(WRITE_TYPES)}"]
    required, optional, _numbers = WRITE_TYPES[kind]
    problems = [f"{where}: a {kind} needs {field}" for field in required if write.get(field) is None]
    for field in TEMPLATE_FIELDS:
        if write.get(field) is None:
            continue
        if field in required + optional:
            problems += _template_problems(write, where, field, columns)
        else:
            problems.append(f"{where}: a {kind} has no {field}")
    problems += _number_problems(write, where)
    return problems or (_string_problems(write, where) if kind == "string" else [])


def _identifies_row(write):
    """The columns that tell one row's entry from another's in this write."""
    return set(write_columns(write, ("key", "member") if write["type"] in ("set", "zset") else ("key",)))


def _delivery_problems(declaration):
    if declaration.get("delivery") not in DELIVERIES:
        return ["unknown delivery {!r}; known are {}".format(declaration.get("delivery"), " and ".join(DELIVERIES))]
    return []


def _transform_problems(declaration):
    """The Python function that adds computed columns, and their names."""
    transform, computed = declaration.get("transform"), declaration.get("computed") or []
    problems = [f"computed column {name!r} is named twice" for name in duplicates(computed)]
    problems += [f"computed column {name!r} is also in columns" for name in computed if name in (declaration.get("columns") or [])]
    if computed and not transform:
        problems.append(f"computed names {', '.join(computed)}, but no transform computes them; set transform: package.module:function")
    if transform and not TRANSFORM.match(transform):
        problems.append(f"transform {transform!r} is no function; write package.module:function")
    return problems


def _function_problems(declaration):
    function = declaration.get("function")
    if not function:
        return ["function is empty; it is the name of the Gearman function that workers wait for"]
    if len(function.encode("utf-8")) > 255 or any(ord(character) < 32 for character in function):
        return [f"function {function!r} is no name for Gearman: at most 255 bytes, no control characters"]
    return []


def _list_problems(declaration):
    """The lists of events and columns."""
    events, columns = declaration.get("events") or [], declaration.get("columns") or []
    problems = []
    if not events:
        problems.append(f"events is empty; name at least one of {', '.join(EVENTS)}")
    problems += [f"unknown event {event!r}; known are {', '.join(EVENTS)}" for event in events if event not in EVENTS]
    problems += [f"event {event!r} is named twice" for event in duplicates(events)]
    if not columns:
        problems.append("columns is empty; name each column that may leave the database")
    problems += [f"column {column!r} is named twice" for column in duplicates(columns)]
    return problems


def _writes_problems(declaration):
    """The writes, each alone and then against each other."""
    columns, writes = (declaration.get("columns") or []) + (declaration.get("computed") or []), declaration.get("write") or []
    if not writes:
        return ["write is empty; name at least one Redis shape for a row"]
    problems, seen = [], {}
    for number, write in enumerate(writes, 1):
        where = f"write {number}"
        found = _write_problems(write, where, columns)
        problems += found
        for key in [] if found else _keys(write, columns):
            other = seen.setdefault(tuple(parse_template(key)), where)
            if other != where:
                problems.append(f"{other} and {where} both write the key {key!r}; give one of them another key")
    return problems


def declaration_problems(declaration):
    """Everything that is wrong with a declaration whatever the table looks like, as a list of sentences."""
    return (_delivery_problems(declaration) + _function_problems(declaration) + _list_problems(declaration) + _transform_problems(declaration)
            + _writes_problems(declaration))


# The characters of a value's text by the column's type, for what is not free text; and the types whose texts all have one length.
_ALPHABETS = {
    **dict.fromkeys(("tinyint", "smallint", "mediumint", "int", "integer", "bigint", "bit"), "-0123456789"),
    **dict.fromkeys(("decimal", "numeric", "time"), "-.:0123456789"),
    **dict.fromkeys(("float", "double", "real"), "-+.e0123456789"),
    "inet4": ".0123456789",
    "inet6": ".:0123456789abcdef",
}
_FIXED_LENGTH = ("date", "datetime", "timestamp", "year", "uuid")


def _cannot_hold(column, character):
    """Whether the text of a column's value ends before a character whatever the value is. column: as of the table's facts, or None for what is computed."""
    if column is None:
        return False
    kind = column["data_type"].lower()
    if kind in ("enum", "set"):
        values = re.findall(r"'((?:[^']|'')*)'", column["column_type"])
        return character not in ("," if kind == "set" else "") + "".join(values)
    return kind in _FIXED_LENGTH or character not in _ALPHABETS.get(kind, character)


def told_apart(text, columns):
    """(the columns whose values a text made of a template tells for sure, the first and the last of those between which it does not, or None).

    columns: facts by the names in the template. From both ends a value is known as long as it cannot hold what separates it from the next one, and one that is
    left over alone is known, too.
    """
    parts = parse_template(text)
    names = [name for _literal, name in parts if name is not None]
    between = [literal for literal, _name in parts][1:len(names)]
    first, last = 0, len(names) - 1
    while first < last and _cannot_hold(columns.get(names[first]), between[first][:1]):
        first += 1
    while first < last and _cannot_hold(columns.get(names[last]), between[last - 1][-1:]):
        last -= 1
    if first >= last:
        return set(names), None
    # What stands between the two in an example.
    middle = "1".join(between[first:last])
    return set(names[:first] + names[last + 1:]), (names[first], names[last], middle)


def _ambiguity(write, columns, covered):
    """Why two rows may have one key or member although the write names a unique key; None when they cannot."""
    fields = ("key", "member") if write["type"] in ("set", "zset") else ("key",)
    known, doubts = set(), []
    for field in fields:
        text = write[field] if field != "key" else _keys(write, [COLUMN_NAME])[0]
        sure, doubt = told_apart(text, columns)
        known |= sure
        doubts += [(field, doubt)] if doubt else []
    if not doubts or covered(known):
        return None
    field, (first, last, middle) = doubts[0]
    return (f"{field} {write[field]!r} is the same text for different rows, for example for {first}='a', {last}='b{middle}c' and for {first}='a{middle}b', "
            f"{last}='c': a delete of one would remove the other's. Put something between {{{first}}} and {{{last}}} that their values cannot hold, or use "
            "numbers, dates, UUIDs or ENUMs for them; if you know that no value holds it, say so with distinct: true in this write")


def _key_problem(write, events, unique_keys, covered):
    """Whether two rows could write one key, or one row take away what another has written; None when all is well."""
    kind, key = write["type"], write["key"]
    if kind in ("list", "stream") or covered(_identifies_row(write)):
        return None
    choices = " or ".join(f"({', '.join(names)})" for names in unique_keys)
    if kind in ("hash", "json", "string"):
        return f"key {key!r} is not made of a unique key, so that two rows would write one Redis key; it must name all columns of {choices}"
    if set(events) == {"insert"}:
        return None
    return (f"key {key!r} and member {write['member']!r} together do not name all columns of a unique key, so that a change of one row would "
            f"remove what another row has written; name all columns of {choices}, or declare events: [insert]")


def shard_columns(declaration, real, unique_keys):
    """The columns, by their declared names, that a row's shard is made of: those of a unique key that every write's key has in it.

    Without such a key changes of different rows may meet in one Redis key, and the whole table needs one shard: an empty list.
    real: {declared: real}. unique_keys: as of key_problems.
    """
    declared = {name: each for each, name in real.items()}
    for key in unique_keys:
        if all({real[name] for name in _identifies_row(write) if name in real}.issuperset(key) for write in declaration["write"]):
            return [declared[name] for name in key]
    return []


def key_columns(declaration, real, unique_keys):
    """The columns, by their declared names, that tell one row of the table from all others; empty when none that do are declared."""
    declared = {name: each for each, name in real.items()}
    shard = shard_columns(declaration, real, unique_keys)
    return shard or next(([declared[name] for name in key] for key in unique_keys if set(key) <= set(declared)), [])


# Types whose values are never numbers, whatever stands around them.
_NEVER_NUMBERS = {
    "date", "datetime", "timestamp", "time", "json", "uuid", "inet6", "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring",
    "multipolygon", "geometrycollection"}


def _score_problem(write, columns):
    """Why no row's score can be a number; None when it can be. columns: what is known of each by its declared name."""
    for name in write_columns(write, ("score",)):
        column = columns.get(name)
        if column is not None and (column["data_type"].lower() in _NEVER_NUMBERS or column["is_json"]):
            return (f"score {write['score']!r} is made of {name}, whose type {column['column_type']} has no numbers, so that no row could be applied; use a "
                    f"numeric column, for example a generated one: ADD {name}_seconds BIGINT AS (TO_SECONDS({name})), or compute it with a transform")
    return None


def key_problems(declaration, names, unique_keys, columns=None):
    """What the table's keys and types say against a declaration that is otherwise right: (problems, warnings).

    names: the table's columns. unique_keys: a list of column lists, each of a PRIMARY KEY or a UNIQUE key of NOT NULL columns.
    columns: what is known of each by its name, to tell which texts may be those of two rows, and which are no scores; without it that is not looked at.
    """
    problems, warnings = [], []
    real, _missing = match_columns(declaration["columns"], names)

    def covered(used):
        # What a transform computes is in no key of the table.
        return any({real[name] for name in used if name in real}.issuperset(key) for key in unique_keys)

    for number, write in enumerate(declaration["write"], 1):
        where = f"write {number}"
        if is_per_column(write) and not write_columns(write, ("key",)):
            # The article's own mapping: one set of keys for the whole table.
            warnings.append(f"{where}: key {write['key']!r} names no column of a unique key, so every row writes the same Redis keys "
                            "and the last change wins")
        elif not unique_keys:
            problems.append(f"{where}: the table has no usable key, neither a PRIMARY KEY nor a UNIQUE key of NOT NULL columns; add one, "
                            "or declare the mapping {type: string, key: \"{column}\"}")
        else:
            problem = _key_problem(write, declaration["events"], unique_keys, covered)
            harmless = write["type"] in ("list", "stream") or (write["type"] in ("set", "zset") and set(declaration["events"]) == {"insert"})
            if problem is None and columns is not None and not harmless and not write.get("distinct"):
                problem = _ambiguity(write, {name: columns[each] for name, each in real.items()}, covered)
            problems += [f"{where}: {problem}"] if problem else []
        # A transform may make anything of a column.
        unusable = None if columns is None or declaration.get("transform") else _score_problem(write, {name: columns[each] for name, each in real.items()})
        problems += [f"{where}: {unusable}"] if unusable else []
    return problems, warnings
