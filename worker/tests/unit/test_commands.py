# SPDX-License-Identifier: GPL-3.0-or-later
"""What a change becomes in Redis, against a model of Redis in plain Python."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from gearsync.declare.declaration import Table, Write
from gearsync.declare.rules import declaration_problems
from gearsync.project.commands import FormerWriter, Writer, article_commands, coalesce
from gearsync.project.payload import Change
from gearsync.shapes.shape import APPEND
from gearsync.values import Json, Malformed, Number, Row
from harness.histories import COLUMNS, SHAPES, histories, rows, steps_of
from hypothesis import given
from hypothesis import strategies as st


def test_a_transform_that_does_not_understand_a_partial_row_loses_nothing_but_the_removal() -> None:
    def double(row: dict[str, Any], _table: str) -> dict[str, Any]:
        return {**row, "twice": row["a"] * 2}

    writes = [Write(type="hash", key="h:{id}"), Write(type="list", key="l", value="{a}")]
    table = Table(table="s.t", columns=["id", "a"], computed=["twice"], transform="m:f", write=writes)
    change = Change("s.t", "update", {"id": "1", "a": "x"}, {"id": "1"}, True)
    assert Writer(table, double).commands(change) == [("HSET", b"h:1", "id", "1", "a", "x", "twice", "xx")]
    assert Writer(table, double).commands(Change("s.t", "delete", None, {"id": "1"}, True)) == []
    with pytest.raises(Malformed):
        Writer(table, double).commands(Change("s.t", "update", {"id": "1", "a": "x"}, {"id": "1"}))


def writer(*writes: Write) -> Writer:
    table = Table(table="s.t", delivery="direct", columns=COLUMNS, write=list(writes))
    assert declaration_problems(msgspec.to_builtins(table)) == []
    return Writer(table)


class Model(dict[Any, Any]):
    """The commands that the shapes use, as Redis executes them."""

    def apply(self, commands: list[tuple[Any, ...]]) -> None:
        for name, key, *rest in commands:
            getattr(self, name.lower())(key, *rest)
            if key in self and self[key] in ({}, set()):
                del self[key]

    def set(self, key: bytes, value: bytes) -> None:
        self[key] = value

    def hset(self, key: bytes, *pairs: Any) -> None:
        self.setdefault(key, {}).update(zip(pairs[::2], pairs[1::2]))

    def hdel(self, key: bytes, *fields: Any) -> None:
        for field in fields:
            self.get(key, {}).pop(field, None)

    def sadd(self, key: bytes, member: bytes) -> None:
        self.setdefault(key, set()).add(member)

    def srem(self, key: bytes, member: bytes) -> None:
        self.get(key, set()).discard(member)

    def zadd(self, key: bytes, score: bytes, member: bytes) -> None:
        self.setdefault(key, {})[member] = float(score)

    def zrem(self, key: bytes, member: bytes) -> None:
        self.get(key, {}).pop(member, None)

    # Last, so that the methods above mean the built-in names.
    def __getattribute__(self, name: str) -> Any:
        return (lambda key: self.pop(key, None)) if name == "del" else super().__getattribute__(name)


@given(st.lists(rows, min_size=1, max_size=6))
def test_the_last_state_is_all_that_is_left_of_a_rows_history_and_nothing_after_its_delete(
    history: list[Row],
) -> None:
    made = writer(*SHAPES)
    lived, fresh = Model(), Model()
    lived.apply(made.commands(Change("s.t", "insert", history[0], None)))
    for old, new in zip(history, history[1:]):
        lived.apply(made.commands(Change("s.t", "update", new, old)))
    fresh.apply(made.commands(Change("s.t", "insert", history[-1], None)))
    assert lived == fresh
    lived.apply(made.commands(Change("s.t", "delete", None, history[-1])))
    assert lived == {}


@given(rows)
def test_writing_a_change_twice_is_the_same_as_writing_it_once(row: Row) -> None:
    made = writer(*SHAPES)
    model = Model()
    commands = made.commands(Change("s.t", "insert", row, None))
    model.apply(commands)
    once = repr(sorted(model.items()))
    model.apply(commands)
    assert repr(sorted(model.items())) == once


def test_values_are_written_with_their_text() -> None:
    row: Row = {"id": Number("18446744073709551615"), "a": Number("1.50"), "b": b"\x00\xff"}
    assert writer(SHAPES[0]).commands(Change("s.t", "insert", row, None)) == [
        ("HSET", b"h:18446744073709551615", "id", "18446744073709551615", "a", "1.50", "b", b"\x00\xff")
    ]


def test_a_document_has_bare_numbers_embedded_json_and_base64() -> None:
    row: Row = {"id": Number("1.50"), "a": Json('{"x": [1]}'), "b": b"\x00\xff"}
    ((_, _, text),) = writer(SHAPES[2]).commands(Change("s.t", "insert", row, None))
    assert text == b'{"id":1.50,"a":{"x": [1]},"b":"AP8="}'
    assert json.loads(text)["a"] == {"x": [1]}


def test_a_null_in_a_key_skips_the_write_and_removes_what_was_there() -> None:
    made = writer(SHAPES[5])
    assert made.commands(Change("s.t", "insert", {"id": Number(1), "a": None, "b": None}, None)) == []
    old: Row = {"id": Number(1), "a": "x", "b": None}
    assert made.commands(Change("s.t", "update", {"id": Number(1), "a": None, "b": None}, old)) == [
        ("SREM", b"set:x", b"1")
    ]


def test_a_delete_under_the_articles_mapping_needs_no_old_values() -> None:
    made = writer(Write(type="string", key="{column}"))
    assert made.commands(Change("s.t", "delete", None, None)) == [
        ("DEL", b"id"),
        ("DEL", b"a"),
        ("DEL", b"b"),
    ]


def test_a_missing_column_is_malformed() -> None:
    with pytest.raises(Malformed, match="'b' is missing"):
        writer(SHAPES[0]).commands(Change("s.t", "insert", {"id": Number(1), "a": None}, None))


def test_a_write_that_former_triggers_do_not_know_leaves_the_others_alone() -> None:
    """A write is added while changes wait whose declaration is unknown."""
    writes = [
        Write(type="hash", key="h:{id}"),
        Write(type="set", key="set:{a}", member="{id}"),
        Write(type="zset", key="z", member="{id}", score="{b}"),
    ]
    made = FormerWriter(Table(table="s.t", columns=COLUMNS, write=writes))
    one = {"id": Number(1), "a": "x"}
    assert made.commands(Change("s.t", "insert", one, None)) == [
        ("HSET", b"h:1", "id", "1", "a", "x"),
        ("SADD", b"set:x", b"1"),
    ]
    # Its next change would not have the old value either.
    assert made.commands(Change("s.t", "update", one, {"id": Number(1)})) == [
        ("HSET", b"h:1", "id", "1", "a", "x")
    ]
    assert made.commands(Change("s.t", "delete", None, {"id": Number(1), "b": Number(2)})) == [
        ("DEL", b"h:1"),
        ("ZREM", b"z", b"1"),
    ]
    for row in ({}, {"a": "x"}, {"other": "x"}):
        with pytest.raises(Malformed, match="'id' is missing"):
            made.commands(Change("s.t", "insert", row, None))


def test_the_articles_mapping_writes_every_member_under_its_name() -> None:
    assert article_commands(Change(None, "update", {"name": "hello", "gone": None}, None)) == [
        ("SET", "name", "hello"),
        ("DEL", "gone"),
    ]


# Coalescing, against doing one change after the other


class Log(Model):
    """Redis with lists and streams, and with the keys that have a time to live."""

    def rpush(self, key: bytes, value: bytes) -> None:
        self.setdefault(key, []).append(value)

    def lrem(self, key: bytes, _count: int, value: bytes) -> None:
        if value in self.get(key, []):
            self[key].remove(value)

    def xadd(self, key: bytes, _star: str, *fields: Any) -> None:
        self.setdefault(key, []).append(fields)

    def set(self, key: bytes, value: bytes, *ttl: Any) -> None:
        self[key] = (value, ttl)

    def expire(self, key: bytes, seconds: int) -> None:
        if key in self:
            self[b"ttl of " + key] = seconds

    def apply(self, commands: list[tuple[Any, ...]]) -> None:
        super().apply(commands)
        for name in [name for name in self if name.startswith(b"ttl of ") and name[7:] not in self]:
            del self[name]
        for key in [key for key, value in self.items() if value == []]:
            del self[key]


@given(histories(), st.integers(0, 12))
def test_coalescing_ends_where_doing_everything_ends(history: list[tuple[str, Change]], cut: int) -> None:
    every, last = Log(), Log()
    steps = steps_of(history)
    batches = steps[: cut * 3], steps[cut * 3 :]
    for batch in batches:
        kept = coalesce(batch)
        assert [step for step in kept if step.kind == APPEND] == [
            step for step in batch if step.kind == APPEND
        ]
        every.apply([command for step in batch for command in step.commands])
        last.apply([command for step in kept for command in step.commands])
        assert last == every


def test_of_a_place_only_the_last_state_is_left() -> None:
    made = Writer(Table(table="s.t", delivery="durable", columns=COLUMNS, write=[SHAPES[0], SHAPES[5]]))
    history: list[Row] = [{"id": Number(1), "a": f"v{number}", "b": None} for number in range(100)]
    steps = made.steps(Change("s.t", "insert", history[0], None))
    for old, new in zip(history, history[1:]):
        steps += made.steps(Change("s.t", "update", new, old))
    kept = [command for step in coalesce(steps) for command in step.commands]
    assert len([command for command in kept if command[0] == "HSET"]) == 1
    assert len([command for command in kept if command[0] == "SADD"]) == 1
    assert len([command for command in kept if command[0] == "SREM"]) == 99


def test_columns_that_a_former_trigger_did_not_send_are_left_out() -> None:
    made = FormerWriter(Table(table="s.t", columns=COLUMNS, write=SHAPES[:3]))
    hashed, other, text = made.steps(Change("s.t", "insert", {"id": 1, "a": "x"}, None))
    assert hashed.commands == [("HSET", b"h:1", "id", 1, "a", "x")]
    assert other.commands[0][1] == b"ha:x:1"
    assert text.commands == [("SET", b"j:1", b'{"id":1,"a":"x"}')]


def test_a_row_that_is_loaded_again_adds_nothing_to_a_log() -> None:
    made = writer(
        Write(type="hash", key="h:{id}"),
        Write(type="list", key="l:{id}", value="{a}"),
        Write(type="stream", key="x"),
    )
    assert made.commands(Change("s.t", "refresh", {"id": 1, "a": "x", "b": None}, None)) == [
        ("HSET", b"h:1", "id", 1, "a", "x"),
        ("HDEL", b"h:1", "b"),
    ]
