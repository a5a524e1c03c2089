# SPDX-License-Identifier: GPL-3.0-or-later
"""A host whose Python is too old, as Enterprise Linux 8's own, is refused with what it needs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from harness.places import ROOT
from harness.playbook import LOCAL, Run, run_plays

REACH = {"import_playbook": str(ROOT / "playbooks/reach.yml")}
#: What a host of Enterprise Linux 8 reports, where Ansible's own modules still run on its Python.
FACTS = {
    "architecture": "x86_64",
    "distribution": "Rocky",
    "distribution_major_version": "8",
    "distribution_version": "8.10",
    "nodename": "db1",
    "os_family": "RedHat",
    "selinux": {"status": "disabled"},
    "service_mgr": "systemd",
}


def python36() -> str | None:
    """This machine's, of pyenv or on the PATH."""
    found = sorted((Path.home() / ".pyenv/versions").glob("3.6.*/bin/python3.6"))
    return str(found[-1]) if found else shutil.which("python3.6")


def stand_in(directory: Path) -> str:
    """A program that says of each module what Python 3.6 says."""
    program = directory / "python3.6"
    program.write_text(
        "#!/bin/sh\necho 'SyntaxError: future feature annotations is not defined' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    return str(program)


def reach(directory: Path, interpreter: str) -> Run:
    old = {**LOCAL, "ansible_python_interpreter": interpreter}
    inventory = {"gearsync_mysql": {"hosts": {"db1": old}}, "gearsync_workers": {"hosts": {"w1": LOCAL}}}
    return run_plays(directory, inventory, [REACH])


@pytest.mark.parametrize("real", [False, True], ids=["stand-in", "real"])
def test_a_host_on_which_no_module_runs_is_told_what_it_needs(tmp_path: Path, real: bool) -> None:
    interpreter = python36() if real else stand_in(tmp_path)
    if interpreter is None:
        pytest.skip("this machine has no Python 3.6")
    done = reach(tmp_path, interpreter)
    assert done.recap("failed") == {"db1": 1, "w1": 0}, done.output
    assert "Ansible's modules do not run on db1: " in done.text
    assert "(SyntaxError: future feature annotations is not defined). Nothing was changed." in done.text
    assert "name it in ansible_python_interpreter: docs/platforms.md has the versions" in done.text


def platform(directory: Path, version: list[int]) -> Run:
    """The role platform on a host that reports that Python."""
    python = {"executable": "/usr/libexec/platform-python", "version_info": [*version, 8, "final", 0]}
    facts: dict[str, Any] = {f"ansible_{name}": value for name, value in {**FACTS, "python": python}.items()}
    tasks = [
        {"ansible.builtin.set_fact": {**facts, "cacheable": True}},
        {"ansible.builtin.include_role": {"name": "gearsync.mysql_redis.platform"}},
    ]
    inventory = {"all": {"hosts": {"db1": LOCAL}}}
    return run_plays(directory, inventory, [{"hosts": "db1", "gather_facts": False, "tasks": tasks}])


def test_a_python_too_old_for_the_modules_of_the_collection_is_refused(tmp_path: Path) -> None:
    done = platform(tmp_path, [3, 6])
    assert done.status == 2, done.output
    assert (
        "Python on db1 (/usr/libexec/platform-python) is 3.6.8, and the modules of this collection need 3.7 "
        "or newer. Nothing was changed." in done.text
    )


def test_the_oldest_python_that_is_promised_is_taken(tmp_path: Path) -> None:
    done = platform(tmp_path, [3, 7])
    assert done.status == 0, done.output
