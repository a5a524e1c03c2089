# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of the servers' answers: problems, readiness, activity, and the metrics of Prometheus."""

from __future__ import annotations

import threading
from typing import Any, Optional

import msgspec
import pytest
from gearsync.cli.status import as_json
from gearsync.cli.status_screen import screen
from gearsync.declare.configuration import Config
from gearsync.operate.exporter import readiness
from gearsync.operate.metric_families import counted, observed
from gearsync.operate.pipeline.activity import activity
from gearsync.operate.pipeline.observer import Observer, our_functions
from gearsync.operate.pipeline.problems import (
    column_problem,
    declaration_problem,
    hints,
    problems,
    trigger_problem,
)
from gearsync.operate.pipeline.state import (
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
    last_verification,
)
from gearsync.outbox.declarations import Declared
from gearsync.servers.gearman_admin import Queue
from gearsync.telemetry.metrics import CHANGES, ERRORS, Report, Tally
from harness.waiting import until
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from rich.console import Console

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
        Server("/run/mysqld.sock", True),
        Server("127.0.0.1:6379", True),
        [JobServer("127.0.0.1:4730", True, "", {"bToRedis": Queue(7, 1, 2)})],
        DatabaseState(**{**database, **other}),
    )


def down(state: PipelineState, **servers: Any) -> PipelineState:
    return msgspec.structs.replace(state, **servers)


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
    ],
)
def test_every_problem_is_reported(other: dict[str, Any], words: str) -> None:
    found = problems(in_order(**other), CONFIG)
    assert len(found) == 1
    assert words in found[0]


