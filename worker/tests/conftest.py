# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers for the tests of the worker: started once for each process of pytest, emptied before each test,
started again where one was killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase
from harness.redis_cluster import Cluster
from harness.redis_server import RedisServer
from harness.worker import Worker


@pytest.fixture(scope="session")
def session_gearmand() -> Iterator[Gearmand]:
    with Gearmand() as server:
        yield server


@pytest.fixture(scope="session")
def session_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def session_database() -> Iterator[OutboxDatabase]:
    # Nothing here reads the binary log, and it would grow with all that the tests write.
    with OutboxDatabase("--skip-log-bin") as server:
        yield server


@pytest.fixture(scope="session")
def session_cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def gearmand(session_gearmand: Gearmand) -> Gearmand:
    """A job server, running, without jobs."""
    session_gearmand.reset()
    return session_gearmand


@pytest.fixture
def redis_server(session_redis: RedisServer) -> RedisServer:
    """A Redis, running, without data."""
    session_redis.reset()
    return session_redis


@pytest.fixture
def cluster(session_cluster: Cluster) -> Cluster:
    """A Redis Cluster of three nodes, whole, without data."""
    session_cluster.reset()
    return session_cluster


@pytest.fixture
def database(session_database: OutboxDatabase) -> OutboxDatabase:
    """A database server, running, with an empty outbox."""
    session_database.reset()
    return session_database


@pytest.fixture
def start_worker(tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    """A function that starts a worker; all of them are killed at the end."""
    started: list[Worker] = []

    def start(
        config: dict[str, Any],
        environment: dict[str, str] | None = None,
        program: bool = False,
        prefix: Sequence[str] = (),
    ) -> Worker:
        directory = tmp_path / f"worker{len(started)}"
        directory.mkdir()
        started.append(Worker(config, directory, environment, program, prefix))
        return started[-1]

    yield start
    for worker in started:
        if worker.running:
            worker.kill()
