# SPDX-License-Identifier: GPL-3.0-or-later
"""What processes cost, and functions that run in processes of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("fork")


def _fields(pid: int | str) -> list[str]:
    """The fields of a process' stat, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()


def of_session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if int(_fields(entry.name)[3]) == leader:
                    found.append(int(entry.name))
    return sorted(found)


def cpu(pids: Iterable[int]) -> float:
    """Seconds of CPU until now, those of children that have ended included."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, _fields(pid)[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def cpu_exactly(pid: int) -> float:
    """Seconds of CPU of a process' threads until now, by the scheduler: ticks miss what is shorter."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            total += int(path.read_text().split()[0])
    return total / 1e9


def pss(pids: Iterable[int]) -> float:
    """MiB of memory, shared pages divided among those that share them."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += sum(
                int(line.split()[1])
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
                if line.startswith("Pss:")
            )
    return total / 1024


class Children:
    """Functions that run in processes of their own, and answer on a pipe."""

    def __init__(self) -> None:
        self._children: list[Any] = []

    def run(self, function: Callable[..., None], *arguments: Any) -> Connection:
        """Run ``function(*arguments, pipe)``; the pipe on which it answers."""
        mine, its = FORK.Pipe(duplex=False)
        child = FORK.Process(target=function, args=(*arguments, its), daemon=True)
        child.start()
        its.close()
        self._children.append(child)
        return mine

    def end(self) -> None:
        for child in self._children:
            child.join(timeout=5)
            if child.is_alive():
                child.kill()
                child.join()
        self._children.clear()


def answer(pipe: Connection, seconds: float) -> Any:
    """What a child has sent. Raises TimeoutError, and EOFError when it has ended without an answer."""
    if not pipe.poll(seconds):
        raise TimeoutError(f"a process of the benchmark has not answered within {seconds:.0f} s")
    return pipe.recv()
