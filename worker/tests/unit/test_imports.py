# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service does without costs it no memory, and no package imports one that stands above it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from harness.worker import SOURCES


def test_the_service_imports_nothing_that_only_commands_and_the_exporter_need() -> None:
    script = (
        "import sys, gearsync.cli.run; print(*{'rich', 'prometheus_client', 'http.server', "
        "'gearsync.operate.verify'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SOURCES)},
    )
    assert found.stdout.split() == []


#: The packages, each of which may import those before it and nothing behind it. What is not in this list is a
#: module beside them.
ORDER = [
    "contract",
    "values",
    "telemetry",
    "declare",
    "shapes",
    "project",
    "servers",
    "outbox",
    "apply",
    "operate",
    "cli",
]
PACKAGE = SOURCES / "gearsync"


def imported(module: Path) -> Iterator[str]:
    """The packages of gearsync that a module imports, at its top or later."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gearsync":
            yield from (
                [node.module.split(".")[1]]
                if "." in str(node.module)
                else [name.name for name in node.names if name.name != "__version__"]
            )
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("gearsync."))


def test_packages_import_in_one_direction() -> None:
    modules = [
        module
        for module in PACKAGE.rglob("*.py")
        if module.name not in ("__init__.py", "__main__.py") or module.parent != PACKAGE
    ]
    places = {module: module.relative_to(PACKAGE).parts[0].removesuffix(".py") for module in modules}
    assert set(places.values()) == set(ORDER)
    backwards = [
        f"{module.relative_to(PACKAGE)} imports {name}"
        for module, place in places.items()
        for name in imported(module)
        if ORDER.index(name) > ORDER.index(place)
    ]
    assert backwards == []
