# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A template of a key, a member, a score or a value, taken apart. Pure.

The file stands twice, byte for byte the same; see rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# In the key of a string: each column's own name, one Redis key per column.
COLUMN_NAME = "column"
TEMPLATE_FIELDS = ("key", "member", "score", "value")
# Braces that are meant as such. Ansible takes those that are doubled for its own.
LITERALS = {"{[}": "{", "{]}": "}", "{{": "{", "}}": "}"}
_TOKEN = re.compile(r"\{\{|\}\}|\{[][]\}|\{([^{}]*)\}|[{}]")


class TemplateError(ValueError):
    """A template that cannot be read; the message is the reason."""


def parse_template(text: str) -> tuple[list[str], list[str]]:
    """'user:{id}' as (['user:', ''], ['id']): literal texts, and the names between them. Raises
    TemplateError.
    """
    texts, names, end = [""], [], 0
    for token in _TOKEN.finditer(text):
        texts[-1] += text[end : token.start()]
        end = token.end()
        if token.group() in LITERALS:
            texts[-1] += LITERALS[token.group()]
        elif token.group(1):
            names.append(token.group(1))
            texts.append("")
        elif token.group() == "{}":
            raise TemplateError("has empty braces")
        else:
            raise TemplateError(
                f"has a {token.group()!r} without its partner at character {token.start() + 1}"
            )
    texts[-1] += text[end:]
    return texts, names


def template_names(text: str) -> list[str]:
    """The names in a template's braces, each once, in their order. Raises TemplateError."""
    return list(dict.fromkeys(parse_template(text)[1]))


def is_per_column(write: Mapping[str, Any]) -> bool:
    """Whether a write makes one string of each column. Raises TemplateError."""
    return write["type"] == "string" and COLUMN_NAME in template_names(write["key"])


def write_columns(write: Mapping[str, Any], fields: Iterable[str] = TEMPLATE_FIELDS) -> list[str]:
    """The columns that these templates of a write name. Raises TemplateError."""
    names = []
    for field in fields:
        if write.get(field) is not None:
            is_key = field == "key" and write["type"] == "string"
            names += [name for name in template_names(write[field]) if not (is_key and name == COLUMN_NAME)]
    return list(dict.fromkeys(names))


def write_keys(write: Mapping[str, Any], fields: Iterable[str]) -> list[tuple[list[str], list[str]]]:
    """The keys that a write comes to, as parse_template has them: one, or one for each field of the row.
    Raises TemplateError.
    """
    texts, names = parse_template(write["key"])
    if not is_per_column(write):
        return [(texts, names)]
    keys = []
    for field in fields:
        own, others = texts[:1], []
        for name, text in zip(names, texts[1:]):
            if name == COLUMN_NAME:
                own[-1] += field + text
            else:
                others.append(name)
                own.append(text)
        keys.append((own, others))
    return keys
