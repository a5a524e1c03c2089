# SPDX-License-Identifier: GPL-2.0-or-later
"""The directories of src/: each may include its own headers and those of shared/, so that neither library
depends on the other.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"
PARTS: dict[str, set[str]] = {"shared": set(), "gman": {"shared"}, "json": {"shared"}}


def test_every_source_is_in_a_directory() -> None:
    assert {path.name for path in SRC.iterdir()} == set(PARTS)


@pytest.mark.parametrize("part", PARTS)
def test_a_directory_includes_itself_and_shared(part: str) -> None:
    outside = {}
    for path in sorted((SRC / part).glob("*.[ch]")):
        for header in re.findall(r'^#include "(.*)"', path.read_text(), re.MULTILINE):
            place = SRC / header if "/" in header else path.parent / header
            assert place.is_file(), f"{path.name} includes {header}"
            if place.parent != path.parent and place.parent.name not in PARTS[part]:
                outside[path.name] = header
    assert outside == {}
