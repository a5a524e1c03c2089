# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of the services, as the roles write them, by systemd's own judgement. The tests of deployed hosts
see them running.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from harness.places import ROOT

#: Most of what `systemd-analyze security` calls exposure, in tenths.
MOST = 13
UNITS = {
    "gearmand.service": "gearmand",
    "gearsync-worker.service": "worker",
    "gearsync-verify.service": "worker",
}


def ansible(role: str, module: str, arguments: dict[str, Any], **variables: Any) -> tuple[int, str]:
    """Exit status and output of a module here, with the defaults and variables of ``role``."""
    given = {"gearsync_source": "main", "gearsync_worker_mysql": {}, "gearsync_tables": [], **variables}
    given["ansible_python_interpreter"] = sys.executable
    files = [f"@{ROOT}/roles/{role}/{name}/main.yml" for name in ("defaults", "vars")]
    extra = [word for value in [*files, json.dumps(given)] for word in ("--extra-vars", value)]
    program = f"{Path(sys.executable).parent}/ansible localhost --inventory localhost, --connection local"
    done = subprocess.run(
        [*program.split(), "--module-name", module, "--args", json.dumps(arguments), *extra],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def systemd_judges_files() -> bool:
    """Whether this machine's systemd-analyze looks at units that are not loaded (systemd 250)."""
    if not shutil.which("systemd-analyze"):
        return False
    shown = subprocess.run(["systemd-analyze", "--version"], capture_output=True, text=True, check=True)
    version = re.search(r"systemd (\d+)", shown.stdout)
    return version is not None and int(version.group(1)) >= 250


@pytest.mark.skipif(not systemd_judges_files(), reason="systemd-analyze of this machine judges no files")
@pytest.mark.parametrize("unit", UNITS)
def test_the_units_have_an_exposure_of_1_3_at_most(tmp_path: Path, unit: str) -> None:
    file = tmp_path / unit
    template = ROOT / f"roles/{UNITS[unit]}/templates/{unit}.j2"
    status, said = ansible(UNITS[unit], "ansible.builtin.template", {"src": str(template), "dest": str(file)})
    assert status == 0, said
    judged = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=true", f"--threshold={MOST}", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr


WRONG = r"memory_max must be|unit_drop_in must begin"
#: Values of `memory_max` and `unit_drop_in`, and what is said of them.
SETTINGS = [
    ("512M", "[Service]\nNice=5\n", set()),
    ("12.5%", "# why\n\n[Unit]\nAfter=a.service", set()),
    ("512 MB", "Nice=5\n", {"memory_max must be", "unit_drop_in must begin"}),
]


@pytest.mark.parametrize(("memory", "drop_in", "said"), SETTINGS)
def test_settings_that_systemd_would_pass_over_are_refused(
    tmp_path: Path, memory: str, drop_in: str, said: set[str]
) -> None:
    _status, output = ansible(
        "gearmand",
        "ansible.builtin.debug",
        {"msg": "{{ __gearmand_checks | rejectattr('good') | map(attribute='text') | list }}"},
        gearmand_memory_max=memory,
        gearmand_unit_drop_in=drop_in,
    )
    assert set(re.findall(WRONG, output)) == said, output
    status, output = ansible(
        "worker",
        "ansible.builtin.include_role",
        {"name": "gearsync.mysql_redis.worker", "tasks_from": "preflight_source"},
        worker_memory_max=memory,
        worker_unit_drop_in=drop_in,
    )
    assert (status == 0) == (not said), output
    assert set(re.findall(WRONG, output)) == said, output
