# SPDX-License-Identifier: GPL-3.0-or-later
"""python-mysql-replication and redis-py in the loop of replication_loop.py."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from peers.peer import PASSWORD, SERVER_ID, TABLES, USER, Peer


class PythonMysqlReplication(Peer):
    name, title = "python-mysql-replication", "python-mysql-replication"

    def version(self) -> str:
        return version("mysql-replication")

    def command(self) -> Sequence[str | os.PathLike[str]]:
        settings = self.directory / "settings.json"
        settings.write_text(
            json.dumps(
                {
                    "redis": self.servers.redis.port,
                    "tables": TABLES,
                    "server_id": SERVER_ID,
                    "connection": {
                        "host": "127.0.0.1",
                        "port": self.servers.database.port,
                        "user": USER,
                        "passwd": PASSWORD,
                    },
                }
            )
        )
        return [sys.executable, Path(__file__).with_name("replication_loop.py"), settings]
