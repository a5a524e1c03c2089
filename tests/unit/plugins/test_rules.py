# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule book: what is wrong with a declaration, where, and what to do."""

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.problem import (
    Problem,
    path_text,
    shown,
    suggestion,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    EVENTS,
    declaration_problems,
    is_durable,
    source_problems,
    split_table_name,
    tables_problems,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.template import (
    TemplateError,
    parse_template,
    template_names,
)
from hypothesis import given
from hypothesis import strategies as st

HASH = {"type": "hash", "key": "t:{id}"}


def declaration(**changes):
    return {
        "table": "s.t",
        "delivery": "direct",
        "function": "f",
        "events": list(EVENTS),
        "columns": ["id", "a", "b"],
        "write": [HASH],
        **changes,
    }


def problems(changes):
    return [
        (path_text(problem.path), problem.message, problem.hint)
        for problem in declaration_problems({**declaration(), **changes})
    ]


@pytest.mark.parametrize(
    ("text", "texts", "names"),
    [
        ("user:{id}", ["user:", ""], ["id"]),
        ("{a}:{b}!", ["", ":", "!"], ["a", "b"]),
        ("{line no}", ["", ""], ["line no"]),
        ("", [""], []),
        # Braces that are meant as such, in both spellings.
        ("{{x}}", ["{x}"], []),
        ("{{{a}}}", ["{", "}"], ["a"]),
        ("{[}x{]}", ["{x}"], []),
        ("{[}{a}{]}:{b}", ["{", "}:", ""], ["a", "b"]),
        ("{[a]}", ["", ""], ["[a]"]),
        ("{{[}}", ["{[}"], []),
    ],
)
def test_templates(text, texts, names):
    assert parse_template(text) == (texts, names)


@pytest.mark.parametrize("text", ["{", "}", "{a", "a}", "{}", "{a{b}}", "{{a}", "{a}}", "{[", "{[}}", "{]}{"])
def test_broken_templates(text):
    with pytest.raises(TemplateError):
        parse_template(text)


NAMES = st.text(st.characters(exclude_characters="{}"), min_size=1).filter(
    lambda name: name not in ("[", "]")
)


@given(st.text(), st.lists(st.tuples(NAMES, st.text())), st.booleans())
def test_a_template_made_of_parts_comes_apart_into_them(first, parts, doubled):
    def escape(text):
        spelling = {"{": "{{", "}": "}}"} if doubled else {"{": "{[}", "}": "{]}"}
        return "".join(spelling.get(character, character) for character in text)

    text = escape(first) + "".join(f"{{{name}}}{escape(after)}" for name, after in parts)
    assert parse_template(text) == (
        [first, *(after for _name, after in parts)],
        [name for name, _after in parts],
    )
    assert template_names(text) == list(dict.fromkeys(name for name, _after in parts))


@given(st.text("{}[]a:"))
def test_any_text_is_a_template_or_an_error_of_ours(text):
    try:
        texts, names = parse_template(text)
    except TemplateError:
        return
    assert len(texts) == len(names) + 1


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


def test_hash_tags_in_both_spellings():
    assert (
        problems(
            {
                "write": [
                    {"type": "hash", "key": "{{t}}:{id}"},
                    {"type": "set", "key": "{[}t{]}:{a}", "member": "{id}"},
                ]
            }
        )
        == []
    )
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


@pytest.mark.parametrize("value", [None, 5, "x", {}, True])
def test_what_is_not_a_list_of_declarations(value):
    (found,) = tables_problems(value)
    assert found.path == ("tables",)
    assert found.message.startswith("must be a list, not ")


def clash(one, other):
    """The paths and messages of two tables' declarations; a part of a declaration may stand for it."""
    tables = [declaration(**{"table": "s.one", **one}), declaration(**{"table": "s.other", **other})]
    return [(path_text(problem.path), problem.message) for problem in tables_problems(tables)]


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


@pytest.mark.parametrize(
    ("source", "good"),
    [
        ("main", True),
        ("a" * 64, True),
        ("shop.eu-1_x", True),
        ("a" * 65, False),
        ("", False),
        ("a b", False),
        ("a\n", False),
        ("é", False),
        (5, False),
        (None, False),
        (["main"], False),
    ],
)
def test_names_of_sources(source, good):
    assert ([problem.path for problem in source_problems(source)] == []) == good
    assert all(problem.path == ("source",) and problem.hint for problem in source_problems(source))


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


def test_texts_are_shown_in_one_line():
    assert shown("a\nb") == "'a…'"
    assert shown("x" * 100) == f"'{'x' * 80}…'"
    assert str(Problem((), "is wrong")) == "is wrong"
    assert suggestion("ID", ["id", "nr"], "no") == "did you mean id?"
    assert suggestion(5, ["id"], "no") == "no"


@given(st.text(min_size=1), st.text(min_size=1))
def test_names_of_tables_in_backticks(schema, table):
    quoted = ["`{}`".format(name.replace("`", "``")) for name in (schema, table)]
    assert split_table_name(".".join(quoted)) == (schema, table)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("shop.user_list", ("shop", "user_list")),
        ("shop.order items", ("shop", "order items")),
        ("shop.a.b", ("shop", "a.b")),
        ("`a.b`.c", ("a.b", "c")),
        ("`my.db`.`a``b`", ("my.db", "a`b")),
        ("shop", None),
        ("", None),
        (".t", None),
        ("s.", None),
        ("`a.b`", None),
    ],
)
def test_names_of_tables(text, names):
    assert split_table_name(text) == names
