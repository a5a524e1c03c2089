# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs steps side by side, each in a process group of its own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from runner import reports
from runner.steps import Step

#: Seconds between two lines about the steps that run.
HEARTBEAT = 60


@dataclasses.dataclass
class Result:
    """How a step ended."""

    step: Step
    seconds: float
    #: What is wrong; empty when the step passed.
    problem: str
    tests: reports.Outcomes
    tasks: list[reports.Timing]


def status_in_words(status: int) -> str:
    """What an exit status says, in a message; empty for success."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    # A shell passes a signal on like this, as bash does for the command it waits for.
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"exit status {status} (a command was killed by {signal.Signals(status - 128).name})"
    return f"exit status {status}" if status else ""


def judge(step: Step, status: int, tests: reports.Outcomes) -> str:
    """What is wrong with a step that ended; empty when it passed."""
    if status:
        return status_in_words(status)
    if tests.broken:
        return f"a report cannot be read: {', '.join(tests.broken)}"
    if tests.failed:
        return f"exit status 0, but {tests.failed} tests failed"
    if step.tests and not tests.ran:
        return "no test ran" + (f": {tests}" if tests.skipped else "")
    return ""


class Run:
    """A run of steps, ``jobs`` at a time, in the order of the list."""

    def __init__(
        self, root: Path, work: Path, steps: list[Step], jobs: int, say: Callable[[str], None]
    ) -> None:
        """``work``: for logs and reports, in ``log/STEP.log`` and ``reports/STEP``; ``say``: takes a line
        about the run.
        """
        self.root, self.work, self.steps, self.jobs, self.say = root, work, steps, jobs, say
        self.waiting = list(steps)
        self.running: dict[str, float] = {}
        self.results: dict[str, Result] = {}
        self.lock = threading.Lock()
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False
        #: For what ansible-playbook sends to hosts (molecule/callback/kept_modules.py).
        self.modules = ""

    def go(self) -> list[Result]:
        """Run all steps and return their results; a step that has none is missing from the list."""
        threading.Thread(target=self._heartbeat, daemon=True).start()
        with (
            tempfile.TemporaryDirectory(prefix="gearsync-modules-") as self.modules,
            concurrent.futures.ThreadPoolExecutor(self.jobs) as pool,
        ):
            lanes = [pool.submit(self._lane) for _ in range(self.jobs)]
        for lane in lanes:
            if error := lane.exception():
                self.say(f"a lane of the run ended: {error!r}")
        return [self.results[step.name] for step in self.steps if step.name in self.results]

    def stop(self) -> None:
        """End all steps and begin no other one."""
        with self.lock:
            self.stopped = True
            for process in self.processes:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)

    def _next(self) -> Step | None:
        """The step that begins now; None when there is none left."""
        with self.lock:
            if self.stopped or not self.waiting:
                return None
            step = self.waiting.pop(0)
            self.running[step.name] = time.monotonic()
            return step

    def _lane(self) -> None:
        while step := self._next():
            self.say(f"{step.name:<18} starts")
            try:
                result = self._run(step)
                self.results[step.name] = result
            finally:
                with self.lock:
                    del self.running[step.name]
            words = "FAILED: " + result.problem if result.problem else "ok"
            self.say(f"{step.name:<18} {words:<6} {result.seconds:5.0f} s  {result.tests}")

    def log(self, step: Step) -> Path:
        return self.work / "log" / f"{step.name}.log"

    def _run(self, step: Step) -> Result:
        directory = self.work / "reports" / step.name
        of_tasks = directory / "tasks"
        shutil.rmtree(directory, ignore_errors=True)
        of_tasks.mkdir(parents=True)
        self.log(step).parent.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "GEARSYNC_REPORTS": str(directory),
            "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.junit,kept_modules",
            "ANSIBLE_CALLBACK_PLUGINS": str(self.root / "molecule/callback"),
            "GEARSYNC_KEPT_MODULES": self.modules,
            "JUNIT_OUTPUT_DIR": str(of_tasks),
            "JUNIT_HIDE_TASK_ARGUMENTS": "true",
        }
        began = time.monotonic()
        with self.log(step).open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", step.run],
                cwd=self.root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            with self.lock:
                self.processes.add(process)
                stopped = self.stopped
            if stopped:
                self.stop()
            status = process.wait()
            with self.lock:
                self.processes.discard(process)
        tests = reports.outcomes(directory)
        return Result(
            step, time.monotonic() - began, judge(step, status, tests), tests, reports.tasks(of_tasks)
        )

    def _heartbeat(self) -> None:
        while True:
            time.sleep(HEARTBEAT)
            with self.lock:
                running = dict(self.running)
            for name, began in running.items():
                self.say(
                    f"{name:<18} {time.monotonic() - began:12.0f} s  "
                    f"{last_line(self.work / 'log' / f'{name}.log')}"
                )


def last_line(log: Path) -> str:
    """What a step does, by the end of its log: Ansible's last task, or the last line."""
    with contextlib.suppress(OSError), log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - 20_000))
        lines = [line.strip() for line in stream.read().decode(errors="replace").splitlines() if line.strip()]
        tasks = [line for line in lines if line.startswith("TASK [")]
        if tasks or lines:
            return re.sub(r"[\s*]+$", "", (tasks or lines)[-1])[:120]
    return ""
