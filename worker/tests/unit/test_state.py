# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the servers' answers: problems, readiness and activity."""

from __future__ import annotations

import threading
from typing import Any, Optional

import msgspec
import pytest
from gearsync.declare.configuration import Config
from gearsync.operate.exporter import readiness
from gearsync.operate.pipeline.activity import activity
from gearsync.operate.pipeline.observer import Observer, our_functions
from gearsync.operate.pipeline.problems import (
    column_problem,
    declaration_problem,
    problems,
    trigger_problem,
)
from gearsync.operate.pipeline.state import (
    DatabaseServer,
    JobServer,
    Lease,
    Server,
    Synced,
    Verification,
    Waiting,
    last_verification,
)
from gearsync.outbox.declarations import Declared
from gearsync.telemetry.metrics import CHANGES, Report, Tally
from harness.pipeline_states import CONFIG, SERVER, STATS, in_order
from harness.waiting import until
from msgspec.structs import replace


def test_a_pipeline_in_order_has_no_problems() -> None:
    state = in_order()
    assert problems(state, CONFIG) == []
    assert readiness(state) == []


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"waiting": {"s.a": Waiting(2, 60.0)}}, "s.a: a change has been waiting for 60 s"),
        ({"leases": [Lease(0, "host:1:abc", 3, -1.0)]}, "no worker process drains shard 0"),
        ({"leases": [Lease(0, None, 3, None)]}, "no worker process drains shard 0"),
        ({"workers": 0}, "no worker process is running"),
        ({"dead_letters": {"s.a": 3}}, "s.a: 3 dead letters"),
        ({"synced": {}, "triggers": {}}, "s.a is declared and has no triggers yet"),
        (
            {"triggers": {"s.a": "missing: gearsync_ai_a"}},
            "s.a: triggers missing: gearsync_ai_a; run site.yml",
        ),
        (
            {"verifications": {"s.a": Verification(1.0, 100.0, 10, {"missing": 2, "stale": 1}, 0, 5)}},
            "found 3 differences",
        ),
        (
            {"verifications": {"s.a": Verification(1.0, 100.0, 10, {"missing": 0}, 0, 0, "Redis was away")}},
            "the last verification failed: Redis was away",
        ),
        (
            {"verifications": {"s.a": Verification(1.0, 100.0, 10, {"missing": 0}, 7, 0)}},
            "could not compare 7 rows",
        ),
        (
            {"synced": {}, "triggers": {"s.a": "missing: the table is declared and was never deployed"}},
            "s.a is declared and has no triggers yet",
        ),
        (
            {"functions": {**STATS, "servers": [{**SERVER, "state": "open", "last_error": "refused"}]}},
            "skips the job server 127.0.0.1:4730: refused",
        ),
        (
            {"drained": "db2:3306", "workers": 0},
            "this host reaches a former primary, or a server that no worker has followed to yet",
        ),
    ],
)
def test_every_problem_is_reported(other: dict[str, Any], words: str) -> None:
    found = problems(in_order(**other), CONFIG)
    assert len(found) == 1
    assert words in found[0]


def test_servers_that_are_down_are_reported_and_only_what_is_needed_makes_it_unready() -> None:
    state = replace(
        in_order(), job_servers=[JobServer("one:4730", False, "refused"), JobServer("two:4730", True)]
    )
    assert problems(state, CONFIG) == ["job server one:4730 cannot be used: refused"]
    assert readiness(state) == []
    state = replace(
        in_order(),
        mysql=DatabaseServer("db", False, "gone"),
        redis=Server("cache", False, "away"),
        job_servers=[JobServer("one", False, "x")],
        database=None,
    )
    assert len(problems(state, CONFIG)) == 3
    assert readiness(state) == ["mysql: gone", "redis: away", "job server one: x"]


def test_triggers_are_compared_by_name_and_checksum() -> None:
    assert trigger_problem({"a": "1", "b": "2"}, {"a": "1", "b": "2", "theirs": "3"}) is None
    assert trigger_problem({"": "{}", "a": "1"}, {"a": "1"}) is None
    assert trigger_problem({"a": "1", "b": "2"}, {"b": "0"}) == "missing: a"
    assert trigger_problem({"a": "1", "b": "2"}, {"a": "1", "b": "0"}) == "not as deployed: b"


