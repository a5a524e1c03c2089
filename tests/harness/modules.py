# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's modules, run as a task runs them, and the two UDF libraries that they install."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from harness.forking import ForkingProgram
from harness.places import ROOT, kept
from harness.process import STOP

COLLECTIONS = ROOT / ".collections"
GEARMAN_LIBRARY = "libgearman_mysql_udf.so"
JSON_LIBRARY = "lib_mysqludf_json.so"
GEARMAN_FUNCTIONS: list[dict[str, Any]] = [
    *(
        {"name": name}
        for name in (
            "gman_do",
            "gman_do_high",
            "gman_do_low",
            "gman_do_background",
            "gman_do_high_background",
            "gman_do_low_background",
            "gman_servers_set",
            "gman_configure",
            "gman_stats",
            "gman_version",
        )
    ),
    {"name": "gman_wake", "returns": "integer"},
    {"name": "gman_sum", "returns": "integer", "aggregate": True},
]
#: Those that do not log in to a database.
WITHOUT_LOGIN = {"gearman_info", "gearman_job", "package_guard"}
#: Those that wait for a job server, a few seconds unless the task says otherwise.
WAITING = {"gearman_info", "gearman_job", "gearman_servers"}
#: Seconds for one module, which may wait for locks.
LIMIT = 600


def mysql_config() -> str:
    """The program that names the headers of the database."""
    program = shutil.which("mariadb_config") or shutil.which("mysql_config")
    assert program, "neither mariadb_config nor mysql_config is installed: tests/setup test"
    return program


def libraries() -> Path:
    """The directory of both libraries, built against this machine's headers: once for each state of the
    sources, compiler and headers.

    UDF_BUILD_DIR names one where they are built already.
    """
    if built := os.environ.get("UDF_BUILD_DIR"):
        return Path(built)
    config = mysql_config()
    commands = ([config, "--include"], [config, "--version"], ["cc", "--version"])
    texts = [
        source.read_bytes()
        for source in (ROOT / "udf/Makefile", *sorted((ROOT / "udf/src").glob("*/*.[ch]")))
    ]
    texts += [subprocess.run(command, check=True, capture_output=True).stdout for command in commands]
    home = kept("libraries")
    made = home / hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            unfinished = made.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            subprocess.run(
                [
                    "make",
                    "--silent",
                    "-C",
                    str(ROOT / "udf"),
                    "all",
                    f"BUILD_DIR={unfinished}",
                    f"MYSQL_CONFIG={config}",
                ],
                check=True,
            )
            unfinished.rename(made)
    return made


class ModuleRunner(ForkingProgram):
    """The program that runs modules: see module_runner.py."""

    def __init__(self) -> None:
        names = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
        # No module of a test needs the machine's authorities, which PyMySQL would have it read for each
        # connection.
        super().__init__(
            "module_runner", *names, env={"PYTHONPATH": str(COLLECTIONS), "SSL_CERT_FILE": os.devnull}
        )

    def run(self, name: str, arguments: Mapping[str, Any]) -> tuple[int, str, str]:
        """Exit status and output of a module."""
        paths = {what: self.directory / what for what in ("arguments", "out", "err")}
        paths["arguments"].write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        for what in ("out", "err"):
            paths[what].write_bytes(b"")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(LIMIT)
            try:
                connection.connect(self.socket)
                connection.sendall(
                    json.dumps({"name": name, **{what: str(path) for what, path in paths.items()}}).encode()
                    + b"\n"
                )
                status = connection.recv(16)
            except TimeoutError:
                # What hangs goes with it.
                self.kill()
                raise AssertionError(
                    f"{name} has not ended after {LIMIT} s: "
                    f"{paths['out'].read_text()}{paths['err'].read_text()}"
                ) from None
        if not status:
            self.process.wait(STOP)
            self.check()
        return int(status), paths["out"].read_text(), paths["err"].read_text()


class Modules:
    """Modules as a task runs them, with the login of a private server."""

    def __init__(self, login: Mapping[str, str]) -> None:
        self.login = login
        self.runner = ModuleRunner()

    def remove(self) -> None:
        """End the program that runs them."""
        self.runner.remove()

    def run(self, name: str, /, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """What the module returns, failed or not."""
        login = {} if name in WITHOUT_LOGIN else self.login
        patience = {"timeout": 120} if name in WAITING else {}
        status, out, err = self.runner.run(
            name, {**login, **patience, **arguments, "_ansible_check_mode": check, "_ansible_diff": True}
        )
        assert out.strip().startswith("{"), out + err
        result: dict[str, Any] = json.loads(out)
        assert (status != 0) == bool(result.get("failed")), (status, out, err)
        return result

    def ok(self, name: str, /, check: bool = False, **arguments: Any) -> dict[str, Any]:
        """The same of a module that must not fail."""
        result = self.run(name, check, **arguments)
        assert not result.get("failed"), result["msg"]
        return result

    def refused(self, name: str, /, check: bool = False, **arguments: Any) -> str:
        """The message of a module that must fail."""
        result = self.run(name, check, **arguments)
        assert result.get("failed"), result
        return str(result["msg"])

    def converge(self, name: str, look: Callable[[], Any], /, **arguments: Any) -> dict[str, Any]:
        """Check mode shows the changes and makes none; a run makes them; another one has nothing to do.
        ``look``: what the server has.
        """
        before = look()
        predicted = self.ok(name, check=True, **arguments)
        assert predicted["changed"]
        assert look() == before
        result = self.ok(name, **arguments)
        assert result["changed"]
        assert result["queries"] == predicted["queries"]
        assert result["diff"] == predicted["diff"]
        assert result["diff"]["before"] != result["diff"]["after"]
        after = look()
        assert after != before
        for check in (True, False):
            again = self.ok(name, check=check, **arguments)
            assert not again["changed"]
            assert again["queries"] == []
            assert again["diff"]["before"] == again["diff"]["after"]
            assert look() == after
        return result
