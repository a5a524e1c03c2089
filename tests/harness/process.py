# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that a test starts: each has a log, and one that ends by itself is reported with the end of
it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

#: Seconds for a process to end after it was asked to.
STOP = 120
#: Lines of a log that an error shows.
TAIL = 40


def tail(log: Path) -> str:
    """The last lines of a log."""
    with contextlib.suppress(OSError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-TAIL:])
    return "(no log)"


def children(pid: int) -> list[int]:
    """The processes that a process has started, in that order; none of one that has ended."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def descendants(pid: int) -> list[int]:
    """The children of a process, theirs, and so on."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


class Died(AssertionError):
    """A process ended that no test had asked to end."""


class Process:
    """A program in a process group of its own, with its output in a log."""

    #: Those that were started and not ended by a test.
    started: ClassVar[list[Process]] = []
    #: Whether the test may start any.
    allowed: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        log: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """``env``: variables beside this process' own."""
        assert Process.allowed, (
            f"a unit test starts {name}: move it to tests/integration or worker/tests/integration"
        )
        self.name, self.command, self.log = name, list(command), log
        self.env = {**os.environ, **(env or {})}
        self.start()

    def start(self) -> None:
        """Start the program; its log is appended to."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )
        Process.started.append(self)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def check(self) -> None:
        """Raise Died when the program has ended."""
        if not self.running:
            Process.started.remove(self)
            raise Died(
                f"{self.name} ended with status {self.process.returncode}; the end of "
                f"{self.log}:\n{tail(self.log)}"
            )

    def forget(self) -> None:
        """From now on the program may end by itself."""
        if self in Process.started:
            Process.started.remove(self)

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def wait(self, seconds: float = STOP) -> int:
        """Wait for the end of the program and return its exit status."""
        self.forget()
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            # Another signal than the one that was not enough, so that nothing is left behind.
            self.kill()
            raise AssertionError(
                f"{self.name} has not ended after {seconds:g} s; the end of {self.log}:\n{tail(self.log)}"
            ) from None

    def terminate(self) -> int:
        """Ask the first process of the group to end, and wait; its exit status."""
        self.forget()
        self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End the whole group at once, paused or not, and wait."""
        self.forget()
        self.signal(signal.SIGKILL)
        self.process.wait(STOP)


def check_all() -> None:
    """Raise Died for the first of all started processes that has ended by itself."""
    for process in list(Process.started):
        process.check()


def kill_all() -> None:
    """End what tests have left running."""
    for process in list(Process.started):
        process.kill()


def logs() -> dict[str, str]:
    """The end of each running process' log, by its name."""
    return {f"{process.name} (pid {process.process.pid})": tail(process.log) for process in Process.started}
