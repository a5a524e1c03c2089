# SPDX-License-Identifier: GPL-3.0-or-later
"""What all private servers have in common."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from harness.process import Process
from harness.waiting import until


class Server(Process):
    """A program that answers others, with a directory of its own, which it keeps over stops and starts.
    As a context it is removed at the end.
    """

    #: The signal that ends it, unless another one is asked for.
    ends_by: ClassVar[int] = signal.SIGKILL

    def __init__(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        directory: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """``directory``: for all of its files, the log included; ``env``: variables beside this process'
        own.
        """
        self.directory = directory
        super().__init__(name, command, directory / "log", env)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        super().start()
        until(self.answers)

    def answers(self) -> bool:
        """Whether it does what clients ask for."""
        raise NotImplementedError

    def stop(self, number: int | None = None) -> int:
        """End it by a signal; its exit status."""
        self.forget()
        self.signal(self.ends_by if number is None else number)
        return self.wait()

    def restart(self) -> None:
        """Stop it and start it again."""
        self.stop()
        self.start()

    def remove(self) -> None:
        """End it and remove its files."""
        if self.running:
            self.kill()
        shutil.rmtree(self.directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()
