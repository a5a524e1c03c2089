# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes by the numbers of their declarations: what their payloads contain, and by which declaration
they are applied.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any, Optional

import msgspec
import pytest
from gearsync.declare.declaration import Table, Write
from gearsync.outbox.declarations import Declared, needs_later_transform, number_of, table_under
from gearsync.project.commands import Writer, reload_steps
from gearsync.project.payload import Change, Layout, decode_change
from gearsync.values import Json, Malformed, Number, Row, Value
from hypothesis import given
from hypothesis import strategies as st

#: What sync_table stores; tests/unit/plugins/test_outbox.py has the same text.
CONTENT = (
    '{"columns":[["id","integer"],["mail","text"],["body","binary"]],"computed":["slug"],"deleted":["id","mail","body"],'
    '"key":[{"declared":"id","kind":"integer","real":"id"}],"large_columns":[{"declared":"body","kind":"binary","sql":"b"}],"old":["id","mail"],'
    '"small_sql":"s","source_schema":"s","source_table":"t","transform":"a.b:c",'
    '"write":[{"key":"k:{id}","ttl":60,"type":"hash"},{"key":"log","type":"stream"}]}'
)

KINDS = ("integer", "decimal", "float", "bit", "text", "timestamp", "binary", "json")


def declared(**changes: Any) -> Declared:
    return msgspec.convert({**json.loads(CONTENT), **changes}, Declared)


def of_kind(kind: str) -> st.SearchStrategy[tuple[Any, Value]]:
    """The form of a column's value in a payload, and the value."""
    integers = st.integers(-(2**63), 2**64 - 1).map(lambda number: (number, number))
    decimals = st.decimals(allow_nan=False, allow_infinity=False, places=3).map(
        lambda number: (msgspec.Raw(f"{number:f}".encode()), Number(f"{number:f}"))
    )
    texts = st.text(st.characters(exclude_categories=["Cs"]))
    strategies: st.SearchStrategy[tuple[Any, Value]] = {
        "integer": integers,
        "bit": integers,
        "decimal": decimals,
        "float": st.floats(allow_nan=False).map(lambda number: (repr(number), Number(repr(number)))),
        "binary": st.binary().map(lambda value: (value.hex().upper(), value)),
        "json": texts.map(lambda text: (text, Json(text))),
    }.get(kind, texts.map(lambda text: (text, text)))
    return st.one_of(st.just((None, None)), strategies)


@st.composite
def payloads(draw: st.DrawFn) -> tuple[Layout, str, bytes, Optional[Row], Optional[Row]]:
    kinds = {
        f"c{number}": kind
        for number, kind in enumerate(draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=6)))
    }
    parts = st.lists(st.sampled_from(list(kinds)), unique=True)
    old, deleted, key = draw(parts), draw(parts), draw(parts)
    operation = draw(st.sampled_from(["insert", "update", "delete", "refresh", "reload"]))
    news = {"delete": [], "reload": key}.get(operation, list(kinds))
    olds = {"update": old, "delete": deleted, "reload": draw(st.sampled_from([[], old]))}.get(operation, [])
    values = [draw(of_kind(kinds[name])) for name in [*news, *olds]]
    payload = msgspec.json.encode([draw(st.integers(1, 2**32 - 1)), *(value for value, _typed in values)])
    typed = [value for _value, value in values]
    new = None if operation == "delete" else dict(zip(news, typed))
    return (
        Layout(kinds, old, deleted, key),
        operation,
        payload,
        new,
        dict(zip(olds, typed[len(news) :])) if olds or operation == "delete" else None,
    )


@given(payloads())
def test_values_are_those_of_the_columns_at_their_places(
    case: tuple[Layout, str, bytes, Optional[Row], Optional[Row]],
) -> None:
    layout, operation, payload, new, old = case
    change = decode_change(layout, "s.t", operation, payload)
    assert change == Change("s.t", operation, new, old)
    for name, value in (new or {}).items():
        decoded = (change.new or {})[name]
        assert type(decoded) is type(value) or isinstance(decoded, (int, Number))
    assert number_of(payload) == json.loads(payload)[0]


LAYOUT = Layout({"id": "integer", "body": "binary"}, ["id"], ["id"], ["id"])


@pytest.mark.parametrize(
    ("operation", "payload"),
    [
        ("insert", b"[1,2"),
        ("insert", b"[1,2]"),
        ("insert", b'[1,2,"00",3]'),
        ("insert", b'[1,2,"0"]'),
        ("insert", b"[1,2,7]"),
        ("insert", b"[1,2,[]]"),
        ("update", b"[1,2,null]"),
        ("delete", b"[1]"),
        ("reload", b"[1]"),
        ("drop", b"[1,2]"),
        ("insert", b"[" * 100_000),
        ("insert", b"[\xff]"),
    ],
)
def test_a_payload_of_another_form_is_malformed(operation: str, payload: bytes) -> None:
    with pytest.raises(Malformed):
        decode_change(LAYOUT, "s.t", operation, payload)


