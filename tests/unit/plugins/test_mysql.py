# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._functions import (
    calls,
    is_native,
    name_problem,
    soname_problem,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_admin import (
    format_address,
    parse_address,
    parse_function,
    parse_worker,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_job import (
    MAX_UNIQUE,
    fit_unique,
    packet,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._lock_holders import describe_connection
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    TRY_SECONDS,
    Patience,
    literal,
    parse_version,
    quote,
    split_account,
)
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.text(st.characters(exclude_characters="\0"), min_size=1)


@given(NAMES)
def test_quoted_names_read_back(name):
    quoted = quote(name)
    assert quoted[1:-1].replace("``", "`") == name
    # No single backtick inside, so that nothing ends the name before its end.
    assert "`" not in quoted[1:-1].replace("``", "")


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_no_server_takes(name):
    with pytest.raises(ValueError, match="not a name"):
        quote(name)


@given(st.text())
def test_literals_end_where_they_should(text):
    inside = literal(text)[1:-1]
    assert "'" not in inside.replace("\\\\", "").replace("''", "")
    assert (
        inside.replace("''", "'").replace("\\0", "\0").replace("\\\\", "\\") == text
        or "\\0" in text
        or "\0" in text
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a@b", ("a", "b")),
        ("a", ("a", "%")),
        ("'a'@'%'", ("a", "%")),
        ("a@b@c", ("a@b", "c")),
        ("`a`@`::1`", ("a", "::1")),
    ],
)
def test_accounts(text, parts):
    assert split_account(text) == parts


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("10.11.19-MariaDB-0+deb12u1", ("mariadb", (10, 11, 19))),
        ("9.7.4-2", ("mysql", (9, 7, 4))),
        ("8.0.36", ("mysql", (8, 0, 36))),
        ("5.5.5-10.5.23-MariaDB-log", ("mariadb", (10, 5, 23))),
        ("8.4", ("mysql", (8, 4, 0))),
    ],
)
def test_versions(text, version):
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("name", "engine", "version", "native"),
    [
        ("json_object", "mysql", (5, 7, 7), False),
        ("JSON_OBJECT", "mysql", (5, 7, 8), True),
        ("json_array", "mariadb", (10, 2, 2), False),
        ("json_array", "mariadb", (10, 2, 3), True),
        ("json_members", "mysql", (9, 7, 4), False),
    ],
)
def test_native_functions(name, engine, version, native):
    assert is_native(name, engine, version) == native


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("DO gman_do('a')", ["gman_do"]),
        ("DO GMAN_DO ('a')", ["gman_do"]),
        ("DO `gman_do`('a')", ["gman_do"]),
        ("DO gman_do_background('a')", []),
        ("SET NEW.gman_do = 1", []),
        ("DO my_gman_do(1)", []),
        ("DO other.gman_do(1)", []),
    ],
)
def test_calls(body, found):
    assert calls(body, ["gman_do"]) == found


def test_names_of_functions_and_libraries():
    assert name_problem("gman_do") is None
    assert name_problem("gman do")
    assert name_problem("a" * 65)
    assert soname_problem("lib.so") is None
    for wrong in ("", "a/b.so", "../b.so", ".b.so", "x" * 200):
        assert soname_problem(wrong)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("host", ("host", 4730)),
        ("host:1", ("host", 1)),
        ("[::1]", ("::1", 4730)),
        ("[::1]:2", ("::1", 2)),
        ("fe80::1%eth0", ("fe80::1%eth0", 4730)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
    ],
)
def test_addresses(text, address):
    assert parse_address(text) == address
    assert parse_address(format_address(*address)) == address


@pytest.mark.parametrize(
    "text", ["", "host:", "host:0", "host:65536", "a b", "a,b", "[::1", "::1]", "host:x", "[a]b"]
)
def test_wrong_addresses(text):
    with pytest.raises(ValueError, match=r"address|port"):
        parse_address(text)


def test_lines_of_the_admin_protocol():
    assert parse_function("a\tb\t5\t2\t3") == {"name": "a\tb", "queued": 3, "running": 2, "workers": 3}
    assert parse_worker("33 127.0.0.1 - : reverse syncToRedis") == {
        "fd": 33,
        "address": "127.0.0.1",
        "client_id": "-",
        "functions": ["reverse", "syncToRedis"],
    }
    assert parse_worker("34 ::1 a b :") == {"fd": 34, "address": "::1", "client_id": "a b", "functions": []}


@given(st.binary(), st.binary())
def test_uniques_fit_and_stay_apart(one, other):
    assert len(fit_unique(one)) <= MAX_UNIQUE
    assert (fit_unique(one) == fit_unique(other)) == (one == other)


def test_packets():
    assert packet(7, b"f", b"", b"data") == b"\0REQ\0\0\0\x07\0\0\0\x07f\0\0data"


@pytest.mark.parametrize(
    ("statement", "doing"),
    [
        ("UPDATE account SET pin = '4711'", "runs UPDATE for"),
        ("/* 4711 */ select 4711", "runs SELECT for"),
        ("(SELECT 4711)", "runs SELECT for"),
        ("4711", "runs a statement for"),
        ("x" * 30, "runs a statement for"),
        (None, "is idle inside a transaction for"),
        ("", "is idle inside a transaction for"),
    ],
)
def test_of_another_connections_statement_only_the_verb_is_told(statement, doing):
    told = describe_connection(
        {"id": 7, "user": "app", "host": "web1", "command": "Query", "time": 3, "statement": statement}
    )
    assert told == f"connection 7 of app@web1 {doing} 3 s (command Query)"


def test_pauses_between_tries_are_longer_than_a_try_and_end_in_time():
    now, pauses = [0.0], []

    def sleep(seconds):
        pauses.append(seconds)
        now[0] += seconds

    patience = Patience(60, clock=lambda: now[0], sleep=sleep, jitter=lambda: 0.5)
    while True:
        patience.begin()
        now[0] += TRY_SECONDS
        if not patience.pause():
            break
    assert len(pauses) > 5
    assert pauses == sorted(pauses)
    assert all(pause > TRY_SECONDS for pause in pauses)
    assert now[0] <= 60
    # What is left belongs to no later statement.
    assert not patience.pause()
