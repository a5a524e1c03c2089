# SPDX-License-Identifier: GPL-3.0-or-later
"""A pipeline, and Debian's Prometheus beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.gearmand import Gearmand
from harness.monitored import DIRECT, DURABLE, Pipeline, Prometheus
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A durable and a direct table whose changes arrive, and the result of a verification that found a
    difference.
    """
    with OutboxDatabase() as database, Gearmand() as job_server, RedisServer() as redis:
        database.add_functions(job_server, connect_timeout_ms=60_000, io_timeout_ms=60_000)
        database.execute(
            "CREATE DATABASE shop",
            "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40))",
            "CREATE TABLE shop.visit (id INT PRIMARY KEY, page VARCHAR(40))",
        )
        for table in (DURABLE, DIRECT):
            database.sync_table(**table)
        whole = Pipeline(database, job_server, redis, tmp_path_factory.mktemp("pipeline"))
        until(lambda: whole.exporter.get("/readyz")[0], 200)
        whole.write()
        until(whole.arrived)
        whole.redis.client.delete("item:1")
        assert whole.commands.run("verify")[0] == 1
        yield whole
        if whole.worker.running:
            whole.worker.terminate()


@pytest.fixture(scope="session")
def prometheus(pipeline: Pipeline) -> Iterator[Prometheus]:
    """Prometheus, when it has read the worker's metrics a few times while rows were written."""
    with Prometheus(pipeline.exporter.port) as server:

        def read() -> bool:
            pipeline.write(5)
            return bool(server.query('count_over_time(up{job="gearsync"}[1m]) >= 5'))

        until(read)
        yield server
