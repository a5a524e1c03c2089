# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule book: what is wrong with a declaration, where, and what to do."""

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.problem import path_text
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    declaration_problems,
    is_durable,
)
from harness.direct import HASH, declaration


def problems(changes):
    return [
        (path_text(problem.path), problem.message, problem.hint)
        for problem in declaration_problems({**declaration(), **changes})
    ]


def test_a_good_declaration_has_no_problems():
    assert problems({}) == []
    assert (
        problems(
            {
                "write": [
                    {"type": "hash", "key": "t:{id}", "ttl": 5},
                    {"type": "json", "key": "j:{id}"},
                    {"type": "string", "key": "s:{id}:{column}"},
                    {"type": "string", "key": "v:{id}", "value": "{a}-{b}"},
                    {"type": "set", "key": "by:{a}", "member": "{id}"},
                    {"type": "zset", "key": "z", "member": "{id}", "score": "{a}"},
                    {"type": "zset", "key": "y", "member": "{id}", "score": "-1.5e3"},
                    {"type": "list", "key": "l", "value": "{id}", "max": 10},
                    {"type": "stream", "key": "x", "maxlen": 1000, "distinct": False},
                ]
            }
        )
        == []
    )
    assert (
        problems(
            {
                "transform": "shop.rows:slug",
                "computed": ["slug"],
                "write": [{"type": "hash", "key": "{slug}:{id}"}],
            }
        )
        == []
    )


def test_null_is_as_if_it_was_left_out_where_there_is_no_default():
    full = dict.fromkeys(("ttl", "value", "member", "score", "max", "maxlen", "distinct")) | HASH
    assert problems({"transform": None, "write": [full]}) == []
    assert problems({"table": None, "columns": None, "write": None}) == [
        (name, "is missing", "it has no default: add it") for name in ("table", "columns", "write")
    ]
    found = problems(dict.fromkeys(("delivery", "function", "events", "computed")))
    assert [(path, hint) for path, _message, hint in found] == [
        (name, "write a value, or leave it out") for name in ("delivery", "function", "events", "computed")
    ]
    # The kind of a string whose value is null is that of a string without a value.
    assert problems({"write": [{"type": "string", "key": "{id}:{column}", "value": None}]}) == []


