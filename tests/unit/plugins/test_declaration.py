# SPDX-License-Identifier: GPL-3.0-or-later
"""A declaration against its table: columns, keys and types."""

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declaration import (
    column_problems,
    key_problems,
    match_columns,
    old_columns,
)
from harness.direct import declaration

KEYS = [["id"], ["a", "b"]]


@pytest.mark.parametrize(
    ("write", "keys", "fits"),
    [
        ({"type": "hash", "key": "t:{id}"}, KEYS, True),
        ({"type": "hash", "key": "t:{a}"}, KEYS, False),
        ({"type": "hash", "key": "t:{b}:{a}"}, KEYS, True),
        ({"type": "hash", "key": "t"}, KEYS, False),
        ({"type": "hash", "key": "t:{id}"}, [], False),
        ({"type": "string", "key": "{id}", "value": "{a}"}, KEYS, True),
        ({"type": "string", "key": "{a}", "value": "{id}"}, KEYS, False),
        ({"type": "string", "key": "{a}:{column}"}, KEYS, False),
        ({"type": "set", "key": "by:{a}", "member": "{id}"}, KEYS, True),
        ({"type": "set", "key": "all", "member": "{a}"}, KEYS, False),
        ({"type": "list", "key": "all", "value": "{a}"}, KEYS, True),
        ({"type": "stream", "key": "all"}, KEYS, True),
        ({"type": "stream", "key": "all"}, [], False),
    ],
)
def test_keys(write, keys, fits):
    found, warnings = key_problems(declaration(write=[write]), ["id", "a", "b"], keys)
    assert (found == []) == fits
    assert warnings == []


def column(data_type, column_type=""):
    return {"data_type": data_type, "column_type": column_type}


@pytest.mark.parametrize(
    ("key", "types", "fits"),
    [
        ("{a}:{b}", ("varchar", "varchar"), False),
        ("t:{a}:{b}:x", ("text", "varbinary"), False),
        ("{a}:{b}", ("int", "varchar"), True),
        ("{a}:{b}", ("varchar", "int"), True),
        ("{a}-{b}", ("int", "varchar"), False),
        ("{a}:{b}", ("datetime", "varchar"), True),
        ("{a}-{b}", ("uuid", "varchar"), True),
        ("{a}:{b}", ("inet6", "inet6"), False),
        ("{a}/{b}", ("inet6", "varchar"), True),
        ("{a}:{b}", ("time", "varchar"), False),
        ("{b}:{a}", (("enum", "enum('x','it''s')"), "varchar"), True),
        ("{b}:{a}", (("enum", "enum('x:y','z')"), "varchar"), False),
        ("{a},{b}", (("set", "set('x','z')"), "varchar"), False),
        ("{id}:{a}:{b}", ("varchar", "varchar"), True),
        ("{a}:{id}:{b}", ("varchar", "varchar"), False),
    ],
)
def test_keys_that_rows_with_other_values_would_share(key, types, fits):
    a, b = (column(*each) if isinstance(each, tuple) else column(each) for each in types)
    columns = {"id": column("int"), "a": a, "b": b}
    keys = [["id"]] if "id" in key else [["a", "b"]]
    for write in (
        {"type": "hash", "key": key},
        {"type": "string", "key": f"{key}/{{column}}"},
        {"type": "set", "key": "all", "member": key},
    ):
        found, _warnings = key_problems(declaration(write=[write]), list(columns), keys, columns)
        assert (found == []) == fits, found
        assert (
            key_problems(declaration(write=[{**write, "distinct": True}]), list(columns), keys, columns)[0]
            == []
        )
        if not fits:
            assert found[0].path == ("write", 0, "member" if write["type"] == "set" else "key")
            assert "distinct: true" in found[0].hint
    assert (
        key_problems(
            declaration(write=[{"type": "list", "key": key, "value": "{a}"}]), list(columns), keys, columns
        )[0]
        == []
    )


def test_a_member_may_tell_what_the_key_does_not():
    columns = {"id": column("int"), "a": column("text"), "b": column("text")}
    assert (
        key_problems(
            declaration(write=[{"type": "set", "key": "{a}:{b}", "member": "{id}"}]),
            list(columns),
            [["id"]],
            columns,
        )[0]
        == []
    )
    assert (
        key_problems(
            declaration(write=[{"type": "set", "key": "x:{a}", "member": "{b}"}]),
            list(columns),
            [["a", "b"]],
            columns,
        )[0]
        == []
    )


def test_the_articles_mapping_is_an_exception_with_a_warning():
    found, warnings = key_problems(
        declaration(write=[{"type": "string", "key": "{column}"}]), ["id", "a", "b"], []
    )
    assert found == []
    assert warnings[0].startswith("write[0].key: ")
    assert "every row" in warnings[0]


def test_members_that_are_not_unique_may_be_inserted():
    wanted = declaration(write=[{"type": "set", "key": "cities", "member": "{a}"}])
    assert key_problems({**wanted, "events": ["insert"]}, ["id", "a"], [["id"]])[0] == []
    (problem,) = key_problems(wanted, ["id", "a"], [["id"]])[0]
    assert problem.path == ("write", 0, "key")
    assert "events: [insert]" in problem.hint


def test_keys_by_the_tables_own_spelling():
    wanted = declaration(columns=["ID"], write=[{"type": "hash", "key": "t:{ID}"}])
    assert key_problems(wanted, ["id"], [["id"]]) == ([], [])
    assert match_columns(["ID", "x", "Ä"], ["id", "ä"]) == ({"ID": "id", "Ä": "ä"}, ["x"])


def test_columns_that_the_table_does_not_have():
    found = column_problems(declaration(columns=["id", "nmae", "street"]), ["id", "name", "city"])
    assert [str(problem) for problem in found] == [
        "columns[1]: the table has no column 'nmae'; did you mean name?",
        "columns[2]: the table has no column 'street'; it has id, name, city",
    ]
    assert column_problems(declaration(columns=["ID"]), ["id"]) == []


@pytest.mark.parametrize(
    ("kind", "fits"), [("int", True), ("varchar", True), ("datetime", False), ("geometry", False)]
)
def test_scores_are_numbers(kind, fits):
    columns = {"id": {**column("int"), "is_json": False}, "a": {**column(kind, kind), "is_json": False}}
    wanted = declaration(
        write=[{"type": "zset", "key": "z", "member": "{id}", "score": "{a}"}], columns=["id", "a"]
    )
    found, _warnings = key_problems(wanted, list(columns), [["id"]], columns)
    assert [problem.path for problem in found] == ([] if fits else [("write", 0, "score")])
    assert key_problems({**wanted, "transform": "m:f"}, list(columns), [["id"]], columns)[0] == []


def test_old_columns_are_those_of_all_templates_in_declared_order():
    assert old_columns(
        declaration(
            write=[
                {"type": "set", "key": "by:{b}", "member": "{id}"},
                {"type": "string", "key": "x:{id}:{column}"},
            ]
        )
    ) == ["id", "b"]
    assert old_columns(declaration(write=[{"type": "string", "key": "{column}"}])) == []
