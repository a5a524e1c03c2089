"""A template of a key, a member, a score or a value, taken apart. Pure."""

from __future__ import annotations

import re

#: ``{column}`` in a key of type string: not a column of that name, but each declared column's name in turn.
COLUMN_NAME = "column"

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class TemplateError(ValueError):
    """A template that cannot be read; the message says why."""


class Template:
    """``user:{id}`` taken apart: literal texts and, between them, column names."""

    __slots__ = ("columns", "texts")

    def __init__(self, template: str) -> None:
        """Raises TemplateError for a brace without its partner or an empty name."""
        self.texts: list[str] = [""]
        self.columns: list[str] = []
        end = 0
        for token in _TOKEN.finditer(template):
            self.texts[-1] += template[end : token.start()]
            end = token.end()
            if token.group() in ("{{", "}}"):
                self.texts[-1] += token.group()[0]
            elif token.group(1):
                self.columns.append(token.group(1))
                self.texts.append("")
            else:
                raise TemplateError(f"{template!r}: {token.group()!r} at position {token.start()}; write {{{{ and }}}} for braces themselves")
        self.texts[-1] += template[end:]
