# SPDX-License-Identifier: GPL-3.0-or-later
"""Comments, messages and names of the worker and of the modules, and the texts of roles, playbooks and
documents, are in the plain English of the field: none of these words is in them.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.places import ROOT
from harness.worker import SOURCES

#: The packages, and modules beside them, that are written so.
PLACES = [
    "apply",
    "cli",
    "contract.py",
    "declare",
    "operate",
    "outbox",
    "project",
    "servers",
    "shapes",
    "telemetry",
    "values.py",
]

BANNED = re.compile(
    r"\b(mend(s|ed|ing)?|mistakes?|(no|some|any)body|tells?|told|says?|said|in(to)? words|that is none|in "
    r"place of|goes? on|begins? anew)\b",
    re.IGNORECASE,
)
#: Parts of names, which are written with underscores.
BANNED_IN_NAMES = {
    "found",
    "mend",
    "mended",
    "mistake",
    "mistakes",
    "nobody",
    "said",
    "say",
    "tell",
    "told",
    "unfit",
    "words",
}
#: Members of JSON that users read: they keep their names.
CONTRACTS = {"mistake", "mistakes", "words"}

MODULES = sorted(
    path
    for place in PLACES
    for path in (SOURCES / "gearsync").rglob("*.py")
    if path.relative_to(SOURCES / "gearsync").parts[0] == place
)
MODULES += sorted((ROOT / "plugins").rglob("*.py"))
#: What users read beside that: tasks with their messages, variables, alerts, guides.
TEXTS = sorted(
    path
    for place in ("roles", "playbooks", "plugins", "docs", "meta", "molecule/hosts")
    for path in (ROOT / place).rglob("*")
    if path.suffix in {".yml", ".md", ".j2", ".sh", ".json"}
)
TEXTS += [
    ROOT / name
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "worker/README.md", "udf/README.md")
]
#: A member of JSON that a task reads.
READ_BY_TASKS = "(__worker_status.stdout | from_json).mistakes"


def texts(source: str) -> Iterator[tuple[int, str]]:
    """Each comment and each string, docstrings too, with its line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            if text not in CONTRACTS:
                yield node.lineno, text


def names(source: str) -> Iterator[tuple[int, str]]:
    """Each name that is defined: functions, classes, arguments and variables, with its line."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr


def banned(source: str) -> list[str]:
    in_texts = [f"{line}: {match[0]}" for line, text in texts(source) for match in BANNED.finditer(text)]
    return in_texts + [
        f"{line}: {name}"
        for line, name in names(source)
        if BANNED_IN_NAMES & {part.lower() for part in re.findall(r"[A-Z]?[a-z]+", name)}
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_uses_these_words(module: Path) -> None:
    assert banned(module.read_text()) == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_uses_these_words(path: Path) -> None:
    text = path.read_text().replace(READ_BY_TASKS, "")
    assert [match[0] for match in BANNED.finditer(text)] == []


def test_comments_messages_docstrings_and_names_are_looked_through() -> None:
    source = (
        '"""Mends it."""\nwords = f"{x}: nobody"  # told\ndef say_dead(found):\n    raise E(b"no mistake")\n'
    )
    assert banned(source) == [
        "2: told",
        "1: Mends",
        "2: nobody",
        "4: mistake",
        "3: say_dead",
        "2: words",
        "3: found",
    ]
    assert banned('{"mistakes": 1}') == []
