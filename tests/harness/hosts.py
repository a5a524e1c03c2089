# SPDX-License-Identifier: GPL-3.0-or-later
"""Deployed test hosts, seen from outside through the servers' own clients, and the collection's playbooks
run against them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator

from harness.places import ROOT
from harness.process import Died, descendants

ENTER = ROOT / "molecule/hosts/enter"
#: The status of molecule/hosts/enter when the host does not run.
NO_HOST = 125
# The scenario's Redis password, which must appear nowhere that others can look.
SECRET = os.environ.get("GEARSYNC_REDIS_PASSWORD", "")
#: How redis-cli reaches the scenario's Redis from its own host, where that needs TLS.
REDIS_OPTIONS = os.environ.get("GEARSYNC_REDIS_OPTIONS", "")


class Host:
    """One test host, seen from inside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(
        self,
        command: str,
        *,
        stdin: str | None = None,
        ok: bool = True,
        timeout: float = 600,
        env: dict[str, str] | None = None,
    ) -> str:
        """Run ``command`` in the host's shell as root and return its output without the last newline.

        With ``ok`` (the default) a failure raises AssertionError with all that it printed; without, output
        and errors are returned. Raises Died when the host does not run, with the end of its log. ``env`` is
        handed over by name, so that no value stands in a command line.
        """
        names = [word for name in env or {} for word in ("--env", name)]
        done = subprocess.run(
            [str(ENTER), *names, self.name, "sh", "-c", command],
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, **(env or {})},
        )
        if done.returncode == NO_HOST:
            raise Died(done.stderr)
        if ok:
            assert done.returncode == 0, (
                f"{self.name}: {command}\nexit {done.returncode}\n{done.stdout}{done.stderr}"
            )
            return done.stdout.rstrip("\n")
        return (done.stdout + done.stderr).rstrip("\n")

    def sql(self, statements: str, *, database: str = "test", ok: bool = True) -> str:
        """Run SQL with the server's own client as root; columns are separated by tabs."""
        return self.run(
            "mysql --default-character-set=utf8mb4 --batch --raw --skip-column-names "
            f"--database={shlex.quote(database)}",
            stdin=statements,
            ok=ok,
        )

    @contextlib.contextmanager
    def sql_session(self, database: str) -> Iterator[Callable[[str], None]]:
        """One connection of root with the server's own client: what it is called with is executed when it
        returns. Raises AssertionError with what the server says, after which the session is over.
        """
        client = subprocess.Popen(
            [str(ENTER), self.name, "mysql", "--batch", "--unbuffered", "--skip-column-names", database],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        stdin, stdout = client.stdin, client.stdout
        assert stdin is not None
        assert stdout is not None

        def execute(statement: str) -> None:
            print(statement, "SELECT 'done';", file=stdin, flush=True)
            if (said := stdout.readline()) != "done\n":
                raise AssertionError(f"{self.name}: {statement}\n{said}{stdout.read()}")

        with client:
            try:
                yield execute
            finally:
                stdin.close()

    def redis(self, *words: str, ok: bool = True) -> str:
        """What redis-cli answers to one command."""
        return self.run(
            f"$(command -v redis-cli || command -v valkey-cli) {REDIS_OPTIONS} --no-auth-warning "
            f"{shlex.join(words)}",
            ok=ok,
            env={"REDISCLI_AUTH": SECRET},
        )

    @functools.cached_property
    def address(self) -> str:
        """Its address on the network of the hosts."""
        return self.run("hostname -I").split()[0]

    @functools.cached_property
    def source(self) -> str:
        """The source whose worker runs there, where it is one."""
        return self.run("basename --suffix=.yml /etc/gearsync/*.yml")

    @property
    def worker(self) -> str:
        """The worker's unit."""
        return f"gearsync-worker@{self.source}"

    def is_active(self, unit: str) -> bool:
        """Whether systemd calls ``unit`` active."""
        return self.run(f"systemctl is-active {unit} || true") == "active"

    def main_process(self, unit: str) -> str:
        """The number of a unit's main process."""
        return self.run(f"systemctl show --property MainPID --value {unit}")

    @property
    def mysql_unit(self) -> str:
        """The name of the database server's unit on this host."""
        return self.run(
            "for u in mariadb mysql mysqld; do systemctl is-active --quiet $u && echo $u && break; done"
        )


class Playbooks:
    """Runs this collection's playbooks against the hosts of some inventories."""

    def __init__(self, inventories: list[str]) -> None:
        self.inventories = inventories

    def run(self, playbook: str, *options: str, env: dict[str, str] | None = None) -> tuple[int, str]:
        """Exit status and output of ``ansible-playbook PLAYBOOK OPTIONS``."""
        with self._start(playbook, *options, env=env) as process:
            output, _errors = process.communicate(timeout=3600)
        return process.returncode, output

    def run_and_kill(self, playbook: str, *options: str, seconds: float) -> bool:
        """Kill ``ansible-playbook PLAYBOOK OPTIONS`` and all that it has started after so many seconds.
        Returns False when it had ended before.
        """
        with self._start(playbook, *options) as process:
            try:
                process.communicate(timeout=seconds)
                return False
            except subprocess.TimeoutExpired:
                # Ansible's own processes have sessions of their own.
                for number in [process.pid, *descendants(process.pid)]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(number, signal.SIGKILL)
                process.communicate()
                return True

    def _start(
        self, playbook: str, *options: str, env: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        inventories = [word for path in self.inventories for word in ("--inventory", path)]
        return subprocess.Popen(
            ["ansible-playbook", *inventories, playbook, *options],
            cwd=ROOT,
            env={
                **os.environ,
                "ANSIBLE_FORCE_COLOR": "0",
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def recap(output: str) -> dict[str, dict[str, int]]:
    """The PLAY RECAP of a playbook's output: host → counter → number."""
    lines = re.findall(r"^(\S+)\s+: (ok=\d+.*)$", output, re.MULTILINE)
    return {
        host: {key: int(number) for key, number in re.findall(r"(\w+)=(\d+)", counters)}
        for host, counters in lines
    }


def names() -> list[str]:
    """The scenario's hosts, from the environment that the verify playbook sets."""
    return os.environ.get("GEARSYNC_HOSTS", "").split()
