# SPDX-License-Identifier: GPL-3.0-or-later
"""What a batch of jobs that cannot be applied logs."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from gearsync.apply.direct import DirectDelivery
from gearsync.apply.router import Router
from gearsync.declare.configuration import Config
from gearsync.servers.gearman import Job
from gearsync.telemetry.metrics import ERRORS, Tally


def test_the_lost_jobs_of_a_batch_are_one_message_with_their_number(caplog: pytest.LogCaptureFixture) -> None:
    jobs: list[Any] = [
        Job(None, b"H:%d" % number, "syncToRedis", data, None)  # type: ignore[arg-type]  # it is not answered
        for number, data in enumerate([b"no json"] * 40 + [b'{"name": 1}'] * 30)
    ]
    tally = Tally()
    servers: Any = SimpleNamespace(
        batch=jobs, poll=lambda _seconds: None, answer=lambda *_result: None, finish_batch=lambda: None
    )
    target: Any = SimpleNamespace(name="redis", apply=lambda commands: ["WRONGTYPE"] * len(commands))
    delivery = DirectDelivery(
        msgspec.convert({"job_servers": ["h"]}, Config), servers, target, Router([]), tally
    )
    with caplog.at_level(logging.ERROR):
        delivery.step(0.0)
    by_action = {record.__dict__["action"]: record for record in caplog.records}
    assert len(caplog.records) == 2
    assert by_action["malformed"].__dict__["count"] == 40
    assert by_action["refused"].__dict__["ids"] == ["H:40", "H:41", "H:42", "H:43", "H:44"]
    assert "30 jobs of syncToRedis" in by_action["refused"].getMessage()
    assert tally.counters[ERRORS] == {"malformed": 40, "refused": 30}
