# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark has to know of a system, and its process."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from harness.process import Process, tail
from servers import Pipeline, scratch

from peers.processes import of_session
from peers.views import Hashes, Streams

#: The tables that a peer carries, in the schema bench: (id INT PRIMARY KEY, value BIGINT, name VARCHAR(64)).
TABLES = ("latency", "bulk", "writers", "crash", "cost")
#: The account of every peer.
USER, PASSWORD = "peer", "peer"
SERVER_ID = 4711


class Failed(Exception):
    """A peer did not do what a work needs."""


class Peer:
    """A system that carries changes from MySQL to Redis.

    A subclass says how it is installed and started; what it writes is a hash a row, unless ``stream`` or
    ``as_json`` says otherwise.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    #: The template of the stream of a table.
    stream: ClassVar[str] = ""
    #: A row is a string of JSON in place of a hash.
    as_json: ClassVar[bool] = False

    def __init__(self, work: Path, source: str = "") -> None:
        """``work``: for what is downloaded and built; ``source``: a clone or git directory of it, where
        it is built from one.
        """
        self.work, self.source = work / self.name, source
        self.servers: Pipeline
        self.directory: Path
        self._process: Process | None = None

    # -- what a subclass gives

    def install(self) -> None:
        """Download and build; do nothing when that is done."""

    def version(self) -> str:
        """Its version, once it is installed."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What is done once on new servers, before the first start."""

    def command(self) -> Sequence[str | os.PathLike[str]]:
        """Write the configuration into ``directory``; the command that becomes the peer."""
        raise NotImplementedError

    def settled(self) -> bool:
        """Whether nothing is left to do in the database for changes that are shown."""
        return True

    # -- what all have

    def use(self, servers: Pipeline) -> None:
        """Work on these servers from now on."""
        self.servers, self.directory = servers, scratch(self.name)
        self.view = (
            Streams(servers.redis, self.stream) if self.stream else Hashes(servers.redis, self.as_json)
        )

    def start(self) -> None:
        environment = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        self._process = Process(self.name, self.command(), self.directory / "log", env=environment)
        # The work says whether it may end by itself.
        self._process.forget()

    @property
    def running(self) -> bool:
        return bool(self._process and self._process.running)

    def check(self) -> None:
        """Raise Failed when it has ended by itself."""
        if self._process and not self._process.running:
            raise Failed(f"{self.title} ended with status {self._process.process.returncode}; {self.log()}")

    def log(self) -> str:
        """The end of its log, for an error."""
        return f"the end of its log: {tail(self.directory / 'log')[-500:]}"

    def stop(self) -> None:
        """Ask it to end; kill it when it has not after 30 s."""
        if self._process:
            with contextlib.suppress(AssertionError):
                self._process.process.terminate()
                self._process.wait(30)
            self.kill()

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process = None

    def pids(self) -> list[int]:
        """All of its processes."""
        return of_session(self._process.process.pid) if self._process else []


def java(least: int) -> str:
    """The ``java`` of JAVA_HOME, else of the newest JVM of at least that version. Raises Failed."""
    found: list[tuple[int, Path]] = []
    homes = (
        [Path(os.environ["JAVA_HOME"])] if "JAVA_HOME" in os.environ else list(Path("/usr/lib/jvm").glob("*"))
    )
    for home in homes:
        with contextlib.suppress(OSError):
            if match := re.search(r'^JAVA_VERSION="(\d+)', (home / "release").read_text(), re.MULTILINE):
                found.append((int(match.group(1)), home / "bin/java"))
    found = [(version, program) for version, program in found if version >= least and program.exists()]
    if not found:
        raise Failed(f"there is no Java {least} or newer: install one, or name one by JAVA_HOME")
    return str(max(found)[1])


def run(*command: str | os.PathLike[str], directory: Path | None = None) -> str:
    """The output of a command that installs something. Raises Failed."""
    if not shutil.which(command[0]):
        raise Failed(f"{command[0]} is not installed: tests/setup bench")
    done = subprocess.run(
        command, check=False, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise Failed(f"{command[0]} failed: {done.stdout[-2000:]}")
    return done.stdout.strip()


def clone(source: str, directory: Path, revision: str) -> None:
    """A revision of a repository, from a clone or a git directory."""
    shutil.rmtree(directory, ignore_errors=True)
    run("git", "clone", "--quiet", "--no-checkout", source, directory)
    run("git", "-C", directory, "checkout", "--quiet", revision)


@contextlib.contextmanager
def made_whole(directory: Path) -> Iterator[Path]:
    """A directory to fill, which gets its name when all is in it."""
    unfinished = directory.with_name(f"{directory.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    unfinished.rename(directory)


def wait(
    what: Callable[[], bool],
    seconds: float,
    every: float,
    doing: str,
    check: Callable[[], None] = lambda: None,
) -> float:
    """Wait until ``what()``; the time at which it was so. Raises Failed."""
    deadline, looks = time.perf_counter() + seconds, 0
    while not what():
        looks += 1
        if looks % 100 == 0:
            check()
        if time.perf_counter() > deadline:
            raise Failed(f"{doing}: not within {seconds:.0f} s")
        time.sleep(every)
    return time.perf_counter()
