# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker under test, as systemd would start it."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.forking import ForkingProgram
from harness.places import ROOT
from harness.ports import free_port
from harness.process import Process, children
from harness.waiting import until

SOURCES = ROOT / "worker/src"
#: A worker's times, in seconds, on a machine where any process may stand still for a minute; what is to end
#: sooner is given by its test.
PATIENT: dict[str, Any] = {
    "lease": 60.0,
    "io_timeout": 120.0,
    "shutdown_timeout": 100.0,
    "reconnect_max": 0.2,
    "sweep": 0.05,
    "keep": 0.05,
    "remember": 0.0,
}


@functools.cache
def unused_port() -> int:
    """A port of this process on which nothing will listen."""
    return free_port()


def worker_config(
    redis: int | dict[str, Any],
    tables: list[dict[str, Any]],
    mysql: dict[str, Any] | None = None,
    job_server: str | None = None,
    **worker: Any,
) -> dict[str, Any]:
    """A configuration for a worker of a test. ``redis``: a port, or all settings; without a
    ``job_server`` it is one that is not there.
    """
    return {
        "job_servers": [job_server or f"127.0.0.1:{unused_port()}"],
        "redis": {"port": redis} if isinstance(redis, int) else redis,
        **({"mysql": mysql} if mysql else {}),
        "worker": {**PATIENT, **worker},
        "tables": tables,
    }


class Started:
    """A process that the runner has started, as far as subprocess.Popen would show it."""

    def __init__(self, runner: str, request: dict[str, Any]) -> None:
        """``runner``: its socket."""
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(runner)
        self._connection.sendall(json.dumps(request).encode() + b"\n")
        self._answers = self._connection.makefile("r")
        self.returncode: int | None = None
        line = self._answers.readline()
        assert line, "the program that starts workers has ended"
        self.pid = int(line)

    def poll(self) -> int | None:
        """Its exit status, when it has ended."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("gearsync run", timeout or 0.0)
            # Without an answer who waits for it was killed, at the end of a run.
            self.returncode = int(self._answers.readline() or -signal.SIGKILL)
            self._answers.close()
            self._connection.close()
        return self.returncode

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)


@functools.cache
def _runner() -> ForkingProgram:
    """The program that starts workers: see worker_runner.py."""
    return ForkingProgram("worker_runner", env={"PYTHONPATH": str(SOURCES)})


class Worker(Process):
    """``gearsync run`` with a configuration of the test's, in a process group of its own."""

    def __init__(
        self,
        config: dict[str, Any],
        directory: Path,
        environment: dict[str, str] | None = None,
        program: bool = False,
        prefix: Sequence[str] = (),
    ) -> None:
        """``directory``: for the configuration file and the log; ``environment``: variables beside this
        process' own.

        ``program``: as a Python of its own, not a copy of one that has made the imports; so it is with a
        ``prefix``, a command that becomes it.
        """
        self.config, self.program = directory / "worker.yml", program or bool(prefix)
        self.config.write_text(yaml.safe_dump(config))
        super().__init__(
            "worker",
            [*prefix, sys.executable, "-m", "gearsync", "run", "--config", self.config],
            directory / "worker.log",
            env={"PYTHONPATH": str(SOURCES), **(environment or {})},
        )

    def start(self) -> None:
        if self.program:
            super().start()
            return
        self.log.touch()
        request = {"arguments": ["run", "--config", str(self.config)], "log": str(self.log), "env": self.env}
        self.process = Started(_runner().socket, request)  # type: ignore[assignment]  # as far as it is used
        Process.started.append(self)

    @property
    def said(self) -> str:
        """Its whole log."""
        return self.log.read_text()

    def says(self, text: str, times: int = 1) -> None:
        """Wait until its log has ``text`` so often."""
        until(lambda: self.said.count(text) >= times)

    @property
    def children(self) -> list[int]:
        """Its processes, in the order in which they were started: direct, drain; then what replaced them."""
        return children(self.process.pid)

    def pause(self) -> None:
        """All of its processes stand still."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)
