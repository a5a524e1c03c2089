# SPDX-License-Identifier: GPL-3.0-or-later
import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._column_sql import (
    column_kind,
    same_expression,
    value_expression,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    HEADER,
    Trigger,
    beside_name,
    body_of,
    clean_body,
    create_sql,
    differences,
    plan,
    shorten,
    trigger_name,
    wanted_triggers,
)
from hypothesis import given
from hypothesis import strategies as st


def column(data_type, **changes):
    return {
        "name": "c",
        "data_type": data_type,
        "column_type": data_type,
        "collation": None,
        "precision": None,
        "nullable": True,
        "is_json": False,
        **changes,
    }


TRIGGER = Trigger("s", "n", "t", "after", "insert", "SET @a = 1", None, "STRICT_TRANS_TABLES", 0)


@pytest.mark.parametrize(
    ("given_column", "kind"),
    [
        (column("int"), "integer"),
        (column("int", column_type="int(5) unsigned zerofill"), "text"),
        (column("decimal"), "decimal"),
        (column("bit"), "bit"),
        (column("double"), "float"),
        (column("timestamp"), "timestamp"),
        (column("datetime"), "text"),
        (column("year"), "text"),
        (column("json", is_json=True), "json"),
        (column("longtext", is_json=True, collation="utf8mb4_bin"), "json"),
        (column("blob"), "binary"),
        (column("geomcollection"), "binary"),
        (column("vector"), "binary"),
        (column("varchar", collation="utf8mb4_general_ci"), "text"),
        (column("enum", collation="binary"), "binary"),
        (column("uuid"), "text"),
        (column("inet6"), "text"),
        (column("a type of tomorrow"), "text"),
    ],
)
def test_kinds(given_column, kind):
    assert column_kind(given_column) == kind


def test_every_kind_has_a_value():
    for data_type in ("int", "decimal", "bit", "float", "timestamp", "blob", "varchar", "json"):
        wanted = column(data_type, is_json=data_type == "json")
        assert "NEW.`c`" in value_expression(wanted, "NEW")
        assert "NEW.`c`" in same_expression(wanted)
        assert "OLD.`c`" in same_expression(wanted)


def test_timestamps_keep_their_fraction():
    assert "DATETIME(3)" in value_expression(column("timestamp", precision=3), "NEW")
    assert "DATETIME)" in value_expression(column("timestamp", precision=0), "NEW")


@given(st.text(min_size=1, max_size=64))
def test_names_fit_and_differ(table):
    names = {trigger_name(table, event) for event in ("insert", "update", "delete")}
    assert len(names) == 3
    assert all(len(name) <= 64 for name in names)
    assert all(len(beside_name(name)) <= 64 and beside_name(name) not in names for name in names)


def test_long_names_that_begin_alike_differ():
    assert shorten("x" * 100 + "a") != shorten("x" * 100 + "b")


IDENTIFIERS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(schema=IDENTIFIERS, name=IDENTIFIERS, table=IDENTIFIERS, other=st.none() | IDENTIFIERS, body=st.text())
def test_a_body_is_found_again_in_the_statement(schema, name, table, other, body):
    body = "SET " + body
    statement = create_sql(
        Trigger(schema, name, table, "after", "insert", body, "u@h", "", 0), precedes=other
    )
    assert body_of(statement) == clean_body(body)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE DEFINER=`a`@`b` TRIGGER `x` AFTER INSERT ON `t` FOR EACH ROW BODY",
        "create trigger x before update on `for each row`.t for\teach\n row follows `a``b`\n BODY",
        "CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW/* c */BODY",
    ],
)
def test_headers(statement):
    assert body_of(statement).replace("/* c */", "") == "BODY"


def test_a_statement_without_header_has_no_body():
    assert HEADER.match("whatever") is None
    assert body_of("whatever") is None


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, []),
        ({"body": "SET @a = 2"}, ["body"]),
        ({"body": " SET @a = 1 ; "}, []),
        ({"timing": "before"}, ["event"]),
        ({"event": "delete"}, ["event"]),
        ({"sql_mode": ""}, ["sql_mode"]),
        ({"definer": "a@b"}, []),
    ],
)
def test_differences(changes, found):
    assert differences(TRIGGER._replace(**changes), TRIGGER) == found


def test_a_definer_counts_when_it_is_wanted():
    assert differences(TRIGGER._replace(definer="a@B"), TRIGGER._replace(definer="a@b")) == []
    assert differences(TRIGGER._replace(definer="A@b"), TRIGGER._replace(definer="a@b")) == ["definer"]


def simulate(statements, there):
    """Carry out a plan on the names that are there; the smallest number of triggers at any moment."""
    least = len(there)
    for statement in statements:
        name = statement.split("TRIGGER `s`.`")[1].split("`")[0]
        if statement.startswith("DROP"):
            there.remove(name)
        elif "OR REPLACE" not in statement:
            assert name not in there
            there.add(name)
        least = min(least, len(there))
    return least


@pytest.mark.parametrize("engine", ["mariadb", "mysql"])
@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("beside_is_wanted", [True, False])
def test_a_plan_leaves_no_moment_without_a_trigger(engine, existing, beside, beside_is_wanted):
    old = TRIGGER._replace(body="SET @old = 1") if existing else None
    spare = TRIGGER._replace(name=beside_name("n")) if beside else None
    there = {trigger.name for trigger in (old, spare) if trigger}
    before = len(there)
    statements = plan(
        engine, TRIGGER, old, beside=spare, beside_is_wanted=beside_is_wanted and beside, follower=None
    )
    least = simulate(statements, there)
    assert there == {"n"}
    assert least >= min(before, 1)


FACTS = {
    "name": "t",
    "unique_keys": [["id"]],
    "columns": [column("int", name="id"), column("varchar", name="it's", collation="utf8mb4_general_ci")],
}


@given(function=st.text(min_size=1, max_size=40), table=st.text(min_size=1, max_size=40))
def test_texts_in_bodies_are_quoted(function, table):
    declaration = {
        "table": table,
        "delivery": "direct",
        "function": function,
        "events": ["insert", "update", "delete"],
        "columns": ["id", "it's"],
        "write": [{"type": "hash", "key": "{id}"}],
    }
    for trigger in wanted_triggers("s", declaration, FACTS, None, ""):
        # Without its quoted texts and names a body has no quotes left.
        rest, text = [], trigger.body
        while text:
            if text[0] in "'`":
                quote, end = text[0], 1
                while text[end] != quote or text[end + 1 : end + 2] == quote:
                    end += 2 if text[end] in ("\\", quote) and (quote == "'" or text[end] == quote) else 1
                text = text[end + 1 :]
            else:
                rest.append(text[0])
                text = text[1:]
        assert "".join(rest).count("END") >= 2


def test_an_update_compares_what_is_declared_and_sends_what_removes():
    declaration = {
        "table": "s.t",
        "delivery": "direct",
        "function": "f",
        "events": ["update"],
        "columns": ["id", "it's"],
        "write": [{"type": "hash", "key": "{id}"}],
    }
    (trigger,) = wanted_triggers("s", declaration, FACTS, None, "")
    assert (
        "NEW.`id` <=> OLD.`id` AND CAST(NEW.`it's` AS BINARY) <=> CAST(OLD.`it's` AS BINARY)" in trigger.body
    )
    assert "'old', JSON_OBJECT('id', OLD.`id`)" in trigger.body
