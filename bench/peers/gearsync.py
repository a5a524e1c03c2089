# SPDX-License-Identifier: GPL-3.0-or-later
"""This project: triggers into the outbox, gearmand, the worker with its default settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import yaml
from servers import ROOT

from peers.peer import PASSWORD, TABLES, USER, Peer


class Gearsync(Peer):
    name, title = "gearsync", "gearsync"
    #: Settings of the worker that are not the defaults.
    settings: Mapping[str, Any] = MappingProxyType({})
    declarations = tuple(
        {
            "table": f"bench.{table}",
            "columns": ["id", "value", "name"],
            "write": [{"type": "hash", "key": f"bench_{table}:{{id}}"}],
        }
        for table in TABLES
    )

    def install(self) -> None:
        """As the role does: in an environment with compiled modules, and without what only the tests need
        and libraries load when it is there.
        """
        # What an earlier installation left there would be installed again.
        shutil.rmtree(ROOT / "worker/build", ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", self.work], check=True)
        subprocess.run(
            [self.work / "bin/pip", "install", "--quiet", "--disable-pip-version-check", ROOT / "worker"],
            check=True,
        )

    def version(self) -> str:
        return subprocess.run(
            ["git", "-C", ROOT, "describe", "--always", "--dirty"], check=True, capture_output=True, text=True
        ).stdout.strip()

    def prepare(self) -> None:
        self.servers.database.declare(*self.declarations)

    def command(self) -> Sequence[str | os.PathLike[str]]:
        config = self.directory / "worker.yml"
        config.write_text(
            yaml.safe_dump(
                {
                    "job_servers": [self.servers.gearmand.address],
                    "redis": {"port": self.servers.redis.port},
                    "tables": list(self.declarations),
                    "worker": dict(self.settings),
                    "mysql": {
                        "host": "127.0.0.1",
                        "port": self.servers.database.port,
                        "user": USER,
                        "password": PASSWORD,
                    },
                }
            )
        )
        return [self.work / "bin/gearsync", "run", "--config", config]

    def settled(self) -> bool:
        return not self.servers.database.execute("SELECT 1 FROM gearsync.outbox LIMIT 1")

    def pids(self) -> list[int]:
        return [*super().pids(), self.servers.gearmand.process.pid]
