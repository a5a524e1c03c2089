"""What is to be written where: the declared tables, checked, with their templates taken apart. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from typing import Optional

import msgspec

from gearsync.contract import EVENTS
from gearsync.declare.config_file import Mistake
from gearsync.declare.template import COLUMN_NAME, Template, TemplateError

#: What a template of each write type may be made of, and which of them it must have.
FIELDS = {
    "string": ({"key", "ttl", "value"}, {"key"}),
    "hash": ({"key", "ttl"}, {"key"}),
    "json": ({"key", "ttl"}, {"key"}),
    "set": ({"key", "ttl", "member"}, {"key", "member"}),
    "zset": ({"key", "ttl", "member", "score"}, {"key", "member", "score"}),
    "list": ({"key", "ttl", "value", "max"}, {"key", "value"}),
    "stream": ({"key", "ttl", "maxlen"}, {"key"}),
}
#: Shapes whose key is one row's.
WHOLE = ("string", "hash", "json")
DELIVERIES = ("durable", "direct")

_FUNCTION = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


class Write(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One Redis shape of a row, as declared."""

    type: str
    key: str
    ttl: Optional[int] = None
    value: Optional[str] = None
    member: Optional[str] = None
    score: Optional[str] = None
    max: Optional[int] = None
    maxlen: Optional[int] = None
    distinct: Optional[bool] = None  # for sync_table: what separates columns is in none of their values


class Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One declared table."""

    table: str
    columns: list[str]
    write: list[Write]
    delivery: str = "durable"
    function: str = "syncToRedis"
    events: list[str] = msgspec.field(default_factory=lambda: list(EVENTS))
    transform: Optional[str] = None
    computed: list[str] = msgspec.field(default_factory=list)

    @property
    def fields(self) -> list[str]:
        """What a row has when it is written: the columns, and what the transform adds."""
        return [*self.columns, *self.computed]


def named(write: Write) -> set[str]:
    """The columns that a write's templates name. Raises TemplateError."""
    found = {column for source in (write.key, write.value, write.member, write.score) if source is not None for column in Template(source).columns}
    # A column may have that name, but in the key of one string per column it is not meant.
    return found - {COLUMN_NAME} if write.type == "string" and write.value is None else found


def _write_mistakes(write: Write, columns: list[str]) -> Iterator[Mistake]:
    if write.type not in FIELDS:
        yield Mistake(("type",), f"type {write.type!r} is unknown", f"use one of {', '.join(FIELDS)}")
        return
    allowed, required = FIELDS[write.type]
    given = {name for name in ("key", "ttl", "value", "member", "score", "max", "maxlen") if getattr(write, name) is not None}
    yield from (Mistake((name,), f"a {write.type} has no {name!r}", f"it may have {', '.join(sorted(allowed))}") for name in sorted(given - allowed))
    yield from (Mistake((), f"a {write.type} needs {name!r}", f"add {name}, a template of columns") for name in sorted(required - given))
    for name in ("ttl", "max", "maxlen"):
        number = getattr(write, name)
        if number is not None and number <= 0:
            yield Mistake((name,), f"{name} must be greater than 0, not {number}", "leave it out for no limit")
    for name in ("key", "value", "member", "score"):
        source = getattr(write, name)
        if source is not None:
            yield from (Mistake((name,), *found) for found in _template_mistakes(write, name, source, columns))


def _template_mistakes(write: Write, name: str, source: str, columns: list[str]) -> Iterator[tuple[str, str]]:
    try:
        template = Template(source)
    except TemplateError as error:
        yield f"{name}: {error}", "a column's name stands between braces"
        return
    per_column = write.type == "string" and write.value is None and name == "key"
    known = {*columns, COLUMN_NAME} if per_column else set(columns)
    for column in template.columns:
        # Without columns that could be read nobody knows which there are.
        if column not in known and columns:
            close = difflib.get_close_matches(column, columns, n=1)
            yield f"{name} {source!r} names {column!r}, which is not in columns", f"did you mean {close[0]}?" if close else "add it to columns, or name another"
    if name in ("key", "member"):
        for text, first, second in zip(template.texts[1:], template.columns, template.columns[1:]):
            if not text:
                yield f"{name} {source!r} has {{{first}}} and {{{second}}} side by side, so that other values make the same text", "put something between them"
    if per_column and COLUMN_NAME not in template.columns:
        yield f"key {source!r} of a string needs {{column}}, or the write a value template", "write {column} in the key for one key a column, or add value"


def _key_texts(table: Table, write: Write) -> set[tuple[str, ...]]:
    """What stands between the columns in the keys that a write comes to, whatever these columns are called."""
    template = Template(write.key)
    if write.type != "string" or write.value is not None:
        return {tuple(template.texts)}
    found = set()
    for column in table.columns:
        texts = [template.texts[0]]
        for name, text in zip(template.columns, template.texts[1:]):
            if name == COLUMN_NAME:
                texts[-1] += column + text
            else:
                texts.append(text)
        found.add(tuple(texts))
    return found


def shared_keys(tables: Sequence[Optional[Table]]) -> Iterator[Mistake]:
    """Keys of which two tables would each write the whole: rows with equal columns would put away what the other table's have written.

    Tables may add to one set or to one list together.
    """
    seen: dict[tuple[str, ...], tuple[Table, Write]] = {}
    for number, table in enumerate(tables):
        # What could not be read is a mistake already.
        for place, write in enumerate(table.write if table is not None else ()):
            if table is None or write is None or write.type not in FIELDS:
                continue
            try:
                texts = _key_texts(table, write)
            except TemplateError:
                continue
            for text in sorted(texts):
                other, its = seen.setdefault(text, (table, write))
                if other is not table and (write.type in WHOLE or its.type in WHOLE):
                    words = f"{table.table}: key {write.key!r} may be one of those that {other.table} writes as {its.key!r}"
                    yield Mistake(("tables", number, "write", place, "key"), words, "begin it with the table's name")
                    break


def mistakes(table: Table) -> Iterator[Mistake]:
    """All that is wrong with ``table``, without the table's name; nothing when nothing is."""
    if table.delivery not in DELIVERIES:
        yield Mistake(("delivery",), f"delivery {table.delivery!r} is unknown", f"use {' or '.join(DELIVERIES)}")
    for number, event in enumerate(table.events):
        if event not in EVENTS:
            yield Mistake(("events", number), f"event {event!r} is unknown", f"use {', '.join(EVENTS)}")
    names = table.fields
    twice = sorted({name for name in names if names.count(name) > 1})
    yield from (Mistake(("columns",), f"column {column!r} is listed twice", "leave one of them out") for column in twice)
    if table.computed and table.transform is None:
        yield Mistake(("computed",), "computed columns need a transform that computes them", "add transform, or leave computed out")
    if table.transform is not None and not _FUNCTION.fullmatch(table.transform):
        yield Mistake(("transform",), f"transform {table.transform!r} is no function", "write package.module:function")
    for name in ("columns", "events", "write"):
        if not getattr(table, name):
            yield Mistake((name,), f"{name} is empty", "name one at least")
    keys: dict[str, int] = {}
    for number, write in enumerate(table.write):
        # One that could not be read; that is a mistake already.
        if write is None:
            continue
        yield from (Mistake(("write", number, *found.path), found.message, found.hint) for found in _write_mistakes(write, names))
        if write.key in keys:
            yield Mistake(("write", number, "key"), f"key {write.key!r} is written by write[{keys[write.key]}] already", "each write needs keys of its own")
        keys.setdefault(write.key, number)
