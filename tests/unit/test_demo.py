# SPDX-License-Identifier: GPL-3.0-or-later
"""`make demo` says which step failed and where its log is, whichever it is. Everything that it starts is
a stub here.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Answers what the deployed host would, until it is told to fail.
PODMAN = """#!/bin/sh
[ "$1" = exec ] && shift 3
case "$*" in
    inspect*) echo 192.0.2.1 ;;
    *"command -v"*) echo redis-cli ;;
    "redis-cli get name") echo hello ;;
    "redis-cli get password") echo world ;;
    *gman_do*) echo '!dlrow olleh' ;;
    *COUNT*) echo 10000 ;;
    *"FROM customer"*) printf '1\\tAda\\tBergen\\t0.0000\\n' ;;
    *@@socket*) echo /run/mysqld/mysqld.sock ;;
    */python*) echo "load on $3: $(grep -c '^class Reader' -)" ;;
    */gearsync*) echo "$2 says equal" ;;
esac
case "$*" in *"$FAILS"*) exit 1 ;; esac
"""
COMMANDS = (
    "molecule/hosts/prepare",
    "molecule/hosts/up",
    "molecule/hosts/gearmand-archive",
    "tests/setup",
    ".work/venv/bin/ansible-playbook",
    ".work/venv/bin/python",
)


def script(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def checkout(tmp_path):
    """A directory with the script itself and with commands that do nothing."""
    (tmp_path / "molecule/demo").mkdir(parents=True)
    for name in ("run", "load.py"):
        shutil.copy(ROOT / "molecule/demo" / name, tmp_path / "molecule/demo" / name)
    for command in COMMANDS:
        script(tmp_path / command, "#!/bin/sh\necho output of $0\n")
    script(tmp_path / "molecule/hosts/podman", PODMAN)
    return tmp_path


def demo(checkout, *arguments, fails="\n"):
    done = subprocess.run(
        [checkout / "molecule/demo/run", *arguments],
        cwd=checkout,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "FAILS": fails},
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_run_without_failures_goes_to_its_end(checkout):
    status, output = demo(checkout)
    assert status == 0, output
    assert "[9/9] Done" in output
    # The whole program goes to the host's Python, which connects where the server listens.
    assert "load on /run/mysqld/mysqld.sock: 1" in output
    assert "verify says equal" in output
    assert "http://192.0.2.1:9788/metrics" in output


@pytest.mark.parametrize(
    ("command", "step", "log"),
    [
        ("molecule/hosts/prepare", "step 1 failed", "demo-prepare.log"),
        ("molecule/hosts/up", "step 2 failed", "demo-up.log"),
        ("tests/setup", "step 2 failed", "demo-setup.log"),
        ("molecule/hosts/gearmand-archive", "step 2 failed", "demo-archive.log"),
        (".work/venv/bin/ansible-playbook", "step 3 failed", "demo-site.log"),
        (".work/venv/bin/python", "step 9 failed", "demo-metrics.log"),
    ],
)
def test_a_command_that_fails_is_named_with_its_log(checkout, command, step, log):
    script(checkout / command, "#!/bin/sh\necho what went wrong\nexit 3\n")
    status, output = demo(checkout)
    assert status == 1, output
    assert step in output
    assert f".work/log/{log}" in output
    assert "what went wrong" in (checkout / ".work/log" / log).read_text()


@pytest.mark.parametrize(
    ("words", "step"),
    [
        ("command -v", "step 3 failed"),
        ("troy", "step 4 failed"),
        ("hello', pass", "step 4 failed"),
        ("gman_do", "step 5 failed"),
        ("COUNT", "step 6 failed"),
        ("zscore", "step 6 failed"),
        ("@@socket", "step 7 failed"),
        ("venv/bin/python", "step 7 failed"),
        ("gearsync verify", "step 8 failed"),
        ("inspect", "step 9 failed"),
    ],
)
def test_a_question_to_the_host_that_fails_is_named(checkout, words, step):
    status, output = demo(checkout, fails=words)
    assert status == 1, output
    assert step in output
    assert "its log: " in output


def test_an_unknown_platform_is_refused_with_the_known_ones(checkout):
    status, output = demo(checkout, "nosuch")
    assert status == 2
    for word in ("nosuch", "mariadb", "mysql", "el9"):
        assert word in output
