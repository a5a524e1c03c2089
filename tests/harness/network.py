# SPDX-License-Identifier: GPL-3.0-or-later
"""A network of its own for one process, beside this machine's: what is lost in it is lost for nothing
else.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess

_numbers = itertools.count()


class Unavailable(Exception):
    """This machine, or this account, cannot have one."""


class Network:
    """A namespace with one link to this machine. Raises Unavailable."""

    def __init__(self) -> None:
        if missing := [
            name
            for name in ("ip", "iptables", "ss", "unshare")
            if not shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        ]:
            raise Unavailable(f"{', '.join(missing)} not installed")
        number = next(_numbers)
        self.name = f"gearsync-{os.getpid()}-{number}"
        net = f"10.{200 + number % 50}.{os.getpid() % 250}"
        #: This machine's address at the link, and the namespace's.
        self.near, self.far = f"{net}.1", f"{net}.2"
        self._link = f"gs{os.getpid()}n{number}"
        try:
            self._ip("netns", "add", self.name)
        except subprocess.CalledProcessError as error:
            raise Unavailable(f"ip netns add: {error.stderr.strip()}") from error
        try:
            self._ip("link", "add", self._link, "type", "veth", "peer", "name", "wire", "netns", self.name)
            self._ip("address", "add", f"{self.near}/24", "dev", self._link)
            self._ip("link", "set", self._link, "up")
            self._ip("-n", self.name, "address", "add", f"{self.far}/24", "dev", "wire")
            self._ip("-n", self.name, "link", "set", "wire", "up")
            self._ip("-n", self.name, "link", "set", "lo", "up")
            self.run("iptables", "--list")
        except subprocess.CalledProcessError as error:
            self.remove()
            raise Unavailable(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from error

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    @property
    def prefix(self) -> list[str]:
        """What comes before a command that is to run there, as on a host of that name."""
        return [
            "ip",
            "netns",
            "exec",
            self.name,
            "unshare",
            "--uts",
            "sh",
            "-c",
            f'hostname {self.name} && exec "$@"',
            "sh",
        ]

    def run(self, *command: str) -> str:
        """Output of a command there."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *command], check=True, capture_output=True, text=True
        ).stdout

    def drop(self, *match: str) -> None:
        """From now on packets that leave the namespace and match iptables' options are lost."""
        self.run("iptables", "--append", "OUTPUT", *match, "--jump", "DROP")

    def deliver(self) -> None:
        """Nothing is lost any more."""
        self.run("iptables", "--flush", "OUTPUT")

    def cut(self) -> None:
        """No packet comes in or goes out any more, as when the power is gone: there is no FIN."""
        self._ip("link", "set", self._link, "down")

    def connections(self, port: int) -> dict[str, str]:
        """State of each TCP connection from the namespace to a port, by its own port."""
        lines = [
            line.split()
            for line in self.run(
                "ss", "--tcp", "--all", "--numeric", "--no-header", f"dport = :{port}"
            ).splitlines()
        ]
        return {line[3].rpartition(":")[2]: line[0] for line in lines}

    def remove(self) -> None:
        """End it, with its link."""
        subprocess.run(["ip", "netns", "delete", self.name], check=False, capture_output=True)
