# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule book: what is wrong with declarations beside each other."""

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.problem import path_text
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    declaration_problems,
    tables_problems,
)
from harness.direct import HASH, declaration


def clash(one, other):
    """The paths and messages of two tables' declarations; a part of a declaration may stand for it."""
    tables = [declaration(**{"table": "s.one", **one}), declaration(**{"table": "s.other", **other})]
    return [(path_text(problem.path), problem.message) for problem in tables_problems(tables)]


@pytest.mark.parametrize("value", [None, 5, "x", {}, True])
def test_what_is_not_a_list_of_declarations(value):
    (found,) = tables_problems(value)
    assert found.path == ("tables",)
    assert found.message.startswith("must be a list, not ")


def test_hash_tags_in_both_spellings():
    writes = [
        {"type": "hash", "key": "{{t}}:{id}"},
        {"type": "set", "key": "{[}t{]}:{a}", "member": "{id}"},
    ]
    assert declaration_problems(declaration(write=writes)) == []
    assert (
        tables_problems(
            [
                declaration(table="s.customer", write=[{"type": "hash", "key": "{{customer}}:{id}"}]),
                declaration(table="s.invoice", write=[{"type": "hash", "key": "{[}invoice{]}:{id}"}]),
            ]
        )
        == []
    )
    # One key in two spellings.
    (found,) = tables_problems(
        [
            declaration(table="s.customer", write=[{"type": "hash", "key": "{{x}}:{id}"}]),
            declaration(table="s.invoice", write=[{"type": "hash", "key": "{[}x{]}:{a}"}]),
        ]
    )
    assert found.path == ("tables", 1, "write", 0, "key")


@pytest.mark.parametrize(
    ("one", "other", "clashes"),
    [
        ({"type": "hash", "key": "u:{id}"}, {"type": "json", "key": "u:{a}"}, True),
        ({"type": "hash", "key": "u:{id}"}, {"type": "set", "key": "u:{a}", "member": "x"}, True),
        ({"type": "set", "key": "u:{id}", "member": "x"}, {"type": "hash", "key": "u:{a}"}, True),
        (
            {"type": "set", "key": "u:{id}", "member": "x"},
            {"type": "set", "key": "u:{a}", "member": "y"},
            False,
        ),
        ({"type": "list", "key": "all", "value": "x"}, {"type": "stream", "key": "all"}, False),
        ({"type": "hash", "key": "u:{id}"}, {"type": "hash", "key": "v:{a}"}, False),
        ({"type": "string", "key": "{column}"}, {"type": "string", "key": "{column}"}, True),
        ({"type": "string", "key": "{id}:{column}"}, {"type": "hash", "key": "{a}:id"}, True),
        # A null value is none, so that this is a string for each column.
        ({"type": "string", "key": "{id}:{column}", "value": None}, {"type": "hash", "key": "{a}:id"}, True),
        ({"type": "string", "key": "{id}:x", "value": "{a}"}, {"type": "hash", "key": "{a}:id"}, False),
        # Braces that are meant as such are part of the text.
        ({"type": "hash", "key": "{{one}}:{id}"}, {"type": "hash", "key": "{{other}}:{id}"}, False),
        ({"type": "hash", "key": "{{one}}:{id}"}, {"type": "hash", "key": "{[}one{]}:{a}"}, True),
        ({"type": "hash", "key": "{{one}}:{id}"}, {"type": "hash", "key": "{a}:{id}"}, False),
        # More columns are another text.
        ({"type": "hash", "key": "u:{id}"}, {"type": "hash", "key": "u:{id}:{a}"}, False),
    ],
)
def test_keys_that_two_tables_write(one, other, clashes):
    found = clash({"write": [one]}, {"write": [other]})
    assert [path for path, _message in found] == (["tables[1].write[0].key"] if clashes else [])
    assert all("may be a key that s.one writes as" in message for _path, message in found)


def test_the_keys_of_computed_columns_are_keys_too():
    per_column = {
        "write": [{"type": "string", "key": "{id}:{column}"}],
        "transform": "m:f",
        "computed": ["slug"],
    }
    assert len(clash(per_column, {"write": [{"type": "hash", "key": "{a}:slug"}]})) == 1


def test_a_key_is_compared_with_all_that_came_before():
    shared = {"type": "set", "key": "u:{a}", "member": "{id}"}
    # Not with the first alone, which is a set that others may add to.
    one = {"write": [shared, {"type": "hash", "key": "u:{id}"}]}
    assert len(clash(one, {"write": [shared]})) == 1


def test_a_clash_is_seen_whatever_else_is_wrong():
    found = clash(
        {"events": ["never"], "write": [HASH]}, {"columns": ["id", ""], "write": [HASH, {"type": "x"}]}
    )
    assert [path for path, _message in found] == [
        "tables[0].events[0]",
        "tables[1].columns[1]",
        "tables[1].write[1].type",
        "tables[1].write[1].key",
        "tables[1].write[0].key",
    ]


@pytest.mark.parametrize(
    ("one", "other", "twice"),
    [
        ("s.t", "s.t", True),
        ("s.t", "`s`.`t`", True),
        ("s.`a.b`", "`s`.`a.b`", True),
        ("s.t", "s.T", False),
        ("s.t", "r.t", False),
    ],
)
def test_a_table_is_declared_once(one, other, twice):
    found = clash(
        {"table": one, "write": [HASH]}, {"table": other, "write": [{"type": "json", "key": "j:{id}"}]}
    )
    assert found == ([("tables[1].table", "is declared by tables[0] already")] if twice else [])


def test_problems_name_their_table_where_it_has_a_name():
    def empty(name, key):
        return declaration(table=name, columns=[], write=[{"type": "hash", "key": key}])

    same = declaration(table="s.t", write=[{"type": "hash", "key": "b"}])
    found = tables_problems([empty("shop.item", "i"), empty("bell\x07.x", "b"), empty(None, "n"), same])
    assert [str(problem) for problem in found] == [
        "tables[0].columns of shop.item: is empty; name at least one",
        "tables[1].columns: is empty; name at least one",
        "tables[2].table: is missing; it has no default: add it",
        "tables[2].columns: is empty; name at least one",
        (
            "tables[3].write[0].key of s.t: 'b' may be a key that tables[1] writes as 'b'; begin the keys of "
            "each table with its name"
        ),
    ]
