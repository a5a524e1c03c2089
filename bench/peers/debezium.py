# SPDX-License-Identifier: GPL-3.0-or-later
"""Debezium Server with its MariaDB connector and its Redis sink, from Maven Central."""

from __future__ import annotations

import os
from collections.abc import Sequence

from peers.peer import PASSWORD, SERVER_ID, TABLES, USER, Peer, java, made_whole, run

VERSION = "3.6.1.Final"
#: What is not named has its default.
PROPERTIES = r"""
debezium.source.connector.class=io.debezium.connector.mariadb.MariaDbConnector
debezium.source.database.hostname=127.0.0.1
debezium.source.database.port={database}
debezium.source.database.user={user}
debezium.source.database.password={password}
debezium.source.database.server.id={server_id}
debezium.source.topic.prefix=debezium
debezium.source.table.include.list={tables}
# No snapshot of the rows: only the tables' structure and the current position, at the first start.
debezium.source.snapshot.mode=no_data
# A batch waits until it is full or this time is over, so it is the greater part of the latency (default 500).
debezium.source.poll.interval.ms=5
# The sink's pipelines are as long as the connector's batches (the sink's default is 500): a backlog needs
# fewer round trips.
debezium.source.max.batch.size=2048
debezium.source.max.queue.size=8192
debezium.sink.redis.batch.size=2048
# After every batch: a crash repeats one batch at most.
debezium.source.offset.flush.interval.ms=0
# The offset goes on also while these tables are quiet; without entries of its own in the streams.
debezium.source.heartbeat.interval.ms=1000
debezium.sink.redis.skip.heartbeat.messages=true
# The file store truncates its file first, and takes an empty file for a first start.
debezium.source.offset.storage=io.debezium.storage.redis.offset.RedisOffsetBackingStore
debezium.source.offset.storage.redis.address=127.0.0.1:{redis}
debezium.source.offset.storage.redis.db.index=1
debezium.source.schema.history.internal=io.debezium.storage.file.history.FileSchemaHistory
debezium.source.schema.history.internal.file.filename={directory}/schema-history.dat
debezium.source.schema.history.internal.store.only.captured.tables.ddl=true
debezium.source.include.schema.changes=false
debezium.source.tombstones.on.delete=false
debezium.format.key.schemas.enable=false
debezium.format.value.schemas.enable=false
debezium.sink.type=redis
debezium.sink.redis.address=127.0.0.1:{redis}
debezium.sink.redis.message.format=extended
debezium.source.extended.headers.enabled=false
quarkus.http.host-enabled=false
quarkus.log.console.json.enabled=false
quarkus.banner.enabled=false
"""


class Debezium(Peer):
    name, title, stream = "debezium", "Debezium Server", "debezium.bench.{table}"

    def version(self) -> str:
        return VERSION

    def install(self) -> None:
        java(21)
        if (self.work / VERSION).exists():
            return
        with made_whole(self.work / VERSION) as directory:
            run(
                "mvn",
                "-q",
                "-B",
                "dependency:copy",
                f"-Dartifact=io.debezium:debezium-server-dist:{VERSION}:tar.gz",
                f"-DoutputDirectory={directory}",
            )
            archive = next(directory.glob("*.tar.gz"))
            run("tar", "-xzf", archive, "-C", directory, "--strip-components=1")
            archive.unlink()

    def command(self) -> Sequence[str | os.PathLike[str]]:
        config = self.directory / "application.properties"
        config.write_text(
            PROPERTIES.format(
                database=self.servers.database.port,
                user=USER,
                password=PASSWORD,
                server_id=SERVER_ID,
                redis=self.servers.redis.port,
                directory=self.directory,
                tables=",".join(rf"bench\\.{table}" for table in TABLES),
            )
        )
        home = self.work / VERSION
        # What its run.sh executes. The heap is for the backlog that max.queue.size bounds.
        return [
            java(21),
            "-Xmx1g",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            f"-Dquarkus.config.locations={config}",
            "-cp",
            f"{next(home.glob('debezium-server-*runner.jar'))}:{home}/config/lib:{home}/lib/*",
            "io.debezium.server.Main",
        ]
