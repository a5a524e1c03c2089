"""A change and its declaration → the Redis commands that make Redis say what the row says. Pure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Callable, Optional, Union

import msgspec

from gearsync.declare.declaration import COLUMN_NAME, Table, Template, Write, named
from gearsync.project.payload import Change, Json, Malformed, Number, Row, Value
from gearsync.project.transform import Transform, transformed

#: One Redis command: its name and its arguments.
Command = tuple[Union[str, bytes, int], ...]

#: What a step does with what stands at its place: writes over all of it, removes it, or adds to it (each time that it is executed).
PUT, REMOVE, APPEND = range(3)
#: A script in Redis cannot take more arguments for one command than Lua's stack holds.
_MOST_ARGUMENTS = 4000


class Step(msgspec.Struct, gc=False):
    """Commands that are executed together: at the first error the rest of them is left out.

    ``place`` is what they write: a key, or a member of one. Steps at different places can be executed in any order.
    """

    kind: int
    shape: _Shape
    key: bytes
    place: Any
    commands: list[Command]
    #: Which change of a batch it is of; set by whoever makes the batch.
    change: int = 0


def as_bytes(value: Union[bytes, str, int]) -> bytes:
    """A value as Redis stores it: bytes as they are, text in UTF-8."""
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else b"%d" % value


def _missing(column: str) -> Malformed:
    return Malformed(f"column {column!r} is missing; the trigger is older than the worker's declaration, or the other way round")


def _cell(row: Row, column: str) -> Value:
    try:
        return row[column]
    except KeyError:
        raise _missing(column) from None


class _Rendered:
    """A template that is made ready for being filled many times."""

    def __init__(self, template: Template) -> None:
        self.columns = template.columns
        self.texts = [text.encode() for text in template.texts]
        # Almost all keys name one column.
        self._one = template.columns[0] if len(template.columns) == 1 else None
        self._before, self._after = template.texts[0], template.texts[-1]

    def __call__(self, row: Row, column: str = "") -> Optional[bytes]:
        """The template filled from ``row``, ``{column}`` from ``column``; None when a value in it is NULL. Raises Malformed for a missing column."""
        if self._one is not None and not column:
            value: Value = row.get(self._one)
            if value is not None and not isinstance(value, bytes):
                return f"{self._before}{value}{self._after}".encode()
        parts = [self.texts[0]]
        for name, text in zip(self.columns, self.texts[1:]):
            value = column if column and name == COLUMN_NAME else _cell(row, name)
            if value is None:
                return None
            parts += [as_bytes(value), text]
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

    #: Whether what a put writes does not depend on what stood there.
    absolute = False
    #: Whether it keeps what was written before.
    is_log = False

    def __init__(self, write: Write, columns: list[str]) -> None:
        self.write = write
        self.columns = columns
        self.key = _Rendered(Template(write.key))

    def put(self, row: Row) -> list[Step]:
        """What writes ``row``."""
        raise NotImplementedError

    def remove(self, row: Row) -> list[Step]:
        """What removes what ``row`` had written."""
        key = self.key(row)
        return [] if key is None else [self.removal(key)]

    def replaced(self, old: Row, new: Row) -> list[Step]:
        """What removes what ``old`` had written and ``new`` does not write over."""
        key = self.key(old)
        return [] if key is None or key == self.key(new) else [self.removal(key)]

    def knows(self, old: Row) -> bool:
        """Whether ``old`` tells what must be removed."""
        return not self.is_log and all(name in old for name in self.key.columns if name != COLUMN_NAME)

    def removal(self, key: bytes) -> Step:
        return Step(REMOVE, self, key, key, [("DEL", key)])

    def expire(self, key: bytes) -> list[Command]:
        return [] if self.write.ttl is None else [("EXPIRE", key, self.write.ttl)]

    def set(self, key: bytes, value: bytes) -> Step:
        command: Command = ("SET", key, value) if self.write.ttl is None else ("SET", key, value, "EX", self.write.ttl)
        return Step(PUT, self, key, key, [command])


class _StringPerColumn(_Shape):
    absolute = True

    def put(self, row: Row) -> list[Step]:
        found: list[Step] = []
        for column in self.columns:
            if column in row:
                key, value = self.key(row, column), row[column]
                if key is not None:
                    found.append(self.removal(key) if value is None else self.set(key, as_bytes(value)))
        return found

    def remove(self, row: Row) -> list[Step]:
        keys = [self.key(row, column) for column in self.columns]
        return [self.removal(key) for key in keys if key is not None]

    def replaced(self, old: Row, new: Row) -> list[Step]:
        if set(self.key.columns) <= {COLUMN_NAME}:
            return []
        keep = {self.key(new, column) for column in self.columns}
        return [step for step in self.remove(old) if step.key not in keep]


class _String(_Shape):
    absolute = True

    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self.value = _Rendered(Template(write.value or ""))

    def put(self, row: Row) -> list[Step]:
        key, value = self.key(row), self.value(row)
        if key is None:
            return []
        return [self.removal(key) if value is None else self.set(key, value)]


class _Hash(_Shape):
    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self._values: Callable[[Row], tuple[Value, ...]] = itemgetter(*columns) if len(columns) > 1 else lambda row: (row[columns[0]],)
        self._fields: list[Any] = [part for column in columns for part in (column, None)]

    def put(self, row: Row) -> list[Step]:
        key = self.key(row)
        if key is None:
            return []
        try:
            values = self._values(row)
        except KeyError as error:
            raise _missing(error.args[0]) from None
        if None in values or len(self._fields) > _MOST_ARGUMENTS:
            return [Step(PUT, self, key, key, self._commands(key, row))]
        fields = self._fields.copy()
        fields[1::2] = values
        return [Step(PUT, self, key, key, [("HSET", key, *fields), *self.expire(key)])]

    def _commands(self, key: bytes, row: Row) -> list[Command]:
        fields: list[Union[str, bytes, int]] = []
        absent: list[str] = []
        for column in self.columns:
            value = row[column]
            if value is None:
                absent.append(column)
            else:
                fields += [column, value]
        found: list[Command] = [("HSET", key, *fields[start : start + _MOST_ARGUMENTS]) for start in range(0, len(fields), _MOST_ARGUMENTS)]
        found += [("HDEL", key, *absent[start : start + _MOST_ARGUMENTS]) for start in range(0, len(absent), _MOST_ARGUMENTS)]
        return [*found, *self.expire(key)]


class _Json(_Shape):
    absolute = True

    def put(self, row: Row) -> list[Step]:
        key = self.key(row)
        return [] if key is None else [self.set(key, document(row, self.columns))]


class _Set(_Shape):
    add, rem = "SADD", "SREM"

    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self.member = _Rendered(Template(write.member or ""))

    def entry(self, row: Row) -> Optional[tuple[bytes, bytes]]:
        """The set's key and the row's member of it; None when one of them has a NULL in it."""
        key, member = self.key(row), self.member(row)
        return None if key is None or member is None else (key, member)

    def knows(self, old: Row) -> bool:
        return super().knows(old) and all(name in old for name in self.member.columns)

    def put(self, row: Row) -> list[Step]:
        entry = self.entry(row)
        return [] if entry is None else [Step(PUT, self, entry[0], entry, [(self.add, *entry), *self.expire(entry[0])])]

    def remove(self, row: Row) -> list[Step]:
        entry = self.entry(row)
        return [] if entry is None else [Step(REMOVE, self, entry[0], entry, [(self.rem, *entry)])]

    def replaced(self, old: Row, new: Row) -> list[Step]:
        return [] if self.entry(old) == self.entry(new) else self.remove(old)


class _SortedSet(_Set):
    rem = "ZREM"

    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self.score = _Rendered(Template(write.score or ""))

    def put(self, row: Row) -> list[Step]:
        entry, score = self.entry(row), self.score(row)
        if entry is None:
            return []
        if score is None:
            return self.remove(row)
        return [Step(PUT, self, entry[0], entry, [("ZADD", entry[0], score, entry[1]), *self.expire(entry[0])])]


class _List(_Shape):
    is_log = True

    def __init__(self, write: Write, columns: list[str]) -> None:
        super().__init__(write, columns)
        self.value = _Rendered(Template(write.value or ""))

    def put(self, row: Row) -> list[Step]:
        key, value = self.key(row), self.value(row)
        if key is None or value is None:
            return []
        found: list[Command] = [("RPUSH", key, value)]
        if self.write.max is not None:
            found.append(("LTRIM", key, -self.write.max, -1))
        return [Step(APPEND, self, key, None, found + self.expire(key))]

    def remove(self, row: Row) -> list[Step]:
        key, value = self.key(row), self.value(row)
        return [] if key is None or value is None else [Step(APPEND, self, key, None, [("LREM", key, 1, value)])]

    def replaced(self, old: Row, new: Row) -> list[Step]:
        # An update appends; what was appended before stays, as in any log.
        return []


class _Stream(_Shape):
    """An entry for every change, deletes too: a stream is read as a log."""

    is_log = True

    def entry(self, row: Row, event: str) -> list[Step]:
        key = self.key(row)
        if key is None:
            return []
        bound: Command = () if self.write.maxlen is None else ("MAXLEN", "~", self.write.maxlen)
        fields: list[Union[str, bytes, int]] = []
        for column in self.columns:
            value = row.get(column)
            if value is not None:
                fields += [column, value]
        return [Step(APPEND, self, key, None, [("XADD", key, *bound, "*", "event", event, *fields), *self.expire(key)])]

    def remove(self, row: Row) -> list[Step]:
        return self.entry(row, "delete")

    def replaced(self, old: Row, new: Row) -> list[Step]:
        return []


_SHAPES: dict[str, type[_Shape]] = {"hash": _Hash, "json": _Json, "set": _Set, "zset": _SortedSet, "list": _List, "stream": _Stream}


def _shape(write: Write, columns: list[str]) -> _Shape:
    if write.type == "string":
        return (_StringPerColumn if write.value is None else _String)(write, columns)
    return _SHAPES[write.type](write, columns)


class Writer:
    """What the changes of one declared table do."""

    def __init__(self, table: Table, transform: Optional[Transform] = None) -> None:
        """``table`` must be free of mistakes (``declaration.mistakes``)."""
        self.table = table.table
        self.columns = frozenset(table.columns)
        self.transform = transform
        self.shapes = [_shape(write, table.fields) for write in table.write]

    def steps(self, change: Change) -> list[Step]:
        """What ``change`` does, in the order in which it must be done. Raises Malformed for a missing column."""
        if self.transform is not None:
            change = self._transformed(self.transform, change)
        event, new, old = change.event, change.new or {}, change.old
        if event == "none":
            return []
        found: list[Step] = []
        for shape in self.shapes:
            if event == "delete":
                if not change.partial or shape.knows(old or {}):
                    found += shape.remove(old or {})
                continue
            if (event == "refresh" or change.partial) and shape.is_log:
                continue
            if event == "update" and old is not None and (not change.partial or shape.knows(old)):
                found += shape.replaced(old, new)
            found += shape.entry(new, event) if isinstance(shape, _Stream) else shape.put(new)
        return found

    def _transformed(self, function: Transform, change: Change) -> Change:
        """The change when the rows that ``function`` leaves out are taken for rows that there are not."""
        new = None if change.new is None else transformed(function, change.new, self.table)
        try:
            old = None if change.old is None else transformed(function, change.old, self.table)
        except Malformed:
            # A function need not understand a row of which only some columns are known; then nothing is known that could be removed.
            if not change.partial:
                raise
            old = None
        if new is not None:
            return Change(change.table, "insert" if change.old is not None and old is None else change.event, new, old, change.partial)
        # A row that was never written has nothing to be removed; "none" is no event of a trigger.
        return Change(change.table, "delete" if old is not None else "none", None, old, change.partial)

    def commands(self, change: Change) -> list[Command]:
        """Redis commands for ``change``, in the order in which they must be executed. Raises Malformed for a missing column."""
        return [command for step in self.steps(change) for command in step.commands]

    def appends(self, change: Change) -> list[Command]:
        """Those of them that add to a list or a stream."""
        return [command for step in self.steps(change) if step.kind == APPEND for command in step.commands]


class FormerWriter(Writer):
    """The same for changes whose declaration is not written down: by the configuration's, as far as a change has the columns for it."""

    def __init__(self, table: Table, transform: Optional[Transform] = None) -> None:
        super().__init__(table, transform)
        self._table = table
        self._writers: dict[Any, Writer] = {}

    def steps(self, change: Change) -> list[Step]:
        """As those of a Writer. Raises Malformed when the change has the columns of no write."""
        rows = [frozenset(row) for row in (change.new, change.old) if row is not None]
        # The keys of the article's mapping are made of the columns' names alone.
        known = (None if change.new is None else rows[0], frozenset.intersection(*rows) if rows else frozenset())
        if known not in self._writers:
            self._writers[known] = self._made(*known)
        return self._writers[known].steps(change)

    def _made(self, new: Optional[frozenset[str]], both: frozenset[str]) -> Writer:
        """``new``: the columns of the new row; ``both``: those of each row that there is. What is written must be told as old, or it stays for ever."""
        table, fields = self._table, both | {*self._table.computed}
        columns = [column for column in table.columns if new is None or column in new]
        writes = [write for write in table.write if named(write) <= fields]
        if not writes or not columns:
            raise _missing(min(named(table.write[0]) - fields, default=table.columns[0]))
        return Writer(msgspec.structs.replace(table, columns=columns, write=writes), self.transform)


