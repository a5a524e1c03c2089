# SPDX-License-Identifier: GPL-2.0-or-later
"""The libraries built with the sanitizers, called as a server calls them by driver.c."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from harness.process import STOP

HERE = Path(__file__).resolve().parent
BUILD = Path(os.environ.get("UDF_BUILD_DIR", HERE.parent / "build"))
SANITIZED = BUILD / "sanitized"
THREADS = BUILD / "threads"


class Refused(Exception):
    """_init refused the call, with this message."""


class RowError(Exception):
    """The row function set *error."""


class Value:
    """An argument as the server describes it."""

    def __init__(
        self,
        value: object,
        kind: str = "",
        name: str | bytes = "",
        width: int | None = None,
        constant: bool = False,
    ) -> None:
        if isinstance(value, bytes):
            data: bytes | None = value
        elif value is None:
            data = None
        else:
            data = (
                repr(value)
                if isinstance(value, float)
                else str(int(value) if isinstance(value, bool) else value)
            ).encode()
        if not kind:
            kind = "I" if isinstance(value, int) else "R" if isinstance(value, float) else "S"
        if width is None:
            width = {"I": 20, "R": 22, "B": 8}.get(kind, len(data or b""))
        attribute = name if isinstance(name, bytes) else name.encode()
        self.text = f"{kind}:{int(constant)}:{width}:{attribute.hex()}:{'-' if data is None else data.hex()}"


def word(value: object) -> str:
    return (value if isinstance(value, Value) else Value(value)).text


class Driver:
    """The sanitized driver. A finding of a sanitizer ends it, and fails the test that uses it."""

    def __init__(self, library: str, build: Path = SANITIZED) -> None:
        self.library, self.build = build / library, build
        environment = dict(os.environ)
        self.files = tempfile.TemporaryDirectory(prefix="udf")
        self.names_file = Path(self.files.name) / "names"
        self._names = {"localhost": "127.0.0.1"}
        self.name()
        environment["GMAN_TEST_NAMES"] = str(self.names_file)
        environment["ASAN_OPTIONS"] = (
            "detect_leaks=1:abort_on_error=0:exitcode=86:detect_stack_use_after_return=1:strict_string_checks=1"
        )
        environment["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1:exitcode=87"
        environment["TSAN_OPTIONS"] = "exitcode=88:second_deadlock_stack=1"
        # The sanitizer of threads knows fewer places for the program's memory than newer kernels use.
        program = (
            ["setarch", "--addr-no-randomize", build / "driver"] if build == THREADS else [build / "driver"]
        )
        self.process = subprocess.Popen(
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.load()

    def ask(self, *words: str) -> str:
        assert self.process.stdin
        assert self.process.stdout
        try:
            self.process.stdin.write(" ".join(words) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            status, complaints = self.end()
            pytest.fail(f"the driver died ({status}):\n{complaints}")
        return answer.rstrip("\n")

    def name(self, **names: str) -> None:
        """What these names resolve to from now on: addresses, "" (nothing), "!" (no name server answers) or
        "~" (that takes until it is changed). They are names in the domain ``example``.
        """
        self._names |= {f"{name}.example": answer for name, answer in names.items()}
        new = self.names_file.with_suffix(".new")
        new.write_text("".join(f"{name} {answer}\n" for name, answer in self._names.items() if answer))
        new.rename(self.names_file)

    @property
    def asked(self) -> list[str]:
        """The names that the resolver was asked for."""
        file = self.names_file.with_suffix(".asked")
        return file.read_text().split() if file.exists() else []

    def load(self) -> None:
        assert self.ask("load", str(self.library)) == "ok"

    def unload(self) -> None:
        assert self.ask("unload") == "ok"

    @staticmethod
    def result(answer: str) -> bytes | None:
        kind, _, data = answer.partition(" ")
        if kind == "init":
            raise Refused(bytes.fromhex(data).decode())
        if kind == "error":
            raise RowError
        if kind == "null":
            return None
        assert kind == "ok", answer
        return bytes.fromhex(data)

    def call(self, function: str, *values: object) -> bytes | None:
        return self.result(self.ask("call", function, *map(word, values)))

    def rows(self, count: int, function: str, *values: object) -> tuple[int, bytes | None]:
        """The last row's result and the number of NULLs among all rows of one statement."""
        answer = self.ask("rows", function, str(count), *map(word, values))
        nulls, _, rest = answer.partition(" ")
        return int(nulls), self.result(rest)

    def integer(self, function: str, *values: object) -> int | None:
        answer = self.ask("integer", function, *map(word, values))
        return int(answer[3:]) if answer.startswith("ok ") else self.result(answer)  # type: ignore[return-value]  # None or raises

    def sum(self, function: str, workloads: list[object]) -> int | None:
        rows = [item for load in workloads for item in (word(function), word(load), "/")] or [
            word(function),
            word(""),
        ]
        answer = self.ask("sum", "gman_sum", *rows)
        return int(answer[3:]) if answer.startswith("ok ") else self.result(answer)  # type: ignore[return-value]  # None or raises

    def storm(
        self, threads: int, seconds: float, function: str, *values: object
    ) -> tuple[int, int, int, int]:
        """Calls, NULLs, worst and mean time in microseconds."""
        calls, nulls, worst, mean = map(
            int, self.ask("storm", str(threads), str(seconds), function, *map(word, values)).split()
        )
        return calls, nulls, worst, mean

    def mix(self, threads: int, seconds: float, *calls: tuple[object, ...]) -> tuple[int, int, int, int]:
        """The same, for threads that take the calls in turn."""
        words = [item for call in calls for item in ("/", str(call[0]), *map(word, call[1:]))][1:]
        total, nulls, worst, mean = map(int, self.ask("mix", str(threads), str(seconds), *words).split())
        return total, nulls, worst, mean

    def start(self, function: str, *values: object) -> None:
        """A call in a separate thread; join waits for it and returns whether it was NULL."""
        assert self.ask("start", function, *map(word, values)) == "ok"

    def join(self) -> bool:
        return self.ask("join") == "1"

    def end(self) -> tuple[int, str]:
        """End the program; return its exit status and its error output."""
        # It exits at the end of its input. The sanitizers check for leaks then.
        _, complaints = self.process.communicate(timeout=STOP)
        self.files.cleanup()
        return self.process.returncode, complaints

    def close(self) -> None:
        """The same, and require success without error output."""
        # The driver has ended already when it failed the test.
        if self.process.stdout and not self.process.stdout.closed:
            code, complaints = self.end()
            assert (code, complaints) == (0, ""), f"exit {code}:\n{complaints}"
