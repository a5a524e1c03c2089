# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes a worker has, and what one does whose second loop fails."""

from __future__ import annotations

import os
import pathlib
import signal
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from gearsync.cli.supervise import direct, drain, processes_of, work
from gearsync.declare.configuration import Config
from gearsync.telemetry.metrics import Tally

DURABLE: dict[str, Any] = {"table": "shop.item", "columns": ["id"], "write": []}
DIRECT: dict[str, Any] = {**DURABLE, "table": "shop.cache", "delivery": "direct"}


def _config(tables: list[dict[str, Any]], mysql: bool = True, **worker: int) -> Config:
    members = {"job_servers": ["h"], "tables": tables, "worker": worker}
    return msgspec.convert({**members, **({"mysql": {"user": "u"}} if mysql else {})}, Config)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (_config([DURABLE]), {"drain-0": ["drain-0", "direct-0"]}),
        (_config([DURABLE], drainers=2), {"drain-0": ["drain-0", "direct-0"], "drain-1": ["drain-1"]}),
        (_config([DURABLE], drainers=0), {"direct-0": ["direct-0"]}),
        (
            _config([DURABLE], processes=2),
            {"direct-0": ["direct-0"], "direct-1": ["direct-1"], "drain-0": ["drain-0"]},
        ),
        (_config([DURABLE, DIRECT]), {"direct-0": ["direct-0"], "drain-0": ["drain-0"]}),
        # The article's triggers, which are made by hand.
        (_config([]), {"direct-0": ["direct-0"], "drain-0": ["drain-0"]}),
        (_config([DIRECT], mysql=False), {"direct-0": ["direct-0"]}),
    ],
)
def test_jobs_have_a_process_of_their_own_where_some_are_expected(
    config: Config, expected: dict[str, list[str]]
) -> None:
    processes = processes_of(config)
    assert {name: list(loops) for name, loops in processes.items()} == expected
    for loops in processes.values():
        assert all(loop is (drain if name.startswith("drain") else direct) for name, loop in loops.items())


class _Delivery:
    """A loop whose steps do ``action``."""

    def __init__(self, action: Any) -> None:
        self.step, self.stopped, self.tally = action, False, Tally()
        self.servers = self.target = SimpleNamespace(close=lambda: None)

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        """There is nothing to close."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_ends_when_one_of_its_loops_fails(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", None)
    monkeypatch.setattr("gearsync.telemetry.logs.configure", lambda *_arguments: None)

    def fail(_seconds: float) -> None:
        raise MemoryError

    def loops(action: Any) -> Any:
        return lambda _config, _tally: _Delivery(action)

    kinds = {"drain-0": loops(lambda _seconds: None), "direct-0": loops(fail)}
    with pytest.raises(RuntimeError, match="the thread of direct delivery has ended"):
        work(_config([DURABLE]), kinds, tmp_path, SimpleNamespace(value=0.0))


def test_progress_is_that_of_the_loop_that_is_behind(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getaddrinfo", None)
    monkeypatch.setattr("gearsync.telemetry.logs.configure", lambda *_arguments: None)
    progress: Any = SimpleNamespace(value=0.0)
    seen: list[float] = []
    stuck: list[_Delivery] = []

    def main(_config: Any, _tally: Any) -> _Delivery:
        def step(_seconds: float) -> None:
            seen.append(progress.value)
            if len(seen) == 100:
                os.kill(os.getpid(), signal.SIGTERM)

        return _Delivery(step)

    def beside(_config: Any, _tally: Any) -> _Delivery:
        def step(_seconds: float) -> None:
            while not stuck[0].stopped:
                pass

        stuck.append(_Delivery(step))
        return stuck[0]

    work(_config([DURABLE]), {"drain-0": main, "direct-0": beside}, tmp_path, progress)
    assert len(set(seen[1:])) == 1
