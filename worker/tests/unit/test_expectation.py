"""What Redis should hold for a row, against a model of Redis to which the writes' own commands were applied."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from gearsync.change import Change, Row
from gearsync.commands import Writer
from gearsync.declaration import Table, Write
from gearsync.expectation import MISSING, STALE, WRONG_TYPE, Expectation, Pattern, Probe, difference
from hypothesis import given
from hypothesis import strategies as st

COLUMNS = ["id", "a", "b"]
TABLE = Table(table="s.t", columns=COLUMNS, write=[
    Write(type="hash", key="h:{id}"),
    Write(type="json", key="j:{id}"),
    Write(type="string", key="s:{id}:{column}"),
    Write(type="string", key="v:{id}", value="{a}-{b}"),
    Write(type="set", key="set:{a}", member="{id}"),
    Write(type="zset", key="z:{a}", member="{id}", score="{id}"),
    Write(type="stream", key="log:{id}"),
])
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
    return [difference(probe, model.answer(probe), expires=False) for probe in Expectation(TABLE, ["id"]).probes(row)]


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
    assert Expectation(TABLE, ["id"]).unverifiable == ["write 7 (stream log:{id})"]
    assert len(Expectation(TABLE, []).unverifiable) == len(TABLE.write)


@given(st.lists(st.text(alphabet="a:b", max_size=4), min_size=2, max_size=2))
def test_an_ambiguous_key_is_taken_apart_in_every_way(values: list[str]) -> None:
    key = f"k:{values[0]}:{values[1]}".encode()
    assert {"x": values[0].encode(), "y": values[1].encode()} in list(Pattern("k:{x}:{y}").parses(key))


@pytest.mark.parametrize(("template", "key"), [("u:{id}", b"v:1"), ("u:{id}:x", b"u:1"), ("u:{id}:{id}", b"u:1:2"), ("u:{id}", b"u")])
def test_a_key_of_another_form_is_none_of_ours(template: str, key: bytes) -> None:
    assert list(Pattern(template).parses(key)) == []


def test_a_wrong_type_is_told_from_a_wrong_value() -> None:
    (probe, *_rest) = Expectation(TABLE, ["id"]).probes({"id": 1, "a": "x", "b": "y"})
    assert difference(probe, Exception("WRONGTYPE Operation against a key"), expires=False) == WRONG_TYPE
    assert difference(probe, [None, None, None], expires=True) is None
    assert difference(probe, [b"1", b"x", b"z"], expires=True) == STALE
