# SPDX-License-Identifier: GPL-2.0-or-later
"""lib_mysqludf_json: its output is JSON (RFC 8259) for every input, and has the same meaning."""

from __future__ import annotations

import base64
import json
import math
import struct
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sanitized import Driver, Refused, RowError, Value

CASES = settings(
    max_examples=2000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)
FEWER = settings(CASES, max_examples=500)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text(
    st.sampled_from('\0\x01\x1f\x7f"\\/\b\f\n\r\té€😀'), max_size=20
)
decimals = st.decimals(
    allow_nan=False, allow_infinity=False, places=10, min_value=-(10**30), max_value=10**30
)
scalars = (
    st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text
    | decimals
)


def argument(value: object, name: str = "") -> Value:
    if isinstance(value, Decimal):
        return Value(f"{value:f}", kind="D", name=name)
    if isinstance(value, str):
        return Value(value.encode(), name=name)
    return Value(value, name=name)


def load(answer: bytes | None) -> object:
    """Strict: no NaN, and decimal numbers unchanged."""

    def no_constant(name: str) -> object:
        raise AssertionError(f"{name} is not JSON")

    assert answer is not None
    return json.loads(answer.decode(), parse_constant=no_constant, parse_float=Decimal)


def same(written: object, value: object) -> bool:
    if value is None or isinstance(value, str):
        return written == value and type(written) is type(value)
    if isinstance(value, float):
        return float(str(written)) == value
    if isinstance(value, Decimal):
        return Decimal(str(written)) == value
    return written == value and isinstance(written, int)


@CASES
@given(st.lists(scalars, max_size=8))
def test_array_has_the_values_of_its_arguments(json_driver: Driver, values: list[object]) -> None:
    written = load(json_driver.call("udf_json_array", *map(argument, values)))
    assert isinstance(written, list)
    assert len(written) == len(values)
    assert all(same(w, v) for w, v in zip(written, values)), (written, values)


@FEWER
@given(st.dictionaries(text, scalars, max_size=6))
def test_members_and_object(json_driver: Driver, members: dict[str, object]) -> None:
    flat = [item for name, value in members.items() for item in (argument(name), argument(value))]
    inner = json_driver.call("json_members", *flat)
    assert inner is not None
    plain = load(b"{" + inner + b"}")
    spliced = load(
        json_driver.call("udf_json_object", Value(inner, name="json_members(a, b)"), Value(7, name="last"))
    )
    assert isinstance(plain, dict)
    assert isinstance(spliced, dict)
    assert plain.keys() == members.keys()
    assert all(same(plain[name], value) for name, value in members.items())
    assert spliced == {**plain, "last": 7}


@FEWER
@given(st.binary(max_size=80))
def test_any_bytes_are_replaced_as_python_does(json_driver: Driver, data: bytes) -> None:
    assert load(json_driver.call("json_values", Value(data, kind="S"))) == data.decode(
        "utf-8", errors="replace"
    )


@FEWER
@given(st.binary(max_size=80))
def test_base64(json_driver: Driver, data: bytes) -> None:
    written = load(json_driver.call("udf_json_object", Value(data, kind="S", name="base64_photo")))
    assert written == {"base64_photo": base64.b64encode(data).decode()}


@FEWER
@given(
    st.binary(max_size=40)
    | st.text(st.sampled_from('{}[]",:0123456789.eE+-truefalsn \\u\n'), max_size=24).map(str.encode)
)
def test_raw_json_only_when_it_is_json(json_driver: Driver, data: bytes) -> None:
    try:
        expected = load(data)
    except (ValueError, AssertionError):
        expected = data.decode("utf-8", errors="replace")
    assert load(json_driver.call("udf_json_array", Value(data, kind="S", name="json_column"))) == [expected]


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=20,
)


@FEWER
@given(nested, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_nested_json_is_embedded_unchanged(
    json_driver: Driver, value: object, ascii_only: bool, indent: int | str | None
) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert json_driver.call("udf_json_array", Value(data, name="udf_json_object(x)")) == b"[" + data + b"]"


@FEWER
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_float_column_has_the_digits_of_a_float(json_driver: Driver, value: float) -> None:
    answer = json_driver.call("json_values", Value(value, kind="R", width=12))
    assert answer is not None
    assert struct.pack("f", float(answer)) == struct.pack("f", value)
    assert len(answer.decode().lstrip("-").replace(".", "").split("e")[0].strip("0")) <= 12


@FEWER
@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=2, min_value=-(10**10) + 1, max_value=10**10 - 1
    )
)
def test_double_of_the_width_of_a_float_keeps_its_digits(json_driver: Driver, value: Decimal) -> None:
    """A DOUBLE(12,2)."""
    answer = json_driver.call("json_values", Value(float(value), kind="R", width=12))
    assert answer is not None
    assert Decimal(answer.decode()) == value


