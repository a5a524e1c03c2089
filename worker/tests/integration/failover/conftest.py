# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and a replica that can take each other's place, and a worker that has both as members."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.commands import Commands
from harness.failover import TABLE, Pair
from harness.redis_server import RedisServer
from harness.worker import Worker, worker_config


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


@pytest.fixture
def config(pair: Pair, redis_server: RedisServer) -> dict[str, Any]:
    # As in production, but for a lease that a busy machine keeps.
    times = {"keep": 0.2, "remember": 60.0, "sweep": 0.25, "io_timeout": 60.0}
    return worker_config(redis_server.port, [TABLE], pair.account, **times)


@pytest.fixture
def worker(config: dict[str, Any], start_worker: Callable[..., Worker]) -> Worker:
    worker = start_worker(config)
    worker.says("action=lease_taken", times=2)
    return worker


@pytest.fixture
def commands(config: dict[str, Any], tmp_path: Path) -> Commands:
    return Commands({**config, "worker": {**config["worker"], "io_timeout": 5.0}}, tmp_path)
