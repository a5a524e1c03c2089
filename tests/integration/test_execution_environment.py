# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-builder reads in the collection names what runs where Ansible itself runs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.places import ROOT


def imported() -> set[str]:
    """The packages that the plugins import and that neither Python nor Ansible brings."""
    found = set()
    for path in (ROOT / "plugins").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add((node.module or "").partition(".")[0])
    # Ansible itself brings the readers of YAML and of templates.
    return found - sys.stdlib_module_names - {"ansible", "ansible_collections", "jinja2", "yaml"}


def delegated(tasks: list[dict[str, Any]], *, local: bool = False) -> Iterator[dict[str, Any]]:
    """The tasks that run on the controller."""
    for task in tasks:
        here = local or task.get("delegate_to") == "localhost"
        for block in ("block", "rescue", "always"):
            yield from delegated(task.get(block, []), local=here)
        if here and "block" not in task:
            yield task


def programs() -> set[str]:
    """The programs that the roles run on the controller, but for Ansible's own Python."""
    found = set()
    for path in (ROOT / "roles").glob("*/tasks/*.yml"):
        for task in delegated(yaml.safe_load(path.read_text(encoding="utf-8")) or []):
            command = task.get("ansible.builtin.command")
            if command:
                words = command if isinstance(command, str) else str(command["argv"])
                found.add(re.findall(r"[\w./-]+", words)[0])
    return found - {"ansible_playbook_python"}


@pytest.fixture(scope="module")
def introspected(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """The requirements for pip and for bindep that ansible-builder finds."""
    directory = tmp_path_factory.mktemp("introspected")
    here = directory / "ansible_collections/gearsync"
    here.mkdir(parents=True)
    (here / "mysql_redis").symlink_to(ROOT)
    builder = Path(sys.executable).parent / "ansible-builder"
    files = ["--write-pip", directory / "pip", "--write-bindep", directory / "bindep"]
    subprocess.run([builder, "introspect", *files, directory], check=True, capture_output=True)
    pip, bindep = ((directory / name).read_text().splitlines() for name in ("pip", "bindep"))
    return pip, bindep


def first_words(lines: list[str]) -> set[str]:
    return {re.split(r"[\s<>=~;]", line)[0].lower() for line in lines if line and not line.startswith("#")}


def test_the_environment_has_what_the_plugins_import(introspected: tuple[list[str], list[str]]) -> None:
    # The second is PyMySQL's, for an account with caching_sha2_password.
    assert first_words(introspected[0]) == imported() | {"cryptography"}


def test_the_environment_has_the_programs_that_roles_run_on_the_controller(
    introspected: tuple[list[str], list[str]],
) -> None:
    # tar runs the next three; ssh is Ansible's.
    others = {"gzip", "xz", "xz-utils", "openssh-client", "openssh-clients"}
    assert first_words(introspected[1]) == programs() | others
