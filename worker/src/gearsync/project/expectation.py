"""What Redis should hold for a row, and which row a Redis key would belong to. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Optional, Union

from gearsync.declare.declaration import COLUMN_NAME, LOGS, Table, Template, Write
from gearsync.project.commands import Command, as_bytes, document
from gearsync.project.commands import _Rendered as Rendered
from gearsync.project.payload import Malformed, Row

#: Kinds of difference.
MISSING, STALE, WRONG_TYPE, ORPHANED = KINDS = ("missing", "stale", "wrong_type", "orphaned")
#: What has a time to live and is not there: expired, or lost. No difference by itself.
ABSENT = "absent"

_REDIS_TYPES = {"hash": b"hash", "json": b"string", "string": b"string", "set": b"set", "zset": b"zset", "list": b"list", "stream": b"stream"}
#: What TTL answers for a key that never expires.
_FOR_EVER = -1


class Probe(NamedTuple):
    """One question to Redis, and the answer when both sides are equal."""

    write: int
    key: bytes
    member: Optional[bytes]
    command: Command
    expected: Any
    kind: str


def is_wrong_type(answer: Any) -> bool:
    """Whether an answer says that the key is of another type than the command's."""
    return isinstance(answer, Exception) and str(answer).startswith("WRONGTYPE")


def difference(probe: Probe, answer: Any, expires: bool, seconds: Any = None) -> Optional[str]:
    """How ``answer`` differs from what the probe expects; None when it does not. ``expires``: the key has a time to live; ABSENT when it is gone.

    ``seconds`` is what TTL says of a key that expires. An answer that says nothing about the key is raised.
    """
    if isinstance(answer, Exception):
        if is_wrong_type(answer):
            return WRONG_TYPE
        raise answer
    gone = answer is None or (probe.kind == "hash" and all(value is None for value in answer)) or (probe.kind == "set" and not answer)
    if probe.kind == "hash":
        same = answer == probe.expected
    elif probe.kind == "set":
        same = bool(answer) == probe.expected
    elif probe.kind == "zset":
        same = _same_score(answer, probe.expected)
    elif probe.kind == "json":
        same = answer == probe.expected or (answer is not None and _same_document(answer, probe.expected))
    else:
        same = answer == probe.expected
    if same and not gone and seconds == _FOR_EVER:
        return STALE
    if same:
        return None
    return (ABSENT if expires else MISSING) if gone else STALE


def _same_score(answer: Any, expected: Optional[bytes]) -> bool:
    return answer is expected if answer is None or expected is None else float(answer) == float(expected)


def _same_document(answer: bytes, expected: bytes) -> bool:
    # Digit by digit, and a number is no text and no truth value: msgspec and ==, which know 1.0, true and 2**70, take them for the same.
    def exactly(text: bytes) -> Any:
        return json.loads(text, parse_int=_digits, parse_float=_digits)

    try:
        return _alike(exactly(answer), exactly(expected))
    except (ValueError, RecursionError):
        return False


def _digits(text: str) -> tuple[str]:
    return (text,)