def test_servers_that_are_down_are_reported_and_only_what_is_needed_makes_it_unready() -> None:
    state = down(
        in_order(), job_servers=[JobServer("one:4730", False, "refused"), JobServer("two:4730", True)]
    )
    assert problems(state, CONFIG) == ["job server one:4730 cannot be used: refused"]
    assert readiness(state) == []
    state = down(
        in_order(),
        mysql=Server("db", False, "gone"),
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
        return declaration_problem(table, Synced("s", "a", {}, msgspec.structs.replace(same, **changes)))

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
    assert last_verification({"full": full, "failed": failed}) == msgspec.structs.replace(full, error="away")
    # It was verified since.
    assert (
        last_verification({"full": msgspec.structs.replace(full, finished=40.0), "failed": failed}).error
        == ""
    )
    assert last_verification({"failed": failed}).finished == 0.0


def test_a_table_that_was_never_verified_differs_from_one_that_was() -> None:
    found = samples(list(observed(in_order(verifications={}), {"source": "main"})))
    assert found["gearsync_verify_last_run_timestamp_seconds"] == {
        (("source", "main"), ("table", "s.a")): 0.0
    }
    failed = {"s.a": Verification(0.0, 100.0, 0, {}, 0, 0, "away")}
    found = samples(list(observed(in_order(verifications=failed), {"source": "main"})))
    assert found["gearsync_verify_could_not_tell"] == {(("source", "main"), ("table", "s.a")): 1.0}


def test_servers_that_do_not_answer_hide_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    config = msgspec.convert({"job_servers": [f"127.0.0.1:{port}" for port in range(1, 30)]}, Config)
    observer = Observer(config, 60.0, 0.5)
    silent = threading.Event()
    monkeypatch.setattr(observer, "_job_server", lambda name: silent.wait(900) and JobServer(name, True))
    monkeypatch.setattr(observer, "_redis", lambda: Server("redis", True))

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


class _Fixed(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self.families = families

    def collect(self) -> list[Metric]:  # type: ignore[override]
        return self.families


def samples(families: list[Metric]) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """What Prometheus reads: name → labels → value."""
    registry = CollectorRegistry()
    registry.register(_Fixed(families))
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {}), f"{sample.name} {labels} is there twice"
            found[sample.name][labels] = sample.value
    return found


def test_prometheus_reads_what_was_observed() -> None:
    found = samples(list(observed(in_order(), {"source": "main"})))
    assert found["gearsync_outbox_rows"] == {(("source", "main"), ("table", "s.a")): 2.0}
    assert found["gearsync_lease_held"] == {(("shard", "0"), ("source", "main")): 1.0}
    assert found["gearsync_job_server_jobs"] == {
        (("function", "bToRedis"), ("server", "127.0.0.1:4730"), ("source", "main")): 7.0
    }
    assert found["gearsync_udf_jobs_sent_total"] == {(("server", "127.0.0.1:4730"), ("source", "main")): 5.0}
    assert found["gearsync_udf_wakes_total"][(("result", "skipped"), ("source", "main"))] == 3.0
    assert found["gearsync_triggers_current"] == {(("source", "main"), ("table", "s.a")): 1.0}
    assert found["gearsync_mysql_up"] == {(("source", "main"),): 1.0}


def test_open_transactions_are_shown_and_are_absent_where_they_cannot_be_seen() -> None:
    found = samples(list(observed(in_order(transactions=Transactions(7.0, 9.0, 2)), {"source": "main"})))
    names = (
        "gearsync_oldest_writer_seconds",
        "gearsync_oldest_reader_seconds",
        "gearsync_prepared_transactions",
    )
    assert [found[name] for name in names] == [{(("source", "main"),): value} for value in (7.0, 9.0, 2.0)]
    found = samples(list(observed(in_order(transactions=None), {"source": "main"})))
    assert not found.keys() & {*names}
    assert found["gearsync_mysql_up"] == {(("source", "main"),): 1.0}


@pytest.mark.parametrize(
    ("transactions", "words"),
    [
        (None, []),
        (Transactions(60.0, 60.0, 1), []),
        (Transactions(600.0, 0.0, 0), ["a transaction that has written has been open for 10 min"]),
        (
            Transactions(600.0, 0.0, 1),
            [
                (
                    "a transaction that has written has been open for 10 min, and 1 prepared without a "
                    "client: see XA RECOVER"
                )
            ],
        ),
        (Transactions(0.0, 7200.0, 0), ["a transaction that only reads has been open for 120 min"]),
    ],
)
def test_transactions_that_stay_open_are_a_hint_and_no_problem(
    transactions: Optional[Transactions], words: list[str]
) -> None:
    state = in_order(transactions=transactions)
    assert hints(state) == words
    assert problems(state, CONFIG) == []
    answer = msgspec.json.decode(as_json(state, CONFIG))
    assert (answer["ok"], answer["hints"]) == (True, words)
    console = Console(width=200)
    with console.capture() as captured:
        console.print(screen(state, CONFIG))
    assert "in order" in captured.get()
    assert all(hint in captured.get() for hint in words)


def test_what_is_unknown_is_left_out() -> None:
    found = samples(
        list(observed(down(in_order(), mysql=Server("db", False, "gone"), database=None), {"source": "main"}))
    )
    assert found["gearsync_mysql_up"] == {(("source", "main"),): 0.0}
    assert not [
        name for name in found if name.startswith(("gearsync_outbox", "gearsync_lease", "gearsync_udf"))
    ]


def test_counters_are_there_before_anything_was_counted() -> None:
    tally = Tally({ERRORS: {"refused": 2}})
    tally.lag("s.a", 0.3, 4)
    found = samples(list(counted(tally, {"source": "main"}, ["s.a"], ["bToRedis"])))
    assert found["gearsync_changes_applied_total"] == {(("source", "main"), ("table", "s.a")): 0.0}
    assert found["gearsync_errors_total"][(("kind", "refused"), ("source", "main"))] == 2.0
    assert found["gearsync_errors_total"][(("kind", "dead_letter"), ("source", "main"))] == 0.0
    assert found["gearsync_lag_seconds_count"] == {(("source", "main"), ("table", "s.a")): 4.0}
    assert found["gearsync_lag_seconds_bucket"][(("le", "0.25"), ("source", "main"), ("table", "s.a"))] == 0.0
    assert found["gearsync_lag_seconds_bucket"][(("le", "0.5"), ("source", "main"), ("table", "s.a"))] == 4.0


def test_the_screen_shows_both_deliveries_and_the_problems() -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(screen(in_order(dead_letters={"s.a": 3}), CONFIG))
    text = captured.get()
    for words in (
        "1 problem",
        "s.a",
        "durable",
        "s.b",
        "direct",
        "current",
        "equal",
        "host:1",
        "127.0.0.1:6379",
        "breaker closed",
    ):
        assert words in text
    answer = msgspec.json.decode(as_json(in_order(), CONFIG))
    assert answer["ok"] is True
    assert answer["activity"]["s.a"]["rate"] == 5.0
    # The names of JSON members are a contract, whatever the attributes are called.
    assert answer["redis"] == {"name": "127.0.0.1:6379", "ok": True, "words": ""}
    assert answer["job_servers"][0].keys() == {"name", "ok", "words", "queues"}
