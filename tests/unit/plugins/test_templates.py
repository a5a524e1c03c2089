# SPDX-License-Identifier: GPL-3.0-or-later
"""The templates of keys and values."""

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.template import (
    TemplateError,
    parse_template,
    template_names,
)
from hypothesis import given
from hypothesis import strategies as st


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
