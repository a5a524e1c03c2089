# SPDX-License-Identifier: GPL-3.0-or-later
"""Maxwell with its Redis producer, built from a clone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from peers.peer import PASSWORD, SERVER_ID, TABLES, USER, Peer, clone, java, made_whole, run

#: The newest whose dependencies are on Maven Central: 1.45.0 wants a mysql-binlog-connector-java that is not.
VERSION = "1.44.1"
PROPERTIES = """
host=127.0.0.1
port={database}
user={user}
password={password}
replica_server_id={server_id}
# Where it keeps its position: a schema that it makes.
schema_database=maxwell
filter=exclude: *.*, {tables}
producer=redis
redis_host=127.0.0.1
redis_port={redis}
# The default, pubsub, drops what no client listens to.
redis_type=xadd
redis_key=maxwell.%{{database}}.%{{table}}
redis_stream_json_key=message
# By default a change that Redis refused is lost.
ignore_producer_error=false
"""


class Maxwell(Peer):
    name, title, stream = "maxwell", "Maxwell", "maxwell.bench.{table}"

    def version(self) -> str:
        return VERSION

    def install(self) -> None:
        java(11)
        if (self.work / VERSION).exists():
            return
        source = self.work / "source"
        clone(self.source, source, f"v{VERSION}")
        # Up to compile, which copies the libraries too.
        run("mvn", "-q", "-B", "-Dmaven.test.skip=true", "compile", directory=source)
        with made_whole(self.work / VERSION) as directory:
            for part in ("classes", "lib"):
                shutil.copytree(source / "target" / part, directory / part)

    def command(self) -> Sequence[str | os.PathLike[str]]:
        config = self.directory / "config.properties"
        config.write_text(
            PROPERTIES.format(
                database=self.servers.database.port,
                user=USER,
                password=PASSWORD,
                server_id=SERVER_ID,
                redis=self.servers.redis.port,
                tables=", ".join(f"include: bench.{table}" for table in TABLES),
            )
        )
        home = self.work / VERSION
        # What its bin/maxwell executes. It writes one XADD a change, as it comes; there is no batch to set.
        return [
            java(11),
            "-Xmx1g",
            "-Dfile.encoding=UTF-8",
            "-Dlog4j.shutdownCallbackRegistry=com.djdch.log4j.StaticShutdownCallbackRegistry",
            "-cp",
            f"{home}/classes:{home}/lib/*:{next((home / 'lib/kafka-clients').glob('*.jar'))}",
            "com.zendesk.maxwell.Maxwell",
            f"--config={config}",
        ]
