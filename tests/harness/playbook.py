# SPDX-License-Identifier: GPL-3.0-or-later
"""ansible-playbook as users run it, with this machine as its hosts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Union

from harness.places import ROOT, kept


def _python() -> str:
    """The interpreter of these tests for Ansible's modules: it keeps their compiled code, as in the test
    hosts.
    """
    home = kept("module-python")
    (made := home / f"python.{os.getpid()}").write_text(
        f'#!/bin/sh\nexec env PYTHONPATH={home} {sys.executable} "$@"\n'
    )
    made.chmod(0o755)
    made.replace(home / "python")
    source = ROOT / "molecule/hosts/python/sitecustomize.py"
    (made := home / f"sitecustomize.{os.getpid()}").write_bytes(source.read_bytes())
    made.replace(home / source.name)
    return str(home / "python")


#: The variables of a host that is this machine.
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": _python()}


class Run(NamedTuple):
    """How a run ended."""

    status: int
    output: str

    @property
    def text(self) -> str:
        """The output without its line breaks, which are where the messages happen to be cut."""
        return " ".join(self.output.split())

    def recap(self, count: str) -> dict[str, int]:
        """That number ("changed", "failed") of each host."""
        lines = re.findall(r"(?m)^(\S+) +: (ok=.*)$", self.output)
        return {host: int(dict(re.findall(r"(\w+)=(\d+)", counts))[count]) for host, counts in lines}


def ansible_playbook(*arguments: Union[str, Path], **environment: str) -> Run:
    """Run it from the project's root."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **environment},
    )
    return Run(done.returncode, done.stdout + done.stderr)


def run_plays(
    directory: Path, inventory: Mapping[str, Any], plays: Sequence[Mapping[str, Any]], *options: str
) -> Run:
    """Run ``plays``, in the words of their files, whose files are written into ``directory``."""
    (directory / "inventory.yml").write_text(json.dumps(inventory))
    (directory / "plays.yml").write_text(json.dumps(plays))
    return ansible_playbook("-i", directory / "inventory.yml", *options, directory / "plays.yml")
