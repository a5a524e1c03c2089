# SPDX-License-Identifier: GPL-3.0-or-later
"""What Redis should hold for a row, against a model of Redis to which the writes' own commands were
applied.
"""

from __future__ import annotations

from typing import Any, Optional

import pytest
from gearsync.declare.declaration import Table, Write
from gearsync.project.commands import Writer
from gearsync.project.expectation import ABSENT, MISSING, STALE, WRONG_TYPE, Expectation, difference
from gearsync.project.payload import Change
from gearsync.shapes.json import Document
from gearsync.shapes.rendering import Pattern
from gearsync.shapes.shape import Probe
from gearsync.values import Malformed, Row
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = ["id", "a", "b"]
TABLE = Table(
    table="s.t",
    columns=COLUMNS,
    write=[
        Write(type="hash", key="h:{id}"),
        Write(type="json", key="j:{id}"),
        Write(type="string", key="s:{id}:{column}"),
        Write(type="string", key="v:{id}", value="{a}-{b}"),
        Write(type="set", key="set:{a}", member="{id}"),
        Write(type="zset", key="z:{a}", member="{id}", score="{id}"),
        Write(type="stream", key="log:{id}"),
    ],
)
VALUES = st.one_of(st.none(), st.text(max_size=5), st.binary(max_size=4), st.integers(0, 9))
ROWS = st.fixed_dictionaries({"id": st.integers(0, 99), "a": VALUES, "b": VALUES})


class Model(dict[Any, Any]):
    """Redis as far as these shapes need it; keys and values are bytes."""

    def apply(self, row: Row) -> None:
        for command in Writer(TABLE).commands(Change("s.t", "insert", row, None)):
            name, key, *rest = (part if isinstance(part, (bytes, str)) else b"%d" % part for part in command)
            rest = [part.encode() if isinstance(part, str) else part for part in rest]
            if name == "SET":
                self[key] = rest[0]
            elif name == "DEL":
                self.pop(key, None)
            elif name == "HSET":
                self.setdefault(key, {}).update(zip(rest[::2], rest[1::2]))
            elif name == "HDEL":
                for field in rest:
                    self.get(key, {}).pop(field, None)
            elif name == "SADD":
                self.setdefault(key, set()).add(rest[0])
            elif name == "ZADD":
                self.setdefault(key, {})[rest[1]] = rest[0]
            elif name == "ZREM":
                self.get(key, {}).pop(rest[0], None)

    def answer(self, probe: Probe) -> Any:
        name, key, *rest = probe.command
        rest = [part.encode() if isinstance(part, str) else part for part in rest]
        found = self.get(key)
        if name == "GET":
            return found
        if name == "HMGET":
            return [(found or {}).get(field) for field in rest]
        if name == "SISMEMBER":
            return int(rest[0] in (found or ()))
        return (found or {}).get(rest[0])


def differences(row: Row, model: Model) -> list[Optional[str]]:
    return [
        difference(probe, model.answer(probe), expires=False)
        for probe in Expectation(TABLE, ["id"]).probes(row)
    ]


@given(ROWS)
def test_what_the_worker_writes_is_what_is_expected(row: Row) -> None:
    model = Model()
    model.apply(row)
    assert set(differences(row, model)) <= {None}


@given(ROWS, st.integers(0, 9))
def test_another_value_of_a_column_is_seen(row: Row, value: int) -> None:
    model = Model()
    model.apply({**row, "b": f"other {value}"})
    assert STALE in differences({**row, "b": None}, model)
    assert MISSING in differences({**row, "b": "b"}, Model())


@given(ROWS)
def test_a_key_leads_back_to_its_row(row: Row) -> None:
    expectation = Expectation(TABLE, ["id"])
    for probe in expectation.probes(row):
        if probe.expected is None:
            continue
        assert probe.write in expectation.claims(probe.key)
        rows = list(expectation.rows(probe.write, probe.key, probe.member))
        assert str(row["id"]) in [found["id"] for found in rows]
        assert expectation.holds(probe.write, row, probe.key, probe.member)
        assert not expectation.holds(probe.write, {**row, "id": 100}, probe.key, probe.member)


