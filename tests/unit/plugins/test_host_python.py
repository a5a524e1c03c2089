# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on managed hosts keeps to the syntax of the oldest Python that docs/platforms.md promises there.
`tests/compatibility` runs it with that Python.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from harness.places import ROOT

FILES = sorted(
    path for place in ("modules", "module_utils") for path in (ROOT / "plugins" / place).rglob("*.py")
)


def oldest() -> tuple[int, int]:
    """The first number of the table's last column."""
    rows = re.findall(
        r"(?m)^\| 2\.\d+ \| [^|]+ \| 3\.(\d+) to", (ROOT / "docs/platforms.md").read_text(encoding="utf-8")
    )
    return 3, min(map(int, rows))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_modules_keep_to_the_syntax_of_the_oldest_python(path: Path) -> None:
    ast.parse(path.read_text(encoding="utf-8"), feature_version=oldest())


def test_newer_syntax_is_noticed() -> None:
    with pytest.raises(SyntaxError):
        ast.parse("with (a as b, c as d):\n    pass\n", feature_version=oldest())