# What of a declaration is changed, and what is then wrong: path, message, hint.
WRONG = [
    ({"table": "t"}, "table", "'t' does not name a schema and a table", "write schema.table"),
    ({"table": ""}, "table", "is empty", "required"),
    ({"table": 5}, "table", "must be text, not a number", "put it into quotes"),
    ({"table": "s." + "t" * 200, "delivery": "durable"}, "table", "has 202 characters", "backticks"),
    ({"delivery": "durabel"}, "delivery", "'durabel' is unknown", "did you mean durable?"),
    ({"delivery": "DIRECT"}, "delivery", "'DIRECT' is unknown", "did you mean direct?"),
    ({"delivery": "pigeon"}, "delivery", "'pigeon' is unknown", "use durable or direct"),
    ({"function": ""}, "function", "is empty", ""),
    (
        {"function": "a\x07b"},
        "function",
        "'a\\x07b' cannot be the name of a Gearman function",
        "control characters",
    ),
    ({"function": "ä" * 128}, "function", "cannot be the name of a Gearman function", "255 bytes"),
    ({"function": ["f"]}, "function", "must be text, not a list", "put it into quotes"),
    ({"events": []}, "events", "is empty", "name at least one"),
    ({"events": "insert"}, "events", "must be a list, not text", "write [a, b]"),
    ({"events": ["insert", "upsert"]}, "events[1]", "'upsert' is unknown", "did you mean insert?"),
    ({"events": ["insert", "truncate"]}, "events[1]", "'truncate' is unknown", "use insert, update, delete"),
    ({"events": ["insert", "insert"]}, "events[1]", "'insert' is listed twice", "leave one of them out"),
    ({"events": [True]}, "events[0]", "must be text, not true or false", "put it into quotes"),
    ({"columns": []}, "columns", "is empty", "name at least one"),
    ({"columns": {"id": 1}}, "columns", "must be a list, not a mapping", "write [a, b]"),
    ({"columns": ["id", None]}, "columns[1]", "must be text, not null", "leave it out"),
    ({"columns": ["id", ""]}, "columns[1]", "is empty", ""),
    ({"columns": ["id", "Id"]}, "columns[1]", "'Id' is listed twice", "upper and lower case are the same"),
    ({"columns": ["id", "a\ud800"]}, "columns[1]", "'a\\ud800' has half a character in it", "UTF-8"),
    (
        {"columns": ["id", "["], "write": [{"type": "hash", "key": "{[}:{id}"}]},
        "write[0].key",
        "has {[}, which is a brace",
        "leave this column",
    ),
    (
        {"transform": "module function"},
        "transform",
        "'module function' does not name a function",
        "package.module:function",
    ),
    ({"transform": ""}, "transform", "is empty", "leave it out"),
    ({"computed": ["x"]}, "computed", "needs a transform", "add transform"),
    (
        {"computed": ["slug", "SLUG"], "transform": "m:f"},
        "computed[1]",
        "'SLUG' is listed twice",
        "leave one of them out",
    ),
    (
        {"computed": ["a"], "transform": "m:f"},
        "computed[0]",
        "'a' is also in columns",
        "leave one of them out",
    ),
    ({"computed": "x"}, "computed", "must be a list, not text", "write [a, b]"),
    ({"colums": []}, "colums", "is unknown", "did you mean columns?"),
    ({"hush hush": 1}, "", "has a field that is unknown", "known are table, "),
    ({1: 2}, "", "has a field that is unknown", "known are table, "),
    ({"write": []}, "write", "is empty", "name at least one"),
    ({"write": {"type": "hash"}}, "write", "must be a list, not a mapping", "write [a, b]"),
    ({"write": ["hash"]}, "write[0]", "must be a mapping, not text", "write {type: hash"),
    ({"write": [{**HASH, "tll": 5}]}, "write[0].tll", "is unknown", "did you mean ttl?"),
    ({"write": [{"key": "x:{id}"}]}, "write[0].type", "is missing", "a write needs it"),
    ({"write": [{"type": "hash"}]}, "write[0].key", "is missing", "a hash needs it"),
    ({"write": [{**HASH, "type": "hsah"}]}, "write[0].type", "'hsah' is unknown", "did you mean hash?"),
    (
        {"write": [{**HASH, "type": "blob"}]},
        "write[0].type",
        "'blob' is unknown",
        "use one of string, hash, json",
    ),
    ({"write": [{**HASH, "type": 7}]}, "write[0].type", "must be text, not a number", "put it into quotes"),
    (
        {"write": [{**HASH, "type": ["hash"]}]},
        "write[0].type",
        "must be text, not a list",
        "put it into quotes",
    ),
    ({"write": [{"type": "hash", "key": ""}]}, "write[0].key", "is empty", ""),
    (
        {"write": [{"type": "hash", "key": "{ID}"}]},
        "write[0].key",
        "'{ID}' names 'ID', which is not in columns",
        "did you mean id?",
    ),
    (
        {"write": [{"type": "hash", "key": "{city}"}]},
        "write[0].key",
        "names 'city', which is not in columns",
        "add it to columns",
    ),
    (
        {"write": [{"type": "hash", "key": "{column}"}]},
        "write[0].key",
        "names 'column'",
        "only the key of a string",
    ),
    (
        {"write": [{"type": "hash", "key": "{id"}]},
        "write[0].key",
        "'{id' has a '{' without its partner at character 1",
        "write {[} and {]}",
    ),
    ({"write": [{"type": "hash", "key": "{id}{}"}]}, "write[0].key", "has empty braces", "a column's name"),
    (
        {"write": [{"type": "hash", "key": "{id}{a}"}]},
        "write[0].key",
        "{id} and {a} side by side",
        "put something between them",
    ),
    (
        {"write": [{"type": "set", "key": "x", "member": "{a}-{id}{a}"}]},
        "write[0].member",
        "{id} and {a} side by side",
        "put something",
    ),
    (
        {"write": [{"type": "hash", "key": {"id": 1}}]},
        "write[0].key",
        "must be text, not a mapping",
        "put it into quotes",
    ),
    (
        {"write": [{"type": "string", "key": "{column}", "value": "{a}"}]},
        "write[0].value",
        "cannot be set: {column} in the key",
        "leave it out",
    ),
    (
        {"write": [{"type": "string", "key": "x:{id}"}]},
        "write[0].key",
        "has no {column}, and the write has no value",
        "one string per row",
    ),
    ({"write": [{"type": "set", "key": "x"}]}, "write[0].member", "is missing", "a set needs it"),
    ({"write": [{"type": "set", "key": "x", "member": ""}]}, "write[0].member", "is empty", ""),
    (
        {"write": [{"type": "zset", "key": "x", "member": "{id}"}]},
        "write[0].score",
        "is missing",
        "a zset needs it",
    ),
    (
        {"write": [{"type": "zset", "key": "x", "member": "{id}", "score": "high"}]},
        "write[0].score",
        "'high' is not a number",
        "write a number",
    ),
    ({"write": [{"type": "list", "key": "x"}]}, "write[0].value", "is missing", "a list needs it"),
    ({"write": [{"type": "list", "key": "x", "value": ""}]}, "write[0].value", "is empty", ""),
    (
        {"write": [{**HASH, "member": "{a}"}]},
        "write[0].member",
        "is not a field of a hash",
        "a hash has type, key, ttl, distinct",
    ),
    ({"write": [{**HASH, "max": "many"}]}, "write[0].max", "is not a field of a hash", "a hash has"),
    (
        {"write": [{**HASH, "ttl": -1}]},
        "write[0].ttl",
        "must be 1 to 9007199254740991, not -1",
        "leave it out for no limit",
    ),
    ({"write": [{**HASH, "ttl": "5"}]}, "write[0].ttl", "must be a whole number, not text", "without quotes"),
    (
        {"write": [{**HASH, "ttl": 1.5}]},
        "write[0].ttl",
        "must be a whole number, not a number",
        "without quotes",
    ),
    (
        {"write": [{**HASH, "ttl": True}]},
        "write[0].ttl",
        "must be a whole number, not true or false",
        "without quotes",
    ),
    (
        {"write": [{**HASH, "distinct": "yes"}]},
        "write[0].distinct",
        "must be true or false, not text",
        "without quotes",
    ),
    (
        {"write": [HASH, {"type": "set", "key": "t:{id}", "member": "{a}"}]},
        "write[1].key",
        "may be a key that write[0] writes too",
        "a key of its own",
    ),
    # One string per column, and a hash that would have the key of one of them, whether it is computed or not.
    (
        {"write": [{"type": "string", "key": "{id}:{column}"}, {"type": "hash", "key": "{id}:a"}]},
        "write[1].key",
        "write[0] writes too",
        "own",
    ),
    (
        {
            "computed": ["x"],
            "transform": "m:f",
            "write": [{"type": "string", "key": "{id}:{column}"}, {"type": "hash", "key": "{id}:x"}],
        },
        "write[1].key",
        "write[0] writes too",
        "own",
    ),
    # In two spellings.
    (
        {"write": [{"type": "hash", "key": "{{t}}{id}"}, {"type": "hash", "key": "{[}t{]}{id}"}]},
        "write[1].key",
        "write[0] writes too",
        "own",
    ),
]


