import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declaration import (
    TemplateError,
    declaration_problems,
    key_problems,
    match_columns,
    old_columns,
    parse_template,
    template_names,
)
from hypothesis import given
from hypothesis import strategies as st


def declaration(**changes):
    return {"table": "s.t", "delivery": "direct", "function": "f", "events": ["insert", "update", "delete"], "columns": ["id", "a", "b"],
            "write": [{"type": "hash", "key": "t:{id}"}], **changes}


def problems(**changes):
    return declaration_problems(declaration(**changes))


@pytest.mark.parametrize(("text", "parts"), [
    ("user:{id}", [("user:", "id")]),
    ("{a}:{b}!", [("", "a"), (":", "b"), ("!", None)]),
    ("{{x}}", [("{x}", None)]),
    ("{{{a}}}", [("{", "a"), ("}", None)]),
    ("{line no}", [("", "line no")]),
    ("", [("", None)]),
])
def test_templates(text, parts):
    assert parse_template(text) == parts


@pytest.mark.parametrize("text", ["{", "}", "{a", "a}", "{}", "{a{b}}", "{{a}", "{a}}"])
def test_broken_templates(text):
    with pytest.raises(TemplateError):
        parse_template(text)


@given(st.lists(st.tuples(st.text(), st.text(st.characters(exclude_characters="{}"), min_size=1)), min_size=1))
def test_a_template_made_of_parts_comes_apart_into_them(parts):
    def escape(text):
        return text.replace("{", "{{").replace("}", "}}")
    text = "".join(f"{escape(literal)}{{{name}}}" for literal, name in parts)
    assert parse_template(text) == parts
    assert template_names(text) == list(dict.fromkeys(name for _literal, name in parts))


@given(st.text())
def test_any_text_is_a_template_or_an_error_of_ours(text):
    try:
        parts = parse_template(text)
    except TemplateError:
        return
    written = "".join(literal.replace("{", "{{").replace("}", "}}") + ("" if name is None else f"{{{name}}}") for literal, name in parts)
    assert parse_template(written) == parts


def test_a_good_declaration_has_no_problems():
    assert problems() == []
    assert problems(columns=["id", "a", "b"], write=[
        {"type": "hash", "key": "t:{id}", "ttl": 5}, {"type": "json", "key": "j:{id}"}, {"type": "string", "key": "s:{id}:{column}"},
        {"type": "string", "key": "v:{id}", "value": "{a}-{b}"}, {"type": "set", "key": "by:{a}", "member": "{id}"},
        {"type": "zset", "key": "z", "member": "{id}", "score": "{a}"}, {"type": "list", "key": "l", "value": "{id}", "max": 10},
        {"type": "stream", "key": "x", "maxlen": 1000}]) == []


@pytest.mark.parametrize(("write", "word"), [
    ([{"type": "hash", "key": ""}], "empty"),
    ([{"type": "hash", "key": "{ID}"}], "'ID'"),
    ([{"type": "hash", "key": "{column}"}], "only the key of a string"),
    ([{"type": "string", "key": "{column}", "value": "{a}"}], "value cannot be set"),
    ([{"type": "string", "key": "x:{id}"}], "one string per row"),
    ([{"type": "set", "key": "x"}], "needs member"),
    ([{"type": "zset", "key": "x", "member": "{id}"}], "needs score"),
    ([{"type": "list", "key": "x"}], "needs value"),
    ([{"type": "hash", "key": "{id}", "member": "{a}"}], "has no member"),
    ([{"type": "hash", "key": "{id}", "max": 3}], "has no max"),
    ([{"type": "hash", "key": "{id}", "ttl": -1}], "1 or more"),
    ([{"type": "hash", "key": "x:{id}"}, {"type": "set", "key": "x:{id}", "member": "{a}"}], "both write the key"),
    ([{"type": "hash", "key": "{id}{a}"}], "side by side"),
    ([{"type": "set", "key": "x:{a}", "member": "{a}-{id}{a}"}], "{id} and {a} side by side"),
    # One string per column, and a hash that would have the key of one of them.
    ([{"type": "string", "key": "{id}:{column}"}, {"type": "hash", "key": "{id}:a"}], "both write the key '{id}:a'"),
])
def test_wrong_writes(write, word):
    found = problems(write=write)
    assert len(found) == 1
    assert word in found[0]
    assert f"write {len(write)}" in found[0]


