# SPDX-License-Identifier: GPL-3.0-or-later
"""The state of a pipeline with one durable and one direct table, as an observer would find it."""

from __future__ import annotations

from typing import Any

import msgspec
from gearsync.declare.configuration import Config
from gearsync.operate.pipeline.state import (
    DatabaseServer,
    DatabaseState,
    JobServer,
    Lease,
    Load,
    PipelineState,
    Server,
    Synced,
    Transactions,
    Verification,
    Waiting,
)
from gearsync.servers.gearman_admin import Queue
from gearsync.telemetry.metrics import CHANGES, Report, Tally

CONFIG = msgspec.convert(
    {
        "job_servers": ["127.0.0.1:4730"],
        "mysql": {"user": "gearsync"},
        "tables": [
            {"table": "s.a", "columns": ["id"], "write": [{"type": "hash", "key": "a:{id}"}]},
            {
                "table": "s.b",
                "delivery": "direct",
                "function": "bToRedis",
                "columns": ["id"],
                "write": [{"type": "hash", "key": "b:{id}"}],
            },
        ],
    },
    Config,
)
SERVER: dict[str, Any] = {
    "address": "127.0.0.1:4730",
    "state": "closed",
    "jobs_sent": 5,
    "failures": {"connect": 1, "timeout": 0},
    "last_error": None,
}
STATS = {"servers": [SERVER] * 2, "wakes": {"sent": 4, "skipped": 3, "dropped": 0}}


def in_order(**other: Any) -> PipelineState:
    """A pipeline without problems, but for ``other`` members of its database."""
    report = Report(10.0, Tally({CHANGES: {"s.a": 50}}))
    report.tally.lag("s.a", 0.002, 50)
    database: dict[str, Any] = {
        "waiting": {"s.a": Waiting(2, 0.5)},
        "truncated": False,
        "leases": [Lease(0, "host:1:abc", 3, 9.0)],
        "workers": 1,
        "dead_letters": {},
        "synced": {"s.a": Synced("s", "a", {"gearsync_ai_a": "1"})},
        "verifications": {"s.a": Verification(1.0, 100.0, 10, {"missing": 0}, 0, 0)},
        "loads": {"s.a": Load(10, 1.0, True)},
        "reports": {"host:1:abc": report},
        "triggers": {"s.a": None},
        "functions": STATS,
        "transactions": Transactions(2.0, 3.0, 0),
    }
    return PipelineState(
        100.0,
        "main",
        DatabaseServer("/run/mysqld.sock", True),
        Server("127.0.0.1:6379", True),
        [JobServer("127.0.0.1:4730", True, "", {"bToRedis": Queue(7, 1, 2)})],
        DatabaseState(**{**database, **other}),
    )
