"""Programs of the harness that make their imports once and then fork for each request on a Unix socket."""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path

from harness.places import scratch
from harness.process import Process
from harness.waiting import until


class ForkingProgram(Process):
    """A script beside this file, which listens on the socket that is its first argument."""

    def __init__(self, script: str, *arguments: str, env: dict[str, str]) -> None:
        """``env``: variables beside this process' own."""
        self.directory = scratch(script)
        self.socket = str(self.directory / "socket")
        command = [sys.executable, str(Path(__file__).with_name(f"{script}.py")), self.socket, *arguments]
        super().__init__(script, command, self.directory / "log", env=env)

    def start(self) -> None:
        super().start()
        until(self.answers)

    def answers(self) -> bool:
        """Whether it takes requests."""
        with socket.socket(socket.AF_UNIX) as attempt:
            return attempt.connect_ex(self.socket) == 0

    def remove(self) -> None:
        """End it and remove its files."""
        if self.running:
            self.kill()
        shutil.rmtree(self.directory)
