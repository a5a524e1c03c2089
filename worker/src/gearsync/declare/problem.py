# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a declaration or a configuration, as it is reported. Pure.

The file stands twice, byte for byte the same; see rules.py.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """What is wrong at a place, which is counted from 0, and what to do; and the name of the table that
    it is about.
    """

    path: tuple[str | int, ...]
    message: str
    hint: str = ""
    table: str = ""

    def below(self, *path: str | int) -> Problem:
        return self._replace(path=(*path, *self.path))

    def __str__(self) -> str:
        place = " of ".join(filter(None, (path_text(self.path), self.table)))
        return f"{f'{place}: ' if place else ''}{self.message}{f'; {self.hint}' if self.hint else ''}"


def path_text(path: Iterable[str | int]) -> str:
    """('tables', 0, 'write', 1, 'key') as tables[0].write[1].key."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def shown(text: str) -> str:
    """The beginning of a text in quotes, without what cannot be printed."""
    line = text.partition("\n")[0][:80]
    return str.__repr__(line if line == text else f"{line}…")


def closest(name: Any, known: Iterable[str]) -> str | None:
    """The one of the known names that was meant, if one is like it."""
    names = {each.lower(): each for each in reversed(list(known))}
    close = difflib.get_close_matches(name.lower(), names, n=1) if isinstance(name, str) else []
    return names[close[0]] if close else None


def suggestion(name: Any, known: Iterable[str], otherwise: str) -> str:
    """A hint: which of the known names was meant, or what else to do."""
    close = closest(name, known)
    return f"did you mean {close}?" if close else otherwise