def reload_steps(change: Change, own: Writer, under: Writer) -> list[Step]:
    """What a reload does that was made under ``own``, when rows are written as ``under`` says. Raises Malformed."""
    if own is under or change.event == "delete":
        return own.steps(change)
    # What the former values had written, only the former writes say.
    gone = own.steps(Change(change.table, "delete", None, change.old, True)) if change.old else []
    return [*gone, *under.steps(Change(change.table, change.event, change.new, None, change.partial))]


def coalesce(steps: Sequence[Step]) -> list[Step]:
    """Those of ``steps`` that are needed to end where all of them end: of what is written to one place, the last state."""
    owners: dict[bytes, _Shape] = {}
    # Two tables may write one key; what they do to it is done in full, in its order.
    shared: set[bytes] = set()
    for step in steps:
        if owners.setdefault(step.key, step.shape) is not step.shape:
            shared.add(step.key)
    kept: dict[Any, tuple[Step, ...]] = {}
    for number, step in enumerate(steps):
        if step.kind == APPEND or step.key in shared:
            kept[number] = (step,)
            continue
        # Taken out and put back, so that it stands where its last step stood.
        before = kept.pop(step.place, None)
        if before is None or step.kind == REMOVE or (step.kind == PUT and step.shape.absolute):
            kept[step.place] = (step,)
        else:
            # What a removal takes away beside our own fields must not come back.
            kept[step.place] = (before[0], step) if before[0].kind == REMOVE else (step,)
    return [step for group in kept.values() for step in group]


def article_commands(change: Change) -> list[Command]:
    """The article's own mapping, for a flat payload that no declared table is named for: every member becomes a string of its name."""
    row = change.new or {}
    return [("DEL", name) if value is None else ("SET", name, value) for name, value in row.items()]