def test_columns_that_were_altered_since_are_named() -> None:
    assert (
        column_problem(
            {"a": "int", "b": "text utf8mb4_bin"}, {"a": "int", "b": "text utf8mb4_bin", "c": "int"}
        )
        is None
    )
    assert (
        column_problem({"a": "int", "b": "text utf8mb4_bin"}, {"a": "int", "c": "int"})
        == "made for other column types: b"
    )
    assert column_problem({"a": "int"}, {"a": "bigint"}) == "made for other column types: a"
    assert column_problem({"a": "int"}, {}) is None


def test_the_deployed_declaration_is_compared_with_the_configuration() -> None:
    (table, _direct) = CONFIG.tables
    assert declaration_problem(table, None) == "missing: the table is declared and was never deployed"
    same = Declared(
        [("id", "integer")],
        ["id"],
        ["id"],
        [],
        table.write,
        table.computed,
        table.transform,
        "s",
        "a",
        "",
        [],
    )

    def problem(**changes: Any) -> Optional[str]:
        return declaration_problem(table, Synced("s", "a", {}, replace(same, **changes)))

    assert problem() is None
    assert problem(columns=[("id", "integer"), ("old", "text")]) == "made from another declaration: old"
    assert problem(write=[]) == "made from another declaration: other writes"
    assert problem(transform="a:b") == "made from another declaration: another transform"
    # Of a former release nothing is known.
    assert declaration_problem(table, Synced("s", "a", {})) is None


def test_the_result_of_a_sample_does_not_hide_that_of_the_whole() -> None:
    full = Verification(10.0, 100.0, 1000, {"stale": 3}, 0, 0)
    equal, different = (
        Verification(20.0, 1.0, 10, {"stale": 0}, 0, 0),
        Verification(20.0, 1.0, 10, {"stale": 1}, 0, 0),
    )
    failed = Verification(30.0, 100.0, 5, {"stale": 0}, 0, 0, "away")
    assert last_verification({"full": full, "sample": equal}) == full
    assert last_verification({"full": full, "sample": different}) == different
    assert last_verification({"sample": equal}) == equal
    assert last_verification({"full": full, "failed": failed}) == replace(full, error="away")
    # It was verified since.
    assert last_verification({"full": replace(full, finished=40.0), "failed": failed}).error == ""
    assert last_verification({"failed": failed}).finished == 0.0


def test_servers_that_do_not_answer_hide_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    config = msgspec.convert({"job_servers": [f"127.0.0.1:{port}" for port in range(1, 30)]}, Config)
    observer = Observer(config, 60.0, 0.5)
    silent = threading.Event()
    monkeypatch.setattr(observer, "_job_server", lambda name: silent.wait(900) and JobServer(name, True))
    monkeypatch.setattr(observer, "_redis", lambda: (Server("redis", True), {}))

    def redis_answers() -> bool:
        state = observer.observe()
        assert {(server.ok, server.detail) for server in state.job_servers} == {
            (False, "no answer within 0.5 s")
        }
        return state.redis.ok

    for _look in range(2):
        # One that answers may be late too.
        until(redis_answers)
    silent.set()
    until(lambda: all(server.ok for server in observer.observe().job_servers))
    observer.close()


def test_only_our_functions_are_shown() -> None:
    ours = our_functions(CONFIG)
    names = [
        "syncToRedis",
        "bToRedis",
        "gearsync.drain.main.0",
        "gearsync.drain.other.0",
        "gearsync.drain.main.eu.0",
        "theirs",
    ]
    assert [name for name in names if ours(name)] == names[:3]


def test_the_activity_of_several_processes_is_summed_up() -> None:
    one, two = (
        Report(10.0, Tally({CHANGES: {"s.a": 50}})),
        Report(5.0, Tally({CHANGES: {"s.a": 50, "s.c": 5}})),
    )
    one.tally.lag("s.a", 0.002, 50)
    found = activity([one, two, Report(0.0, Tally())])
    assert found["s.a"].rate == pytest.approx(15.0)
    assert found["s.a"].p50 is not None
    assert 0.001 < found["s.a"].p50 <= 0.0025
    assert found["s.c"].p99 is None