def test_writes_that_tell_nothing_about_a_row_are_named() -> None:
    assert Expectation(TABLE, ["id"]).unverifiable == ["write[6] (stream log:{id})"]
    assert len(Expectation(TABLE, []).unverifiable) == len(TABLE.write)


@given(st.lists(st.text(alphabet="a:b", max_size=4), min_size=2, max_size=2))
def test_an_ambiguous_key_is_taken_apart_in_every_way(values: list[str]) -> None:
    key = f"k:{values[0]}:{values[1]}".encode()
    assert {"x": values[0].encode(), "y": values[1].encode()} in list(Pattern("k:{x}:{y}").parses(key))


@pytest.mark.parametrize(
    ("template", "key"),
    [("u:{id}", b"v:1"), ("u:{id}:x", b"u:1"), ("u:{id}:{id}", b"u:1:2"), ("u:{id}", b"u")],
)
def test_a_key_of_another_form_is_none_of_ours(template: str, key: bytes) -> None:
    assert list(Pattern(template).parses(key)) == []


@pytest.mark.parametrize(
    ("there", "wanted", "same"),
    [
        (b'{"a": 1}', b'{"a":1}', True),
        (b'{"b":2,"a":1}', b'{"a":1,"b":2}', True),
        (b'{"a":true}', b'{"a":1}', False),
        (b'{"a":"1"}', b'{"a":1}', False),
        (b'{"a":123456789012345678901234567891}', b'{"a":123456789012345678901234567890}', False),
        (b'{"a":1.50}', b'{"a":1.5}', False),
        (b'{"a":[1,null]}', b'{"a":[1,false]}', False),
        (b'{"a":1', b'{"a":1}', False),
    ],
)
def test_documents_are_compared_exactly(there: bytes, wanted: bytes, same: bool) -> None:
    document = Document(0, Write(type="json", key="k"), COLUMNS)
    assert (
        difference(Probe(document, b"k", None, ("GET", b"k"), wanted), there, expires=False) is None
    ) == same


def test_a_refusal_does_not_show_the_key() -> None:
    (probe, *_rest) = Expectation(TABLE, ["id"]).probes({"id": 1, "a": "x", "b": "y"})
    with pytest.raises(RuntimeError):
        difference(probe, RuntimeError("NOPERM this user has no permissions"), expires=False)


def test_a_key_without_an_end_where_one_is_declared_is_stale() -> None:
    (probe, *_rest) = Expectation(TABLE, ["id"]).probes({"id": 1, "a": "x", "b": "y"})
    assert difference(probe, [b"1", b"x", b"y"], expires=True, seconds=-1) == STALE
    assert difference(probe, [b"1", b"x", b"y"], expires=True, seconds=9) is None


@pytest.mark.parametrize("score", ["x", "nan", ""])
def test_a_score_that_is_no_number_is_named(score: str) -> None:
    table = Table(
        table="s.t", columns=["id", "a"], write=[Write(type="zset", key="z", member="{id}", score="{a}")]
    )
    with pytest.raises(Malformed, match=r"score of write\[0\]"):
        Expectation(table, ["id"]).probes({"id": 1, "a": score})


def test_writes_whose_rows_cannot_be_asked_for_still_hold_their_keys() -> None:
    direct = Expectation(TABLE, [])
    assert direct.claims(b"h:1") == []
    assert direct.may_hold(b"h:1", b"hash")
    assert not direct.may_hold(b"h:1", b"string")
    assert direct.may_hold(b"s:1:a", b"string")
    assert not direct.may_hold(b"s:1:other", b"string")


def test_a_wrong_type_differs_from_a_wrong_value() -> None:
    (probe, *_rest) = Expectation(TABLE, ["id"]).probes({"id": 1, "a": "x", "b": "y"})
    assert difference(probe, Exception("WRONGTYPE Operation against a key"), expires=False) == WRONG_TYPE
    assert difference(probe, [None, None, None], expires=True) == ABSENT
    assert difference(probe, [b"1", b"x", b"z"], expires=True) == STALE
