"""A change and its declaration → the Redis commands that make Redis say what the row says. Pure."""

from __future__ import annotations

import base64
from typing import Optional, Union

import msgspec

from gearsync.change import Change, Json, Malformed, Number, Row, Value
from gearsync.declaration import COLUMN_NAME, Table, Template, Write

#: One Redis command: its name and its arguments.
Command = tuple[Union[str, bytes, int], ...]


def as_bytes(value: Union[bytes, str]) -> bytes:
    """A value as Redis stores it: bytes as they are, text in UTF-8."""
    return value if isinstance(value, bytes) else value.encode()


def _cell(row: Row, column: str) -> Value:
    try:
        return row[column]
    except KeyError:
        raise Malformed(f"column {column!r} is missing; the trigger is older than the worker's declaration, or the other way round") from None


def render(template: Template, row: Row, column: str = "") -> Optional[bytes]:
    """The template filled from ``row``, ``{column}`` from ``column``; None when a value in it is NULL. Raises Malformed for a missing column."""
    parts = [template.texts[0].encode()]
    for name, text in zip(template.columns, template.texts[1:]):
        value: Value = column if column and name == COLUMN_NAME else _cell(row, name)
        if value is None:
            return None
        parts += [as_bytes(value), text.encode()]
    return b"".join(parts)


def document(row: Row, columns: list[str]) -> bytes:
    """The row's declared columns as one JSON document: numbers bare, JSON as it is, binary as base64."""
    members: dict[str, object] = {}
    for column in columns:
        value = _cell(row, column)
        if isinstance(value, (Number, Json)):
            members[column] = msgspec.Raw(value.encode())
        elif isinstance(value, bytes):
            members[column] = base64.b64encode(value).decode()
        else:
            members[column] = value
    return msgspec.json.encode(members)


class _Shape:
    """One declared write, its templates taken apart. Subclasses say what a row of a table becomes."""

    def __init__(self, write: Write, columns: list[str]) -> None:
        self.write = write
        self.columns = columns
        self.key = Template(write.key)

    def put(self, row: Row) -> list[Command]:
        """Commands that write what ``row`` says."""
        raise NotImplementedError

    def remove(self, row: Row) -> list[Command]:
        """Commands that remove what ``row`` had written."""
        key = render(self.key, row)
        return [] if key is None else [("DEL", key)]

    def replaced(self, old: Row, new: Row) -> list[Command]:
        """Commands that remove what ``old`` had written and ``new`` does not write over."""
        key = render(self.key, old)
        return [] if key is None or key == render(self.key, new) else [("DEL", key)]

    def expire(self, key: bytes) -> list[Command]:
        return [] if self.write.ttl is None else [("EXPIRE", key, self.write.ttl)]

    def set(self, key: bytes, value: bytes) -> Command:
        return ("SET", key, value) if self.write.ttl is None else ("SET", key, value, "EX", self.write.ttl)


class _StringPerColumn(_Shape):
    def _present(self, row: Row) -> list[str]:
        return [column for column in self.columns if column in row]

    def put(self, row: Row) -> list[Command]:
        found: list[Command] = []
        for column in self._present(row):
            key, value = render(self.key, row, column), row[column]
            if key is not None:
                found.append(("DEL", key) if value is None else self.set(key, as_bytes(value)))
        return found

    def remove(self, row: Row) -> list[Command]:
        keys = [render(self.key, row, column) for column in self.columns]
        return [("DEL", key) for key in keys if key is not None]

    def replaced(self, old: Row, new: Row) -> list[Command]:
        if set(self.key.columns) <= {COLUMN_NAME}:
            return []
        keep = {render(self.key, new, column) for column in self.columns}
        return [command for command in self.remove(old) if command[1] not in keep]


class _String(_Shape):
    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self.value = Template(write.value or "")

    def put(self, row: Row) -> list[Command]:
        key, value = render(self.key, row), render(self.value, row)
        if key is None:
            return []
        return [("DEL", key) if value is None else self.set(key, value)]


class _Hash(_Shape):
    def put(self, row: Row) -> list[Command]:
        key = render(self.key, row)
        if key is None:
            return []
        fields: list[Union[str, bytes]] = []
        absent: list[str] = []
        for column in self.columns:
            value = _cell(row, column)
            if value is None:
                absent.append(column)
            else:
                fields += [column, value]
        found: list[Command] = []
        if fields:
            found.append(("HSET", key, *fields))
        if absent:
            found.append(("HDEL", key, *absent))
        return found + self.expire(key)