def test_one_string_per_column_clashes_with_nothing_of_its_own():
    assert problems(write=[{"type": "string", "key": "{column}"}, {"type": "string", "key": "x:{column}"}]) == []


KEYS = [["id"], ["a", "b"]]


@pytest.mark.parametrize(("write", "keys", "fits"), [
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
])
def test_keys(write, keys, fits):
    found, warnings = key_problems(declaration(write=[write]), ["id", "a", "b"], keys)
    assert (found == []) == fits
    assert warnings == []


def column(data_type, column_type=""):
    return {"data_type": data_type, "column_type": column_type}


@pytest.mark.parametrize(("key", "types", "fits"), [
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
])
def test_keys_that_rows_with_other_values_would_share(key, types, fits):
    a, b = (column(*each) if isinstance(each, tuple) else column(each) for each in types)
    columns = {"id": column("int"), "a": a, "b": b}
    keys = [["id"]] if "id" in key else [["a", "b"]]
    for write in ({"type": "hash", "key": key}, {"type": "string", "key": f"{key}/{{column}}"}, {"type": "set", "key": "all", "member": key}):
        found, _warnings = key_problems(declaration(write=[write]), list(columns), keys, columns)
        assert (found == []) == fits, found
        assert key_problems(declaration(write=[{**write, "distinct": True}]), list(columns), keys, columns)[0] == []
        if not fits:
            assert "distinct: true" in found[0]
    assert key_problems(declaration(write=[{"type": "list", "key": key, "value": "{a}"}]), list(columns), keys, columns)[0] == []


def test_a_member_may_tell_what_the_key_does_not():
    columns = {"id": column("int"), "a": column("text"), "b": column("text")}
    assert key_problems(declaration(write=[{"type": "set", "key": "{a}:{b}", "member": "{id}"}]), list(columns), [["id"]], columns)[0] == []
    assert key_problems(declaration(write=[{"type": "set", "key": "x:{a}", "member": "{b}"}]), list(columns), [["a", "b"]], columns)[0] == []


def test_the_articles_mapping_is_an_exception_with_a_warning():
    found, warnings = key_problems(declaration(write=[{"type": "string", "key": "{column}"}]), ["id", "a", "b"], [])
    assert found == []
    assert "every row" in warnings[0]


def test_members_that_are_not_unique_may_be_inserted():
    wanted = declaration(write=[{"type": "set", "key": "cities", "member": "{a}"}])
    assert key_problems({**wanted, "events": ["insert"]}, ["id", "a"], [["id"]])[0] == []
    assert "events: [insert]" in key_problems(wanted, ["id", "a"], [["id"]])[0][0]


def test_keys_by_the_tables_own_spelling():
    wanted = declaration(columns=["ID"], write=[{"type": "hash", "key": "t:{ID}"}])
    assert key_problems(wanted, ["id"], [["id"]]) == ([], [])
    assert match_columns(["ID", "x", "Ä"], ["id", "ä"]) == ({"ID": "id", "Ä": "ä"}, ["x"])


def test_old_columns_are_those_of_all_templates_in_declared_order():
    assert old_columns(declaration(write=[{"type": "set", "key": "by:{b}", "member": "{id}"}, {"type": "string", "key": "x:{id}:{column}"}])) == ["id", "b"]
    assert old_columns(declaration(write=[{"type": "string", "key": "{column}"}])) == []