@FEWER
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_double_has_no_digit_too_many(json_driver: Driver, value: float) -> None:
    answer = json_driver.call("json_values", value)
    assert answer is not None
    assert float(answer) == value
    digits = len(answer.decode().lstrip("-").replace(".", "").split("e")[0].strip("0"))
    assert digits <= len(repr(value).lstrip("-").replace(".", "").split("e")[0].strip("0"))


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Value(18446744073709551615), b"18446744073709551615"),
        (Value(-9223372036854775808), b"-9223372036854775808"),
        (Value(18446744073709551615, kind="B", width=64), b"18446744073709551615"),
        (Value(0x31, kind="B", width=8), b"49"),
        (Value(0x0F3132, kind="B", width=20), b"995634"),
        (Value(1, kind="B", width=1), b"1"),
        (Value(b"00000042", kind="I", width=20), b"42"),
        (Value(-7, width=4), b"-7"),
        (Value(b"0007.50", kind="D"), b"7.50"),
        (Value(b".5", kind="D"), b"0.5"),
        (Value(b"-12345678901234567890.1234567891", kind="D"), b"-12345678901234567890.1234567891"),
        (Value(0.1), b"0.1"),
        (Value(1e300), b"1e+300"),
        (Value(-0.0), b"-0.0"),
        (Value(5e-324), b"5e-324"),
        (Value(2.0**-24), b"5.960464477539063e-08"),
        (Value(-(2.0**-24)), b"-5.960464477539063e-08"),
        (Value(9007199254740993.0), b"9007199254740992"),
        (Value(math.pi), b"3.141592653589793"),
        (Value(1.100000023841858, kind="R", width=12), b"1.1"),
        (Value(1.100000023841858, kind="R", width=10), b"1.1"),  # FLOAT(10,2)
        (Value(1.100000023841858, kind="R", width=22), b"1.100000023841858"),
        # DOUBLE(12,2), a FLOAT as well
        (Value(1234567.25, kind="R", width=12), b"1234567.25"),
        (Value(2097152.125, kind="R", width=12), b"2097152.125"),
        (Value(1234567936.0, kind="R", width=12), b"1234567936"),
        (Value(-0.25, kind="R", width=5), b"-0.25"),
        (Value(1234567890.12, kind="R", width=12), b"1234567890.12"),
        (Value(struct.unpack("f", struct.pack("f", 1.1e20))[0], kind="R", width=12), b"1.1e+20"),
        (Value(1e20, kind="R", width=12), b"1e+20"),
        (Value(-5, width=64), b"-5"),  # INT(64)
        (Value(12345678, width=64), b"12345678"),
        (Value(-1234567, width=64), b"-1234567"),
        (Value(b"0" * 56 + b"00000042", kind="I", width=64), b"42"),
        (Value(0x3031323334353637, kind="B", width=64), b"3472611983179986487"),
        (Value(b"nan", kind="R"), b"null"),
        (Value(b"inf", kind="R"), b"null"),
        (Value(None, kind="I"), b"null"),
        (Value(None, kind="R"), b"null"),
        (Value(None, kind="D"), b"null"),
        (Value(None), b"null"),
        (Value(b"2020-01-02 03:04:05.678"), b'"2020-01-02 03:04:05.678"'),
        (Value(b'\x00\x1f\x7f"\\/\t'), b'"\\u0000\\u001f\x7f\\"\\\\/\\t"'),
        (Value(b"a\xf0\x9f\x98\x80\xed\xa0\x80\xc0\xaf"), '"a😀\ufffd\ufffd\ufffd\ufffd\ufffd"'.encode()),
        (Value(b""), b'""'),
    ],
)
def test_values(json_driver: Driver, value: Value, written: bytes) -> None:
    assert json_driver.call("json_values", value) == written


@pytest.mark.parametrize(
    ("attribute", "name"),
    [
        ("name", "name"),
        ("t.name", "name"),
        ("NEW.name", "name"),
        ("test.t.name", "name"),
        ("`name`", "name"),
        ("`t`.`full name`", "full name"),
        ("`t`.name", "name"),
        ("größe", "größe"),
        ("full name", "full name"),
        ("price-cost", "price-cost"),
        ("a.b c", "a.b c"),
        ("1", "1"),
        ("1.5", "5"),  # it looks like a qualified name
        ("json_data", "json_data"),
        ("x" * 300, "x" * 300),
    ],
)
def test_member_names(json_driver: Driver, attribute: str, name: str) -> None:
    assert load(json_driver.call("udf_json_object", Value(5, name=attribute))) == {name: 5}