@pytest.mark.parametrize(("changes", "path", "message", "hint"), WRONG)
def test_a_problem_has_its_place_and_a_hint(changes, path, message, hint):
    ((where, what, how),) = problems(changes)
    assert where == path
    assert message in what
    assert hint in how
    assert how


def test_all_problems_are_reported_at_once():
    found = problems(
        {
            "table": "t",
            "delivery": "x",
            "events": ["insert", "y"],
            "columns": ["id", 5],
            "computed": ["z"],
            "write": [{"type": "w", "key": "{a"}, None, HASH, HASH],
        }
    )
    assert [path for path, _message, _hint in found] == [
        "table",
        "delivery",
        "columns[1]",
        "events[1]",
        "computed",
        "write[0].type",
        "write[0].key",
        "write[1]",
        "write[3].key",
    ]


@pytest.mark.parametrize("value", [None, 5, "x", [], True])
def test_what_is_not_a_declaration(value):
    (found,) = declaration_problems(value)
    assert found.path == ()
    assert "must be a mapping" in found.message
    assert not is_durable(value)


@pytest.mark.parametrize(
    ("delivery", "durable"),
    [
        ({}, True),
        ({"delivery": None}, False),
        ({"delivery": "durable"}, True),
        ({"delivery": "direct"}, False),
        ({"delivery": ["durable"]}, False),
    ],
)
def test_durable_is_the_default(delivery, durable):
    assert is_durable(delivery) == durable
