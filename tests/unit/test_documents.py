# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation points to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness.places import ROOT

DOCUMENTS = sorted(path for pattern in ("*.md", "[!.]*/**/*.md") for path in ROOT.glob(pattern))
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
#: A path of the repository, and no command, pattern or placeholder.
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+/?")


def without_blocks(document: Path) -> str:
    return re.sub(r"(?ms)^```.*?^```", "", document.read_text(encoding="utf-8"))


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.*)$", without_blocks(document))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    broken = []
    for link in LINK.findall(without_blocks(document)):
        if re.match(r"\w+:", link):
            continue
        name, anchor = [*link.split("#", 1), ""][:2]
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


#: What `make build` puts into the archive, and no checkout has.
ONLY_IN_THE_ARCHIVE = {"roles/mysql_udf/files/udf", "roles/worker/files/sources.sha256"}


@pytest.mark.parametrize("name", ["docs/development.md", "CONTRIBUTING.md"])
def test_each_path_of_the_map_exists(name: str) -> None:
    text = without_blocks(ROOT / name)
    paths = [code for code in CODE.findall(text) if PATH.fullmatch(code)]
    assert paths
    # The worker's packages are named without their long way.
    places = (ROOT, ROOT / "worker/src/gearsync")
    wanted = [
        path for path in paths if path not in ONLY_IN_THE_ARCHIVE and not path.startswith((".work", "/"))
    ]
    assert [path for path in wanted if not any((place / path).exists() for place in places)] == []


def test_the_map_names_the_packages_of_the_worker_in_the_order_of_their_imports() -> None:
    table = re.search(
        r"(?s)\| package \| its job \|\n(.*?)\n\n", (ROOT / "docs/development.md").read_text(encoding="utf-8")
    )
    assert table
    named = [
        name.removesuffix(".py")
        for line in table.group(1).splitlines()
        for name in CODE.findall(line.split("|")[1])
    ]
    order = re.search(
        r"(?ms)^ORDER = (\[.*?\])$", (ROOT / "worker/tests/unit/test_imports.py").read_text(encoding="utf-8")
    )
    assert order
    assert named == re.findall(r'"(\w+)"', order.group(1))