class _Json(_Shape):
    def put(self, row: Row) -> list[Command]:
        key = render(self.key, row)
        return [] if key is None else [self.set(key, document(row, self.columns))]


class _Set(_Shape):
    add, rem = "SADD", "SREM"

    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self.member = Template(write.member or "")

    def entry(self, row: Row) -> Optional[tuple[bytes, bytes]]:
        """The set's key and the row's member of it; None when one of them has a NULL in it."""
        key, member = render(self.key, row), render(self.member, row)
        return None if key is None or member is None else (key, member)

    def put(self, row: Row) -> list[Command]:
        entry = self.entry(row)
        return [] if entry is None else [(self.add, *entry), *self.expire(entry[0])]

    def remove(self, row: Row) -> list[Command]:
        entry = self.entry(row)
        return [] if entry is None else [(self.rem, *entry)]

    def replaced(self, old: Row, new: Row) -> list[Command]:
        return [] if self.entry(old) == self.entry(new) else self.remove(old)


class _SortedSet(_Set):
    rem = "ZREM"

    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self.score = Template(write.score or "")

    def put(self, row: Row) -> list[Command]:
        entry, score = self.entry(row), render(self.score, row)
        if entry is None:
            return []
        if score is None:
            return [(self.rem, *entry)]
        return [("ZADD", entry[0], score, entry[1]), *self.expire(entry[0])]


class _List(_Shape):
    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self.value = Template(write.value or "")

    def put(self, row: Row) -> list[Command]:
        key, value = render(self.key, row), render(self.value, row)
        if key is None or value is None:
            return []
        found: list[Command] = [("RPUSH", key, value)]
        if self.write.max is not None:
            found.append(("LTRIM", key, -self.write.max, -1))
        return found + self.expire(key)

    def remove(self, row: Row) -> list[Command]:
        key, value = render(self.key, row), render(self.value, row)
        return [] if key is None or value is None else [("LREM", key, 1, value)]

    def replaced(self, old: Row, new: Row) -> list[Command]:
        # An update appends; what was appended before stays, as in any log.
        return []


class _Stream(_Shape):
    """An entry for every change, deletes too: a stream is read as a log."""

    def entry(self, row: Row, event: str) -> list[Command]:
        key = render(self.key, row)
        if key is None:
            return []
        bound: Command = () if self.write.maxlen is None else ("MAXLEN", "~", self.write.maxlen)
        fields = [part for column in self.columns if row.get(column) is not None for part in (column, row[column] or b"")]
        return [("XADD", key, *bound, "*", "event", event, *fields), *self.expire(key)]

    def remove(self, row: Row) -> list[Command]:
        return self.entry(row, "delete")

    def replaced(self, old: Row, new: Row) -> list[Command]:
        return []


_SHAPES: dict[str, type[_Shape]] = {"hash": _Hash, "json": _Json, "set": _Set, "zset": _SortedSet, "list": _List, "stream": _Stream}


def _shape(write: Write, columns: list[str]) -> _Shape:
    if write.type == "string":
        return (_StringPerColumn if write.value is None else _String)(write, columns)
    return _SHAPES[write.type](write, columns)


class Writer:
    """The commands for the changes of one declared table."""

    def __init__(self, table: Table) -> None:
        """``table`` must be free of mistakes (``declaration.mistakes``)."""
        self.columns = frozenset(table.columns)
        self.shapes = [_shape(write, table.columns) for write in table.write]

    def commands(self, change: Change) -> list[Command]:
        """Redis commands for ``change``, in the order in which they must be executed. Raises Malformed for a missing column."""
        if change.event == "delete":
            old = change.old or {}
            return [command for shape in self.shapes for command in shape.remove(old)]
        new = change.new or {}
        found: list[Command] = []
        for shape in self.shapes:
            if change.event == "update" and change.old is not None:
                found += shape.replaced(change.old, new)
            found += shape.entry(new, change.event) if isinstance(shape, _Stream) else shape.put(new)
        return found


def article_commands(change: Change) -> list[Command]:
    """The article's own mapping, for a flat payload that no declared table is named for: every member becomes a string of its name."""
    row = change.new or {}
    return [("DEL", name) if value is None else ("SET", name, value) for name, value in row.items()]
