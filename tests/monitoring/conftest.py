"""A pipeline, and Debian's Prometheus beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.database import DatabaseServer
from harness.gearmand import Gearmand
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, Modules, libraries
from harness.monitored import DIRECT, DURABLE, Pipeline, Prometheus
from harness.waiting import until


@pytest.fixture(scope="session")
def database() -> Iterator[DatabaseServer]:
    with DatabaseServer() as server:
        yield server


@pytest.fixture(scope="session")
def job_server() -> Iterator[Gearmand]:
    with Gearmand() as server:
        yield server


@pytest.fixture(scope="session")
def pipeline(database: DatabaseServer, job_server: Gearmand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A durable and a direct table whose changes arrive, and the result of a verification that found a difference."""
    modules = Modules(database.login)
    modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, src=str(libraries() / GEARMAN_LIBRARY), functions=GEARMAN_FUNCTIONS)
    modules.ok("gearman_servers", servers=[job_server.address])
    database.execute(
        "SELECT gman_configure('connect_timeout_ms', 60000), gman_configure('io_timeout_ms', 60000)",
        "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40))",
        "CREATE TABLE shop.visit (id INT PRIMARY KEY, page VARCHAR(40))")
    for table in (DURABLE, DIRECT):
        modules.ok("sync_table", shards=2, **table)
    modules.remove()
    whole = Pipeline(database, job_server, tmp_path_factory.mktemp("pipeline"))
    try:
        until(lambda: whole.exporter.get("/readyz")[0], 200)
        whole.write()
        until(whole.arrived)
        whole.redis.client.delete("item:1")
        assert whole.run("verify") == 1
        yield whole
    finally:
        whole.stop()


@pytest.fixture(scope="session")
def prometheus(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, when it has read the worker's metrics a few times while rows were written."""
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), pipeline.exporter.port)
    try:
        until(lambda: server.get("/-/ready")[0], 200)

        def read() -> bool:
            pipeline.write(5)
            return bool(server.query('count_over_time(up{job="gearsync"}[1m]) >= 5'))

        until(read)
        yield server
    finally:
        server.stop()
