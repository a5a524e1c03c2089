# SPDX-License-Identifier: GPL-3.0-or-later
"""The callback by which runs of ansible-playbook share what they send to hosts."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from harness.places import ROOT

PLUGIN = ROOT / "molecule/callback/kept_modules.py"


def play(directory: Path) -> dict[str, float]:
    """Run a module on this machine: what is kept after it, with the times at which it was written."""
    (directory / "play.yml").write_text(
        "[{hosts: localhost, gather_facts: false, tasks: [{ansible.builtin.ping: }]}]"
    )
    options = ["-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
    environment = {
        "ANSIBLE_CALLBACK_PLUGINS": str(PLUGIN.parent),
        "ANSIBLE_CALLBACKS_ENABLED": "kept_modules",
        "ANSIBLE_LOCAL_TEMP": str(directory / "temporary"),
        "GEARSYNC_KEPT_MODULES": str(directory / "kept"),
    }
    subprocess.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), *options, "play.yml"],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
    )
    assert list((directory / "temporary").iterdir()) == []
    return {
        path.name: path.stat().st_mtime
        for path in (directory / "kept").glob("*/*")
        if "lock" not in path.name
    }


def test_a_module_is_packed_once_for_several_runs(tmp_path: Path) -> None:
    kept = play(tmp_path)
    assert [name for name in kept if "ping" in name] == list(kept)
    assert kept
    assert play(tmp_path) == kept


def test_other_plugins_are_kept_apart(tmp_path: Path) -> None:
    specification = importlib.util.spec_from_file_location("kept_modules", PLUGIN)
    assert specification is not None
    assert specification.loader is not None
    callback = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(callback)
    keys = []
    for content in ("", "changed = 1\n"):
        for name in ("one", "other"):
            file = tmp_path / name / callback.PLUGINS / "modules/example.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            keys.append(callback.key([str(tmp_path / name), "/nonexistent"]))
    assert len(set(keys)) == len(keys)
    assert callback.key([str(tmp_path / "other")]) == keys[-1]
