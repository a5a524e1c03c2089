# SPDX-License-Identifier: GPL-2.0-or-later
"""Job server lists, and the arguments of the Gearman functions."""

from __future__ import annotations

import hashlib

import pytest
from fake_server import FakeServer
from gman_calls import stats, use
from sanitized import Driver, Refused, RowError, Value


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("127.0.0.1", "127.0.0.1:4730"),
        ("127.0.0.1:4731", "127.0.0.1:4731"),
        (" localhost , 127.0.0.1:1 ", "localhost:4730,127.0.0.1:1"),
        ("LocalHost:65535", "localhost:65535"),
        ("[::1]", "[::1]:4730"),
        ("[::1]:4731,[FE80::1]:1", "[::1]:4731,[fe80::1]:1"),
        ("[FE80::1%Eth0]:1", "[fe80::1%Eth0]:1"),
        (",".join(f"127.0.0.{n}" for n in range(1, 33)), ",".join(f"127.0.0.{n}:4730" for n in range(1, 33))),
        ("", ""),
        ("  ", ""),
    ],
)
@pytest.mark.parametrize("constant", [True, False])
def test_list_is_stored_in_one_form(gman: Driver, text: str, stored: str, constant: bool) -> None:
    assert gman.call("gman_servers_set", Value(text, constant=constant)) == stored.encode()
    assert stats(gman)["server_lists"] == ({"": stored} if stored else {})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("127.0.0.1:0", "'127.0.0.1:0': the port"),
        ("127.0.0.1:65536", "'127.0.0.1:65536': the port"),
        ("127.0.0.1:99999999999999999999", "the port"),
        ("127.0.0.1:", "'127.0.0.1:': the port"),
        ("127.0.0.1:47a", "the port"),
        ("127.0.0.1:-1", "the port"),
        (":4730", "':4730': the host is missing"),
        ("a,,b", "entry 2 is empty"),
        ("a,", "entry 2 is empty"),
        (",", "entry 1 is empty"),
        ("two words", "'two words': a host name consists of"),
        ("10.0.0.256", "'10.0.0.256': not an IPv4"),
        ("1.2.3", "not an IPv4"),
        ("::1", "'::1': an IPv6 address must be in"),
        ("[::1", "the ] is missing"),
        ("[::1]4730", "after ] only :port may follow"),
        ("[::g]:1", "not an IPv6"),
        ("[1.2.3.4]:1", "not an IPv6"),
        ("[fe80::1%]:1", "not an IPv6"),
        ("-x", "must not begin with -"),
        ("a..b", "part of the host name is empty"),
        ("h;rm", "a host name consists of"),
        ("a\0b", "a host name consists of"),
        ("x" * 254, "the host name is too long"),
        ("good:1,good:1", "'good:1' is in the list twice"),
        ("good,[::1],bäd", "'b??d': a host name consists of"),
        (",".join(f"h{n}" for n in range(33)), "more than 32 servers"),
    ],
)
def test_invalid_list_is_an_sql_error(gman: Driver, text: str, says: str) -> None:
    use(gman, "127.0.0.1:4730")
    with pytest.raises(Refused) as refused:
        gman.call("gman_servers_set", Value(text, constant=True))
    assert says in str(refused.value)
    assert len(str(refused.value)) < 80
    with pytest.raises(RowError):
        gman.call("gman_servers_set", text)
    assert stats(gman)["server_lists"] == {"": "127.0.0.1:4730"}


def test_null_list_is_an_error(gman: Driver) -> None:
    with pytest.raises(RowError):
        gman.call("gman_servers_set", None)


def test_lists_per_function(gman: Driver) -> None:
    with FakeServer() as common, FakeServer() as own:
        use(gman, common.address)
        use(gman, own.address, function="special")
        assert stats(gman)["server_lists"] == {"": common.address, "special": own.address}
        assert [(one["address"], one["functions"]) for one in stats(gman)["servers"]] == [
            (common.address, None),
            (own.address, "special"),
        ]
        assert gman.call("gman_do_background", "special", "x")
        assert gman.call("gman_do_background", "other", "x")
        assert [job[1] for job in own.jobs] == [b"special"]
        assert [job[1] for job in common.jobs] == [b"other"]
        use(gman, "", function="special")
        assert gman.call("gman_do_background", "special", "y")
        assert len(common.jobs) == 2
        assert stats(gman)["server_lists"] == {"": common.address}


def test_without_a_list(gman: Driver) -> None:
    assert gman.call("gman_do_background", "f", "x") is None
    assert gman.call("gman_do", "f", "x") is None
    assert gman.integer("gman_wake", "f", "x") == 0
    assert stats(gman)["jobs"] == {"failed": 2, "without_server": 2}


@pytest.mark.parametrize(
    "function",
    [
        "gman_do",
        "gman_do_high",
        "gman_do_low",
        "gman_do_background",
        "gman_do_high_background",
        "gman_do_low_background",
    ],
)
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["f"], "takes (function, workload[, unique])"),
        (["f", "w", "u", "more"], "takes (function, workload[, unique])"),
        ([5, "w"], "the first argument, the function, must be a string"),
        ([Value("", constant=True), "w"], "the function name is empty"),
        ([Value("f" * 256, constant=True), "w"], "longer than 255 bytes"),
        ([Value("a\0b", constant=True), "w"], "holds a NUL"),
    ],
)
def test_wrong_arguments(gman: Driver, function: str, arguments: list[object], says: str) -> None:
    with pytest.raises(Refused) as refused:
        gman.call(function, *arguments)
    assert says in str(refused.value)
    assert str(refused.value).startswith(function)


def test_wrong_function_in_a_row_is_null_and_the_next_row_works(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    for name in [None, "", "f" * 256, "a\0b"]:
        assert gman.call("gman_do_background", name, "w") is None
    assert gman.call("gman_do_background", "f" * 255, "w") == b"H:fake:1"
    assert stats(gman)["jobs"]["failed"] == 4


def test_packets_that_are_sent(gman: Driver, fake: FakeServer) -> None:
    use(gman, fake.address)
    types = {"gman_do_background": 18, "gman_do_high_background": 32, "gman_do_low_background": 34}
    for function in types:
        assert gman.call(function, "f", "work\0load\xff", "key")
    assert fake.jobs == [(number, b"f", b"key", "work\0load\xff".encode()) for number in types.values()]
    fake.jobs.clear()
    for value in [None, 5, -1.5, Value("1.50", kind="D"), ""]:
        assert gman.call("gman_do_background", "f", value, value)
    assert [job[2:] for job in fake.jobs] == [(v, v) for v in (b"", b"5", b"-1.5", b"1.50", b"")]


@pytest.mark.parametrize(
    "unique", [b"k" * 63, b"k" * 64, b"k" * 64 + b"2", b"x" * 500, b"a\0b", b"y" * 55, b"z" * 119, b"-"]
)
def test_long_unique_is_hashed(gman: Driver, fake: FakeServer, unique: bytes) -> None:
    use(gman, fake.address)
    assert gman.call("gman_do_background", "f", "w", unique)
    plain = len(unique) <= 63 and b"\0" not in unique
    assert fake.jobs[0][2] == (
        unique if plain else b"sha256:" + hashlib.sha256(unique).hexdigest()[:56].encode()
    )
