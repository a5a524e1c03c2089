# SPDX-License-Identifier: GPL-3.0-or-later
"""go-mysql-transfer, built from a clone: a key a row, the row as JSON. (Its hashes are one hash a table.)"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import yaml

from peers.peer import PASSWORD, SERVER_ID, TABLES, USER, Peer, clone, run


class GoMysqlTransfer(Peer):
    name, title, as_json = "go-mysql-transfer", "go-mysql-transfer", True

    def version(self) -> str:
        return f"1.0.5 ({run('git', '-C', self.work / 'source', 'log', '-1', '--format=%h')})"

    def install(self) -> None:
        if (self.work / self.name).exists():
            return
        source = self.work / "source"
        clone(self.source, source, "HEAD")
        # Its modules of 2020 use what newer Go has taken away: the releases of these that go with it.
        run("go", "get", "golang.org/x/sys@v0.28.0", "github.com/modern-go/reflect2@v1.0.2", directory=source)
        run("go", "build", "-mod=mod", "-o", self.work / self.name, ".", directory=source)

    def prepare(self) -> None:
        (self.directory / "store").mkdir()
        self._config.write_text(
            yaml.safe_dump(
                {
                    "addr": f"127.0.0.1:{self.servers.database.port}",
                    "user": USER,
                    "pass": PASSWORD,
                    "charset": "utf8mb4",
                    "slave_id": SERVER_ID,
                    "flavor": "mariadb",
                    "data_dir": str(self.directory / "store"),
                    # At info it writes a line a row.
                    "logger": {"level": "warn"},
                    # Milliseconds that a row may wait for others (default 200), and rows that go at once (its
                    # documentation: 1,000 for Redis).
                    "flush_bulk_interval": 1,
                    "bulk_size": 1000,
                    "target": "redis",
                    "redis_addrs": f"127.0.0.1:{self.servers.redis.port}",
                    "rule": [
                        {
                            "schema": "bench",
                            "table": table,
                            "value_encoder": "json",
                            "redis_structure": "string",
                            "redis_key_prefix": f"bench_{table}:",
                        }
                        for table in TABLES
                    ],
                }
            )
        )
        # Where it begins: without this it replays all binary logs.
        file, position, *_rest = self.servers.database.execute("SHOW MASTER STATUS")[0]
        subprocess.run(
            [self.work / self.name, "-config", self._config, "-position", file, str(position)],
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def command(self) -> Sequence[str | os.PathLike[str]]:
        return [self.work / self.name, "-config", self._config]

    @property
    def _config(self) -> Path:
        return self.directory / "app.yml"