@pytest.mark.parametrize(
    "attribute",
    [
        "",
        "now()",
        "concat('a', b)",
        "'x'",
        'say "x"',
        "a`b",
        "a\nb",
        b"\xff",
        "``",
        "json_array(1, 2)",
        "udf_json_array(1)",
    ],
)
def test_unusable_member_name_is_an_error(json_driver: Driver, attribute: str | bytes) -> None:
    with pytest.raises(Refused, match=r"^udf_json_object: invalid member name '.*': .*(alias|UTF-8|control)"):
        json_driver.call("udf_json_object", Value(1, name="ok"), Value(5, name=attribute))


def test_prefixes_of_alias_or_expression(json_driver: Driver) -> None:
    raw = b'{"a": [1, 2]}'
    call = json_driver.call
    assert call("udf_json_object", Value(raw, name="json_doc")) == b'{"json_doc":{"a": [1, 2]}}'
    assert call("udf_json_object", Value(raw, name="t.json_doc")) == b'{"json_doc":{"a": [1, 2]}}'
    assert call("udf_json_object", Value(raw, name="doc")) == b'{"doc":"{\\"a\\": [1, 2]}"}'
    assert (
        call(
            "udf_json_array", Value(raw, name="JSON_OBJECT('a', x)"), Value(b"1,2", name="json_values(1, 2)")
        )
        == b'[{"a": [1, 2]},"1,2"]'
    )
    assert call("udf_json_object", Value(b"{oops", name="json_doc")) == b'{"json_doc":"{oops"}'
    assert call("udf_json_object", Value(None, name="json_doc")) == b'{"json_doc":null}'


def test_members_are_spliced_only_when_they_are_members(json_driver: Driver) -> None:
    call = json_driver.call
    assert call("udf_json_object", Value(b"", name="json_members()"), Value(1, name="a")) == b'{"a":1}'
    assert call("udf_json_object", Value(1, name="a"), Value(b" ", name="json_members()")) == b'{"a":1}'
    assert (
        call("udf_json_object", Value(b'"a":1,"b":{"c":[]}', name="udf_json_members(1)"))
        == b'{"a":1,"b":{"c":[]}}'
    )
    assert (
        call("udf_json_object", Value(b'"a":1}, "x":{', name="json_members(1)"))
        == b'{"json_members":"\\"a\\":1}, \\"x\\":{"}'
    )
    assert (
        call("udf_json_object", Value(b'"a":1,', name="json_members_x")) == b'{"json_members_x":"\\"a\\":1,"}'
    )
    assert call("udf_json_object", Value(None, name="json_members(1)")) == b'{"json_members":null}'
    assert call("udf_json_array", Value(b'"a":1', name="json_members(1)")) == b'["\\"a\\":1"]'


def test_empty(json_driver: Driver) -> None:
    assert [
        json_driver.call(f"{prefix}{name}")
        for prefix in ("", "udf_")
        for name in ("json_object", "json_array", "json_members", "json_values")
    ] == [
        b"{}",
        b"[]",
        b"",
        b"",
        b"{}",
        b"[]",
        b"",
        b"",
    ]


def test_members_need_names(json_driver: Driver) -> None:
    with pytest.raises(Refused, match=r"json_members takes \(name, value, \.\.\.\)"):
        json_driver.call("json_members", "a")
    with pytest.raises(RowError):
        json_driver.call("json_members", None, 1)
    assert json_driver.call("json_members", 5, 1) == b'"5":1'


def test_deep_nesting_ends_at_its_limit(json_driver: Driver) -> None:
    deep = b"[" * 1000 + b"]" * 1000
    assert json_driver.call("json_values", Value(deep, name="json_x")) == deep
    too_deep = b"[" * 1001 + b"1" + b"]" * 1001
    assert json_driver.call("json_values", Value(too_deep, name="json_x")) == b'"' + too_deep + b'"'


def test_large_result_and_many_rows(json_driver: Driver) -> None:
    nulls, answer = json_driver.rows(5, "udf_json_array", Value(b"\n" * 3_000_000), Value(b"x" * 1_000_000))
    assert nulls == 0
    assert answer == b'["' + b"\\n" * 3_000_000 + b'","' + b"x" * 1_000_000 + b'"]'
    assert json_driver.rows(5, "udf_json_array", 1) == (0, b"[1]")


def test_info(json_driver: Driver) -> None:
    assert json_driver.call("lib_mysqludf_json_info") == b"lib_mysqludf_json version 1.0.0"
    with pytest.raises(Refused, match="takes no arguments"):
        json_driver.call("lib_mysqludf_json_info", 1)
