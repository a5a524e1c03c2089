# SPDX-License-Identifier: GPL-3.0-or-later
from types import SimpleNamespace

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._functions import wanted_row
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._udf_plan import (
    Plan,
    PlanError,
    Removal,
    calling_triggers,
    parameter_problem,
    registered_as_wanted,
    settings_to_restore,
    show_state,
    tables_of,
)

SONAME = "ours.so"
MARIADB = SimpleNamespace(engine="mariadb", version=(10, 11, 6), version_text="10.11.6-MariaDB")
MYSQL_WITHOUT_JSON = SimpleNamespace(engine="mysql", version=(5, 7, 7), version_text="5.7.7")


def function(name, **changes):
    return {"name": name, "returns": "string", "aggregate": False, "native": "fail", **changes}


def rows(*functions, soname=SONAME):
    """Functions as the server has them registered."""
    return {one["name"].lower(): wanted_row(one, soname) for one in functions}


def plan(functions, registered, *, server=MARIADB, broken=()):
    loaded = [name for name in registered_as_wanted(functions, registered, SONAME) if name not in broken]
    return Plan(functions, registered, SONAME, server=server, loaded=loaded)


def names(members):
    return [member["name"] for member in members]


@pytest.mark.parametrize(
    ("soname", "functions", "problem"),
    [
        ("ours.so", ["one", "two"], None),
        ("", ["one"], "soname is empty"),
        ("lib/ours.so", ["one"], "path"),
        (".ours.so", ["one"], "hidden"),
        ("ours.so", ["a-b"], "'a-b'"),
        ("ours.so", ["a" * 65], "64 characters"),
        ("ours.so", ["one", "ONE"], "ONE is named twice"),
    ],
)
def test_parameters(soname, functions, problem):
    answer = parameter_problem(soname, [function(name) for name in functions])
    assert (answer is None) if problem is None else problem in answer


def test_a_new_library():
    one = plan([function("a"), function("b", returns="integer", aggregate=True)], {})
    assert one.is_change()
    assert [one.statement(each) for each in one.create] == [
        "CREATE FUNCTION `a` RETURNS STRING SONAME 'ours.so'",
        "CREATE AGGREGATE FUNCTION `b` RETURNS INTEGER SONAME 'ours.so'",
    ]
    assert one.to_drop() == one.to_recreate() == []
    assert names(one.after()) == one.replaced() == ["a", "b"]


def test_what_is_registered_as_wanted_stays():
    one = plan([function("a")], rows(function("A")))
    assert not one.is_change()
    assert names(one.keep) == names(one.after()) == ["A"]


@pytest.mark.parametrize(
    "registered",
    [
        rows(function("a", returns="integer")),
        rows(function("a", aggregate=True)),
        rows(function("a"), soname="other.so"),
    ],
)
def test_what_is_registered_otherwise_is_replaced(registered):
    one = plan([function("a")], registered)
    assert names(one.to_drop()) == names(one.create) == ["a"]
    assert one.keep == []


def test_what_the_server_could_not_load_is_registered_again():
    one = plan([function("a"), function("b")], rows(function("a"), function("b")), broken=["a"])
    assert names(one.to_drop()) == names(one.create) == ["a"]
    assert names(one.keep) == ["b"]


def test_a_reload_drops_and_recreates_all_functions_of_the_library():
    registered = {
        **rows(function("a"), function("extra"), function("b", returns="integer")),
        **rows(function("c"), soname="other.so"),
    }
    one = plan([function("a"), function("b"), function("c")], registered)
    one.install = one.reload = True
    assert names(one.to_drop()) == ["a", "b", "extra", "c"]
    assert names(one.to_recreate()) == ["a", "extra"]
    assert names(one.create) == ["b", "c"]
    assert sorted(set(one.replaced())) == sorted(names(one.after())) == ["a", "b", "c", "extra"]


def test_functions_of_the_server_itself():
    functions = [function("json_object", native="skip"), function("json_members", native="skip")]
    one = plan(functions, {})
    assert one.skipped == ["json_object"]
    assert names(one.create) == ["json_members"]
    assert names(plan(functions, {}, server=MYSQL_WITHOUT_JSON).create) == ["json_object", "json_members"]
    with pytest.raises(
        PlanError, match=r"json_object: mariadb 10\.11\.6-MariaDB has a function of that name"
    ):
        plan([function("json_object")], {})


def test_a_function_that_only_the_server_knows_to_be_its_own():
    one = plan([function("a"), function("b", native="skip")], {})
    one.skip("b")
    assert one.skipped == ["b"]
    assert names(one.after()) == one.replaced() == ["a"]


def test_removal():
    registered = {**rows(function("a"), function("B")), **rows(function("c"), soname="other.so")}
    every = Removal([], registered, SONAME)
    assert names(every.drop) == names(every.registered) == ["a", "B"]
    assert every.after == []
    one = Removal([function("b"), function("c")], registered, SONAME)
    assert (names(one.drop), names(one.after)) == (["B"], ["a"])


def test_triggers_that_call_a_function():
    triggers = [
        {"s": "s", "t": table, "name": f"{table}_{number}", "body": body}
        for table, number, body in (
            ("b", 1, "SET @x = gman_do('f', NEW.a)"),
            ("b", 2, "SET @x = `GMAN_DO` ('f')"),
            ("a", 1, "SET @x = gman_do_low('f')"),
            ("c", 1, "SET @gman_do = 1"),
        )
    ]
    calling = calling_triggers(triggers, ["gman_do", "gman_do_low"])
    assert [trigger for _schema, _table, trigger in calling] == ["b_1", "b_2", "a_1"]
    assert tables_of(calling) == [("s", "a"), ("s", "b")]


def test_tls_is_switched_on_after_its_files():
    before = {
        "tls": "on",
        "tls_ca": "/ca.pem",
        "wake_interval_ms": 5,
        "io_timeout_ms": 250,
        "of_an_older_library": 1,
    }
    now = {"tls": "off", "tls_ca": "", "wake_interval_ms": 10, "io_timeout_ms": 250}
    assert settings_to_restore(before, now) == [("tls_ca", "/ca.pem"), ("wake_interval_ms", 5), ("tls", "on")]
    # A library without TLS is asked for it all the same, so that its refusal is seen.
    assert settings_to_restore({"tls": "on", "tls_ca": "/ca.pem"}, {}) == [("tls", "on")]


def test_a_diff_shows_functions_and_file():
    text = show_state(list(rows(function("b"), function("a")).values()), "/lib/ours.so", "abc")
    assert text.splitlines() == [
        "CREATE FUNCTION `a` RETURNS STRING SONAME 'ours.so';",
        "CREATE FUNCTION `b` RETURNS STRING SONAME 'ours.so';",
        "-- sha256 of /lib/ours.so: abc",
    ]
    assert show_state([], "/lib/ours.so", None) == ""
