# SPDX-License-Identifier: GPL-3.0-or-later
"""A pipeline's state as Prometheus reads it, and as `gearsync status` shows it."""

from __future__ import annotations

from typing import Optional

import msgspec
import pytest
from gearsync.cli.status import answer as status_answer
from gearsync.cli.status_screen import screen
from gearsync.operate.metric_families import counted, observed
from gearsync.operate.pipeline.problems import (
    hints,
    problems,
)
from gearsync.operate.pipeline.state import (
    DatabaseServer,
    Transactions,
    Verification,
)
from gearsync.telemetry.metrics import ERRORS, Tally
from harness.pipeline_states import CONFIG, in_order
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from rich.console import Console


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


def test_a_table_that_was_never_verified_differs_from_one_that_was() -> None:
    found = samples(list(observed(in_order(verifications={}), {"source": "main"})))
    assert found["gearsync_verify_last_run_timestamp_seconds"] == {
        (("source", "main"), ("table", "s.a")): 0.0
    }
    failed = {"s.a": Verification(0.0, 100.0, 0, {}, 0, 0, "away")}
    found = samples(list(observed(in_order(verifications=failed), {"source": "main"})))
    assert found["gearsync_verify_could_not_tell"] == {(("source", "main"), ("table", "s.a")): 1.0}


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
    answer = msgspec.json.decode(msgspec.json.encode(status_answer(state, CONFIG)))
    assert (answer["ok"], answer["hints"]) == (True, words)
    console = Console(width=200)
    with console.capture() as captured:
        console.print(screen(state, CONFIG))
    assert "in order" in captured.get()
    assert all(hint in captured.get() for hint in words)


def test_what_is_unknown_is_left_out() -> None:
    state = replace(in_order(), mysql=DatabaseServer("db", False, "gone"), database=None)
    found = samples(list(observed(state, {"source": "main"})))
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
    answer = msgspec.json.decode(msgspec.json.encode(status_answer(in_order(), CONFIG)))
    assert answer["ok"] is True
    assert answer["activity"]["s.a"]["rate"] == 5.0
    # The names of JSON members are a contract, whatever the attributes are called.
    assert answer["redis"] == {"name": "127.0.0.1:6379", "ok": True, "words": ""}
    assert answer["job_servers"][0].keys() == {"name", "ok", "words", "queues"}
