# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of the harness that make their imports once and then fork for each request on a Unix socket."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

from harness.places import scratch
from harness.server import Server


class ForkingProgram(Server):
    """A script beside this file, which listens on the socket that is its first argument."""

    def __init__(self, script: str, *arguments: str, env: dict[str, str]) -> None:
        """``env``: variables beside this process' own."""
        directory = scratch(script)
        self.socket = str(directory / "socket")
        command = [sys.executable, str(Path(__file__).with_name(f"{script}.py")), self.socket, *arguments]
        super().__init__(script, command, directory, env)

    def answers(self) -> bool:
        """Whether it takes requests."""
        with socket.socket(socket.AF_UNIX) as attempt:
            return attempt.connect_ex(self.socket) == 0
