# SPDX-License-Identifier: GPL-3.0-or-later
"""Durable delivery with real servers: the outbox in MariaDB, the worker as a process, Redis; all of them
are killed.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import ITEM, LOGS
from harness.worker import Worker, worker_config


@pytest.fixture
def config(database: OutboxDatabase, redis_server: RedisServer) -> dict[str, Any]:
    """A worker without a job server: it looks for changes by itself."""
    return worker_config(redis_server.port, [ITEM, LOGS], database.account, log_level="debug", sweep=0.25)


@pytest.fixture
def worker(config: dict[str, Any], start_worker: Callable[..., Worker]) -> Worker:
    return start_worker(config)


TRANSFORM = """
import os, sys, time

def shout(row, table):
    pause = os.environ.get("PAUSE", "/nonexistent")
    while os.path.exists(pause):
        open(pause + ".seen", "w").close()
        time.sleep(0.01)
    if row["name"] == "secret":
        return None
    if row["name"] == "bad":
        raise ValueError("no " + row["name"])
    if row["name"] == "exit":
        sys.exit(3)
    if row["name"] == "half":
        raise ValueError("half a pair: \\udcff")
    row["loud"] = f"{row['name']}!".upper()
    return row
"""


@pytest.fixture
def shouting(config: dict[str, Any], tmp_path: pathlib.Path) -> dict[str, Any]:
    """A configuration with a transform."""
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/gearsync_test_hook.py").write_text(TRANSFORM)
    table = {
        "table": "shop.item",
        "columns": ["id", "name", "price"],
        "transform": "gearsync_test_hook:shout",
        "computed": ["loud"],
        "write": [
            {"type": "hash", "key": "item:{id}"},
            {"type": "set", "key": "loud:{loud}", "member": "{id}"},
        ],
    }
    return {
        **config,
        "worker": {**config["worker"], "python_path": str(tmp_path / "hooks")},
        "tables": [table],
    }
