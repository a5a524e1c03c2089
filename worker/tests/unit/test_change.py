# SPDX-License-Identifier: GPL-3.0-or-later
"""Payloads: what is understood, and that everything else is refused with a reason."""

from __future__ import annotations

import contextlib
import decimal
import json

import pytest
from gearsync.project.payload import Change, decode, decode_outbox
from gearsync.values import Json, Malformed, Number
from hypothesis import given
from hypothesis import strategies as st


def envelope(**members: object) -> bytes:
    return json.dumps({"$gearsync": 1, "table": "s.t", "event": "insert", "new": {}, **members}).encode()


def test_markers_become_typed_values() -> None:
    new = (
        b'{"t":"x","i":1,"d":1.50,"f":{"$num":"1e300"},"h":{"$hex":"00FF"},"j":{"$json":"[1]"},'
        b'"n":null,"m":{"$hex":null}}'
    )
    change = decode(b'{"$gearsync":1,"table":"s.t","event":"insert","new":' + new + b"}")
    assert change == Change(
        "s.t",
        "insert",
        {"t": "x", "i": "1", "d": "1.50", "f": "1e300", "h": b"\x00\xff", "j": "[1]", "n": None, "m": None},
        None,
    )
    assert change.new is not None
    assert [type(change.new[name]) for name in "tidfj"] == [str, Number, Number, Number, Json]


@given(st.decimals(allow_nan=False, allow_infinity=False).filter(bool))
def test_decimals_keep_every_digit(number: decimal.Decimal) -> None:
    text = f"{number:f}"
    assert decode(b'{"$gearsync":1,"table":"t","event":"insert","new":{"c":' + text.encode() + b"}}").new == {
        "c": text
    }


@given(st.integers())
def test_integers_of_any_size_are_exact(number: int) -> None:
    assert decode(b'{"$gearsync":1,"table":"t","event":"insert","new":{"c":%d}}' % number).new == {
        "c": str(number)
    }


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not JSON"),
        (b"x", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b"[1]", "expected a JSON object"),
        (b"[" * 100_000, "JSON"),
        (envelope(**{"$gearsync": 2}), "supports 1"),
        (envelope(table=7), "no table"),
        (envelope(event="drop"), "'drop'"),
        (envelope(event=[]), "event"),
        (envelope(new=None), "without 'new'"),
        (envelope(new=[1]), "not an object"),
        (envelope(new={"c": [1]}), "'c'"),
        (envelope(new={"c": {"$hex": "0"}}), "hexadecimal"),
        (envelope(new={"c": {"$num": 1}}), "'c'"),
        (b'{"c": {"d": 1}}', "'c'"),
    ],
)
def test_everything_else_is_refused_with_a_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        decode(payload)


@given(st.binary(max_size=200))
def test_no_payload_raises_anything_else(payload: bytes) -> None:
    with contextlib.suppress(Malformed):
        decode(payload)


def test_the_reason_never_shows_a_value() -> None:
    with pytest.raises(Malformed) as caught:
        decode(envelope(new={"password": {"$hex": "secret-value"}}))
    assert "secret-value" not in str(caught.value)


def test_a_payload_of_the_outbox_is_typed_like_a_jobs() -> None:
    payload = (
        b'{"new":{"t":"x","i":18446744073709551616,"d":1.50,"h":{"$hex":"00FF"},"n":null},'
        b'"old":{"j":{"$json":"[1]"}}}'
    )
    change = decode_outbox("s.t", "update", payload)
    assert change == Change(
        "s.t",
        "update",
        {"t": "x", "i": "18446744073709551616", "d": "1.50", "h": b"\x00\xff", "n": None},
        {"j": "[1]"},
    )
    assert decode_outbox("s.t", "insert", b'{"new":{"i":7,"d":1.50}}').new == {"i": 7, "d": "1.50"}
    assert decode_outbox("s.t", "reload", b'{"key":{"i":7},"old":{"a":1}}') == Change(
        "s.t", "reload", {"i": 7}, {"a": 1}
    )


@pytest.mark.parametrize(
    ("operation", "payload"),
    [
        ("insert", b""),
        ("insert", b"[]"),
        ("insert", b'{"new":7}'),
        ("insert", b'{"old":{}}'),
        ("delete", b'{"new":{}}'),
        ("reload", b'{"new":{}}'),
        ("drop", b'{"new":{}}'),
        ("insert", b'{"new":{"a":[1]}}'),
        ("insert", b'{"new":{"a":' + b"[" * 100_000),
    ],
)
def test_no_other_payload_is_taken_from_the_outbox(operation: str, payload: bytes) -> None:
    with pytest.raises(Malformed):
        decode_outbox("s.t", operation, payload)
