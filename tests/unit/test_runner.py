# SPDX-License-Identifier: GPL-3.0-or-later
"""tests/run is green only when each step has passed and its tests have run."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runner.reports import Outcomes
from runner.schedule import Run, judge, status_in_words
from runner.steps import Invalid, Step, choose, load

RUN = Path(__file__).resolve().parents[1] / "run"
ONE_PASSED = "<testsuites><testsuite><testcase classname='t' name='one' time='0.1'/></testsuite></testsuites>"
ONE_SKIPPED = (
    "<testsuites><testsuite><testcase classname='t' name='one' time='0.1'><skipped message='no such "
    "server'/></testcase></testsuite></testsuites>"
)
ONE_FAILED = (
    "<testsuites><testsuite><testcase classname='t' name='one' time='0.1'><failure "
    "message='no'/></testcase></testsuite></testsuites>"
)


@dataclasses.dataclass
class Output:
    status: int
    text: str


def run(directory: Path, steps: str, *names: str) -> Output:
    """Run steps, given as a file's text, with tests/run."""
    file = directory / "steps.toml"
    file.write_text(steps)
    done = subprocess.run(
        [sys.executable, RUN, "--file", file, "--work", directory, *names],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "GEARSYNC_REPORTS"},
    )
    return Output(done.returncode, done.stdout)


def leaves(report: str) -> str:
    """A step's command that leaves a report."""
    return f'''run = """echo "{report}" >$GEARSYNC_REPORTS/pytest.xml"""\n'''


def test_a_run_in_which_each_step_passes_is_green_and_names_each(tmp_path: Path) -> None:
    output = run(tmp_path, f"[first]\nrun = 'true'\n[second]\ntests = true\n{leaves(ONE_PASSED)}")
    assert output.status == 0, output.text
    assert "all 2 steps passed" in output.text
    assert output.text.rstrip().endswith("1 passed, 0 failed, 0 skipped")
    assert "first              starts" in output.text
    assert "The slowest tests:\n      0.1 s  t::one" in output.text


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("exit 3", "exit status 3"),
        ("kill -KILL $$", "killed by SIGKILL"),
        # As the kernel does it to a command of a step when the memory is used up.
        ("bash -c 'kill -KILL $$'; true", "exit status 137 (a command was killed by SIGKILL)"),
        ("if then", "exit status 2"),
        ("false | true", "exit status 1"),
        ("no-such-command-anywhere", "exit status 127"),
    ],
)
def test_a_step_that_did_not_pass_makes_the_run_red(tmp_path: Path, command: str, problem: str) -> None:
    output = run(tmp_path, f'[good]\nrun = "true"\n[bad]\nrun = """{command}"""\n')
    assert output.status == 1, output.text
    assert f"bad: {problem}" in output.text
    assert "failed: bad" in output.text
    assert "all 2 steps passed" not in output.text


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ("run = 'true'", "no test ran"),
        (leaves("<testsuites><testsuite tests='0'/></testsuites>"), "no test ran"),
        (leaves(ONE_SKIPPED), "no test ran: 1 skipped"),
        (leaves(ONE_FAILED), "exit status 0, but 1 tests failed"),
        (leaves(ONE_PASSED[:50]), "a report cannot be read"),
    ],
)
def test_a_step_whose_tests_did_not_run_makes_the_run_red(tmp_path: Path, step: str, problem: str) -> None:
    output = run(tmp_path, f"[tests]\ntests = true\n{step}")
    assert output.status == 1, output.text
    assert f"tests: {problem}" in output.text


def test_a_pytest_that_collects_nothing_makes_the_run_red(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    output = run(
        tmp_path,
        f"[tests]\ntests = true\nrun = '{sys.executable} -m pytest -p no:cacheprovider "
        f"{tmp_path / 'empty'}'\n",
    )
    assert output.status == 1, output.text
    assert "tests: exit status 5" in output.text


def test_skipped_tests_are_counted_with_their_reasons(tmp_path: Path) -> None:
    both = ONE_PASSED.replace(
        "</testsuite>", ONE_SKIPPED[len("<testsuites><testsuite>") : -len("</testsuites>")]
    )
    output = run(tmp_path, f"[tests]\ntests = true\n{leaves(both)}")
    assert output.status == 0, output.text
    assert "Skipped (1):\n     1  tests: no such server" in output.text
    assert "1 passed, 0 failed, 1 skipped" in output.text


def test_a_run_that_is_ended_ends_its_steps_and_is_red(tmp_path: Path) -> None:
    (tmp_path / "steps.toml").write_text(
        "[long]\nrun = 'echo $$ >long.pid; exec sleep 1000'\n[never]\nrun = 'true'\n"
    )
    steps = (tmp_path / "steps.toml").read_text().replace("long.pid", str(tmp_path / "long.pid"))
    (tmp_path / "steps.toml").write_text(steps)
    process = subprocess.Popen(
        [sys.executable, RUN, "--file", tmp_path / "steps.toml", "--work", tmp_path, "--jobs", "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "long.pid").exists() or not (tmp_path / "long.pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    text, _errors = process.communicate(timeout=120)
    assert process.returncode == 1, text
    assert "long: killed by SIGTERM" in text
    assert "steps without a result: never" in text
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "long.pid").read_text()), 0)


def test_a_lane_that_ends_early_leaves_steps_without_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Run, step: Step) -> None:
        raise MemoryError

    monkeypatch.setattr(Run, "_run", killed)
    said: list[str] = []
    assert Run(tmp_path, tmp_path, [Step("one", "true"), Step("two", "true")], 1, said.append).go() == []
    assert said[-1] == "a lane of the run ended: MemoryError()"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a]\n", "step a needs `run`"),
        ("[a]\nrun = 'true'\ntest = true\n", "step a needs `run` and takes run, tests"),
        ("[a\n", "steps.toml"),
    ],
)
def test_a_file_of_steps_with_an_error_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "steps.toml").write_text(text)
    with pytest.raises(Invalid, match=message):
        load(tmp_path / "steps.toml")


def test_an_unknown_step_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(Invalid, match="no step is called lnit; the steps are unit, lint"):
        choose([Step("unit", "true"), Step("lint", "true")], ["lnit"])


def test_a_status_is_in_words() -> None:
    assert [status_in_words(status) for status in (0, 1, -9, 137, 255)] == [
        "",
        "exit status 1",
        "killed by SIGKILL",
        "exit status 137 (a command was killed by SIGKILL)",
        "exit status 255",
    ]


def test_a_step_without_tests_needs_no_report() -> None:
    assert judge(Step("lint", "true"), 0, Outcomes()) == ""


def test_tests_of_playbooks_are_left_out_in_the_host_with_mysql() -> None:
    """It has the modules and the worker, and no playbooks or test hosts."""
    tests = RUN.parent / "integration"
    (left_out,) = re.findall(r"\$\(without tests/integration ([\w ]+)\)", (tests / "on-mysql").read_text())
    of_playbooks = {
        path.stem.removeprefix("test_")
        for path in tests.glob("test_*.py")
        if re.search(r"harness(\.| import )(playbook|managed|hosts)\b", path.read_text())
    }
    assert len(of_playbooks) > 10
    assert of_playbooks <= {*left_out.split()}