@given(st.sampled_from(["insert", "update", "delete", "refresh", "reload", ""]), st.binary(max_size=50))
def test_no_payload_raises_another_error(operation: str, payload: bytes) -> None:
    with contextlib.suppress(Malformed):
        decode_change(LAYOUT, "s.t", operation, b"[" + payload)


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (b"[7, 1]", 7),
        (b"[7]", 7),
        (b'{"declaration":12,"key":{}}', 12),
        (b'{"new": {"id": 1}}', 0),
        (b"[x", 0),
        (b"", 0),
        (b"[1.5]", 1),
        (b"[99999999999]", 0),
    ],
)
def test_a_payload_begins_with_the_number_of_its_declaration(payload: bytes, number: int) -> None:
    assert number_of(payload) == number


def test_the_declarations_that_sync_table_stores_are_decoded() -> None:
    decoded = declared()
    assert decoded.layout().decode("s.t", "insert", b'[1, 7, "x", "00FF"]').new == {
        "id": 7,
        "mail": "x",
        "body": b"\x00\xff",
    }
    assert decoded.write == [Write(type="hash", key="k:{id}", ttl=60), Write(type="stream", key="log")]


PLAIN, SLUG, TITLE = (None, []), ("a:b", ["slug"]), ("a:b", ["slug", "title"])


@pytest.mark.parametrize(
    ("ours", "history", "behind"),
    [
        (PLAIN, [PLAIN], [False]),
        # Declarations that differ in other things are in the database.
        (PLAIN, [PLAIN, PLAIN], [False, False]),
        # No declaration has what the configuration has: it is newer than the triggers.
        (TITLE, [PLAIN, SLUG], [False, False]),
        (SLUG, [PLAIN, SLUG, TITLE], [False, False, True]),
        (PLAIN, [PLAIN, SLUG, PLAIN], [False, False, False]),
        (PLAIN, [PLAIN, SLUG, PLAIN, TITLE], [False, False, False, True]),
        # A table that the configuration does not have needs no code of it, or code that is unknown.
        (None, [PLAIN, SLUG], [False, True]),
    ],
)
def test_only_changes_under_a_later_transform_wait(
    ours: Optional[tuple[Optional[str], list[str]]],
    history: list[tuple[Optional[str], list[str]]],
    behind: list[bool],
) -> None:
    table = ours and Table(
        table="s.t",
        columns=["id"],
        write=[Write(type="hash", key="k:{id}")],
        transform=ours[0],
        computed=ours[1],
    )
    known = {
        number: declared(transform=transform, computed=computed)
        for number, (transform, computed) in enumerate(history, 1)
    }
    assert [needs_later_transform(table, number, known) for number in known] == behind


def test_a_write_that_needs_what_a_later_transform_does_not_compute_is_left_out() -> None:
    writes = [
        {"type": "hash", "key": "k:{id}"},
        {"type": "string", "key": "s:{slug}", "value": "{id}"},
        {"type": "string", "key": "c:{column}"},
    ]
    now = declared(write=writes)
    assert [write.key for write in table_under("s.t", now, None).write] == ["k:{id}", "c:{column}"]
    ours = Table(
        table="s.t",
        columns=["id"],
        write=[Write(type="hash", key="k:{id}")],
        transform="x:y",
        computed=["slug"],
    )
    assert [write.key for write in table_under("s.t", now, ours).write] == [
        "k:{id}",
        "s:{slug}",
        "c:{column}",
    ]
    # Nothing is computed for changes that were made without a transform: their old rows are incomplete.
    without = declared(write=writes[:1], transform=None, computed=[])
    assert table_under("s.t", without, ours) == Table(
        table="s.t", columns=["id", "mail", "body"], write=[Write(type="hash", key="k:{id}")]
    )


def test_a_reload_removes_by_the_former_writes_and_writes_by_those_in_force() -> None:
    def writer(*writes: Write) -> Writer:
        return Writer(Table(table="s.t", columns=["id", "name"], write=list(writes)))

    former = writer(Write(type="hash", key="by-name:{name}"), Write(type="list", key="log", value="{id}"))
    now = writer(Write(type="hash", key="by-id:{id}"), Write(type="set", key="names", member="{name}"))
    row: Row = {"id": 1, "name": "b"}
    written = [
        step.commands for step in reload_steps(Change("s.t", "update", row, {"name": "a"}), former, now)
    ]
    assert written == [
        [("DEL", b"by-name:a")],
        [("HSET", b"by-id:1", "id", 1, "name", "b")],
        [("SADD", b"names", b"b")],
    ]
    gone = Change("s.t", "delete", None, {"id": 1, "name": "a"}, True)
    assert [step.commands for step in reload_steps(gone, former, now)] == [[("DEL", b"by-name:a")]]
    assert reload_steps(gone, now, now)[0].commands == [("DEL", b"by-id:1")]
