"""The rule book is one, wherever it stands."""

from __future__ import annotations

import pytest
from harness.places import ROOT

COLLECTION, WORKER = ROOT / "plugins/module_utils/_declare", ROOT / "worker/src/gearsync/declare"


@pytest.mark.parametrize("name", [path.name for path in COLLECTION.glob("*.py") if path.name != "__init__.py"])
def test_both_copies_are_the_same(name: str) -> None:
    assert (COLLECTION / name).read_bytes() == (WORKER / name).read_bytes()


def test_the_rule_book_has_a_copy_of_what_it_imports() -> None:
    assert {path.name for path in COLLECTION.glob("*.py")} >= {"rules.py", "template.py", "problem.py"}
