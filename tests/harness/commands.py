# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's command line."""

from __future__ import annotations

import contextlib
import gc
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml

from harness.process import Process
from harness.worker import SOURCES

#: Seconds that a command may take, and that it is given to wait for a worker: `--timeout`, `--settle` and
#: `--wait`.
PATIENCE = 600
#: What each command waits for a worker with, where it does.
_WAITS = {"barrier": "--timeout", "verify": "--settle", "resync": "--wait"}


class Command(Process):
    """A command as a process of its own, which ends by itself. Its log is what it writes to stderr."""

    def start(self) -> None:
        self.output = self.log.with_suffix(".out")
        with self.log.open("ab") as log, self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                env=self.env,
                start_new_session=True,
            )
        Process.started.append(self)

    def check(self) -> None:
        """Its end is no failure."""
        if not self.running:
            self.forget()

    def finish(self) -> tuple[int, str, str]:
        """Wait for its end; its exit status, and what it wrote to stdout and to stderr."""
        return self.wait(PATIENCE), self.output.read_text(), self.log.read_text()


class Commands:
    """The command line, with one configuration."""

    def __init__(self, config: dict[str, Any], directory: Path) -> None:
        """``directory``: where the configuration and the output of started commands are."""
        self.directory = directory
        self.path = directory / "commands.yml"
        self.path.write_text(yaml.safe_dump(config))
        #: The options that name the configuration.
        self.configuration = ["--config", str(self.path)]
        self._started = 0

    def _complete(self, arguments: tuple[str, ...]) -> list[str]:
        """With the configuration, and the patience that a slow machine needs."""
        wait = _WAITS.get(arguments[0])
        patience = [wait, str(PATIENCE)] if wait and wait not in arguments else []
        return [arguments[0], *self.configuration, *patience, *arguments[1:]]

    def start(self, *arguments: str) -> Command:
        """A command as a process, for what can only be seen of one."""
        self._started += 1
        command = [sys.executable, "-m", "gearsync", *self._complete(arguments)]
        return Command(
            f"gearsync {arguments[0]}",
            command,
            self.directory / f"command{self._started}.log",
            env={"PYTHONPATH": str(SOURCES)},
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit status, and what it writes to stdout and then to stderr.

        Within this process: starting Python and importing the worker costs half a second.
        """
        from gearsync.cli.main import main  # noqa: PLC0415  # in this process only when it is needed

        output, errors = io.StringIO(), io.StringIO()
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(errors),
        ):
            # PyMySQL leaves the socket of a failed attempt to the garbage collection, which the tests take
            # for an error.
            warnings.simplefilter("ignore", ResourceWarning)
            try:
                status = main(self._complete(arguments))
            except SystemExit as end:
                status = int(end.code or 0)
            if status:
                gc.collect()
        return status, output.getvalue() + errors.getvalue()

    def done(self, *arguments: str) -> str:
        """The output of a command that must end with 0."""
        status, output = self.run(*arguments)
        assert status == 0, f"gearsync {' '.join(arguments)} ended with {status}: {output}"
        return output

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit status, and the answer about the first table."""
        status, output = self.run("verify", "--json", *arguments)
        assert output.startswith("{"), output
        answer = json.loads(output.splitlines()[0])
        assert (answer["status"], answer["equal"]) == (status, status == 0)
        return status, answer["tables"][0]
