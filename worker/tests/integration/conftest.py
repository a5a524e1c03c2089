# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox over a connection of the test's own, and a worker that is observed."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.outbox.store import Outbox
from gearsync.servers.mysql import Database as Session
from harness.commands import Commands
from harness.gearmand import Gearmand
from harness.observed import TABLE, Exporter, Pipeline
from harness.outbox_database import OutboxDatabase
from harness.ports import free_port
from harness.redis_server import RedisServer
from harness.worker import Worker, worker_config


@pytest.fixture
def session(database: OutboxDatabase) -> Iterator[Session]:
    session = Session(MySQLSettings(**database.account), 120.0)
    yield session
    session.close()


@pytest.fixture
def outbox(session: Session) -> Outbox:
    return Outbox(session)


@pytest.fixture
def pipeline(
    database: OutboxDatabase,
    redis_server: RedisServer,
    gearmand: Gearmand,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> Pipeline:
    """A synced table, and a worker with an exporter that is not started yet."""
    exporter = Exporter(free_port())
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(100)) ENGINE=InnoDB")
    database.sync_table(**TABLE)
    listen = f"127.0.0.1:{exporter.port}"
    config = worker_config(
        redis_server.port, [TABLE], database.account, gearmand.address, metrics_listen=listen, lease=5.0
    )
    return Pipeline(
        config, Commands(config, tmp_path), database, redis_server, exporter, lambda: start_worker(config)
    )
