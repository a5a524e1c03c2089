# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule book: names of tables and sources, and how problems show what users wrote."""

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.problem import (
    Problem,
    shown,
    suggestion,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    source_problems,
    split_table_name,
)
from hypothesis import given
from hypothesis import strategies as st


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


def test_texts_are_shown_in_one_line():
    assert shown("a\nb") == "'a…'"
    assert shown("x" * 100) == f"'{'x' * 80}…'"
    assert str(Problem((), "is wrong")) == "is wrong"
    assert suggestion("ID", ["id", "nr"], "no") == "did you mean id?"
    assert suggestion(5, ["id"], "no") == "no"