def _alike(one: Any, other: Any) -> bool:
    """Equal, with true and 1 being two things."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name]) for name, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


class Untraceable(Exception):
    """A key can be taken apart in more ways than are tried: whose it is cannot be said."""


class Pattern:
    """A template backwards: from a text to the values that may have filled it."""

    def __init__(self, source: str) -> None:
        template = Template(source)
        self.columns = template.columns
        self.render = Rendered(template)
        self._texts = self.render.texts

    def parses(self, text: bytes, limit: int = 64) -> Iterator[dict[str, bytes]]:
        """Every way to take ``text`` apart; a column that the template names twice has one value. Raises Untraceable after ``limit`` attempts."""
        if not text.startswith(self._texts[0]):
            return
        for attempt, values in enumerate(self._split(text[len(self._texts[0]):], 0)):
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
        following = self._texts[number + 1]
        if number == len(self.columns) - 1:
            if text.endswith(following):
                yield [text[: len(text) - len(following)]]
            return
        at = text.find(following)
        while at >= 0:
            for rest in self._split(text[at + len(following):], number + 1):
                yield [text[:at], *rest]
            at = text.find(following, at + 1) if at < len(text) else -1


class _Shape:
    """One declared write, ready to be asked about."""

    def __init__(self, number: int, write: Write, columns: Sequence[str]) -> None:
        self.number = number
        self.write = write
        self.columns = list(columns)
        self.key = Pattern(write.key)
        self.member = Pattern(write.member) if write.member is not None else None
        self.value = Rendered(Template(write.value)) if write.value is not None else None
        self.score = Rendered(Template(write.score)) if write.score is not None else None
        self.per_column = write.type == "string" and write.value is None
        #: The columns whose values are in the key or in the member.
        self.named = {*self.key.columns, *(self.member.columns if self.member else ())} - ({COLUMN_NAME} if self.per_column else set())

    def __str__(self) -> str:
        return f"write {self.number + 1} ({self.write.type} {self.write.key})"

    def probes(self, row: Row) -> Iterator[Probe]:
        kind = self.write.type
        if kind in LOGS:
            return
        if self.per_column:
            self._complete(row)
            for column in self.columns:
                key, value = self.key.render(row, column), row[column]
                if key is not None:
                    yield Probe(self.number, key, None, ("GET", key), None if value is None else as_bytes(value), "string")
            return
        key = self.key.render(row)
        if key is None:
            return
        if kind == "hash":
            self._complete(row)
            fields = [None if value is None else as_bytes(value) for value in (row[column] for column in self.columns)]
            yield Probe(self.number, key, None, ("HMGET", key, *self.columns), fields, kind)
        elif kind == "json":
            yield Probe(self.number, key, None, ("GET", key), document(row, self.columns), kind)
        elif self.value is not None:
            yield Probe(self.number, key, None, ("GET", key), self.value(row), "string")
        elif self.member is not None:
            member = self.member.render(row)
            if member is not None and kind == "set":
                yield Probe(self.number, key, member, ("SISMEMBER", key, member), True, kind)
            elif member is not None and self.score is not None:
                yield Probe(self.number, key, member, ("ZSCORE", key, member), self._number(self.score(row)), kind)

    def _complete(self, row: Row) -> None:
        missing = next((column for column in self.columns if column not in row), None)
        if missing is not None:
            raise Malformed(f"column {missing!r} is neither in the deployed declaration nor computed: run site.yml")

    def _number(self, score: Optional[bytes]) -> Optional[bytes]:
        try:
            usable = score is None or not math.isnan(float(score))
        except ValueError:
            usable = False
        if not usable:
            raise Malformed(f"the score of write {self.number + 1} is no number")
        return score

    def may_be(self, key: bytes) -> bool:
        """Whether this write may have made ``key``."""
        try:
            if not self.per_column:
                return next(self.key.parses(key), None) is not None
            return any(found[COLUMN_NAME].decode(errors="replace") in self.columns for found in self.key.parses(key))
        except Untraceable:
            return True

    def holds(self, row: Row, key: bytes, member: Optional[bytes]) -> bool:
        """Whether ``row`` writes this key, and this member of it. Raises Malformed for a row without a column that this takes."""
        if self.per_column:
            self._complete(row)
            return any(self.key.render(row, column) == key and row[column] is not None for column in self.columns)
        if self.key.render(row) != key:
            return False
        if self.member is None:
            return self.value is None or self.value(row) is not None
        score = self.score is None or self.score(row) is not None
        return score and self.member.render(row) == member


class Expectation:
    """One declared table, from both sides."""

    def __init__(self, table: Table, identity: Sequence[str]) -> None:
        """``identity``: the declared columns that tell one row from another; none when the writes share no such key."""
        self.table = table
        self.identity = frozenset(identity)
        self.shapes = [_Shape(number, write, table.fields) for number, write in enumerate(table.write)]
        self._compared = [shape for shape in self.shapes if self._is_of_one_row(shape)]
        self._traced = [shape for shape in self._compared if self.identity <= shape.named]
        self._others = [shape for shape in self.shapes if shape not in self._traced]
        self.unverifiable = [str(shape) for shape in self.shapes if shape not in self._compared]
        self.untraced = [str(shape) for shape in self._compared if shape not in self._traced]
        self.may_expire = any(shape.write.ttl is not None for shape in self._compared)

    def _is_of_one_row(self, shape: _Shape) -> bool:
        """Whether one row alone says what Redis is to hold: its key and member are made of the identity, or of another unique key."""
        if shape.write.type in LOGS or not self.identity:
            return False
        # Where only inserts are synced, a member need be no unique key's.
        return self.identity <= shape.named or (bool(shape.named) and set(self.table.events) != {"insert"})

    def probes(self, row: Row) -> list[Probe]:
        """What to ask Redis about ``row``. Raises Malformed for a row of which nobody can say what it writes."""
        return [probe for shape in self._compared for probe in shape.probes(row)]

    def probes_of_all(self, row: Row) -> list[Probe]:
        """The same of the writes, too, whose keys other rows may write: for a row that was written just now."""
        return [probe for shape in self.shapes for probe in shape.probes(row)]

    def expires(self, probe: Probe) -> bool:
        return self.shapes[probe.write].write.ttl is not None

    def claims(self, key: bytes) -> list[int]:
        """The writes that may have made ``key``, and whose rows can be asked for."""
        return [shape.number for shape in self._traced if shape.may_be(key)]

    def may_hold(self, key: bytes, redis_type: bytes) -> bool:
        """Whether a write whose rows cannot be asked for may have made ``key``, which is of this type."""
        return any(_REDIS_TYPES[shape.write.type] == redis_type and shape.may_be(key) for shape in self._others)

    def redis_type(self, number: int) -> bytes:
        """The type of the keys that write ``number`` makes, as Redis' TYPE names it."""
        return _REDIS_TYPES[self.shapes[number].write.type]

    def has_members(self, number: int) -> bool:
        return self.shapes[number].member is not None

    @property
    def needs_values(self) -> bool:
        """Whether it takes more than the templates' columns to tell what a row writes."""
        return any(shape.per_column for shape in self._traced)

    def rows(self, number: int, key: bytes, member: Optional[bytes]) -> Iterator[Row]:
        """Rows, as far as key and member tell them, that write ``number`` may have made them of. Raises Untraceable when these may be more than are tried."""
        shape = self.shapes[number]
        for from_key in shape.key.parses(key):
            column = from_key.get(COLUMN_NAME)
            if shape.per_column and column is not None and column.decode(errors="replace") not in shape.columns:
                continue
            for from_member in shape.member.parses(member or b"") if shape.member else [{}]:
                if all(from_key.get(name, value) == value for name, value in from_member.items()):
                    parts: dict[str, Union[bytes, str]] = {**from_key, **from_member}
                    if shape.per_column:
                        parts.pop(COLUMN_NAME, None)
                    yield {name: _text(value) for name, value in parts.items()}

    def holds(self, number: int, row: Row, key: bytes, member: Optional[bytes]) -> bool:
        return self.shapes[number].holds(row, key, member)


def _text(value: Union[bytes, str]) -> Union[bytes, str]:
    """Text where it is text: only bytes that are no UTF-8 stay bytes."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
