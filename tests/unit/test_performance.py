# SPDX-License-Identifier: GPL-3.0-or-later
"""bench/: what is made of a run's results."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import report
from figures import FIGURES, NEIGHBOURS, Bar, Figure, best, ratio, shown, verdicts
from neighbours import look_times, oldest_ages
from peers.views import Change, as_change

ROOT = Path(__file__).resolve().parents[2]
#: As bench/performance.py keeps them; the figures are made up.
RESULTS: dict[str, Any] = {
    "date": "2026-01-02",
    "machine": "2 cores (a model), 24 GiB, Linux 6, Python 3.11, load 0.1",
    "cores": 2,
    "seconds": 30.0,
    "command": "make bench",
    "peers": {
        "gearsync": {
            "title": "gearsync",
            "version": "abc",
            "servers": "mariadb 10.11, Redis 7.0",
            "series": {},
            "failures": [],
            "figures": {
                "latency_p50": 1.25,
                "latency_p99": 6.0,
                "burst_rate": 1500.0,
                "burst_p99": 30.0,
                "quiet_p99": 8.0,
                "backlog_multi": 50_000.0,
                "backlog_peer": 0.97,
                "backlog_database": 0.2,
                "backlog_redis": 0.1,
                "writers_share": 0.79,
                "recovery": 1.0,
                "memory": 49.9,
                "lost": 0,
            },
        },
        "debezium": {
            "title": "Debezium Server",
            "version": "3",
            "servers": "mariadb 10.11, Redis 7.0",
            "series": {},
            "failures": [],
            "figures": {
                "latency_p50": 5.0,
                "latency_p99": 20.0,
                "burst_rate": 1600.0,
                "burst_p99": 45.0,
                "backlog_multi": 20_000.0,
                "writers_share": 0.7,
                "recovery": 30.0,
                "memory": 300.0,
                "lost": 0,
                "repeated": 15,
            },
        },
        "maxwell": {
            "title": "Maxwell",
            "version": "1",
            "servers": "mariadb 10.11, Redis 7.0",
            "series": {},
            "failures": [],
            "figures": {
                "latency_p50": 0.5,
                "latency_p99": 3.0,
                "burst_rate": 1000.0,
                "burst_p99": 29.0,
                "writers_share": 0.81,
            },
        },
    },
    "neighbours": {"open_p50": 5.0, "open_worst": 120.0},
}


def row(title: str, results: dict[str, Any] | None = None) -> list[str]:
    """The cells of a line of the table of RESULTS, or of others."""
    (line,) = [line for line in report.page(results or RESULTS).splitlines() if line.startswith(f"| {title}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_same_results_make_the_same_page() -> None:
    assert report.page(RESULTS) == report.page(copy.deepcopy(RESULTS))


def test_page_names_machine_versions_date_and_command() -> None:
    page = report.page(RESULTS)
    for text in (
        "a model",
        "mariadb 10.11, Redis 7.0",
        "2026-01-02",
        "`make bench`",
        "| gearsync abc | Debezium Server 3 | Maxwell 1 |",
    ):
        assert text in page


def test_line_has_figures_ratio_bars_and_verdicts() -> None:
    assert row("commit → visible at 500/s, p50") == [
        "commit → visible at 500/s, p50 (ms)",
        "1.25",
        "5",
        "0.50",
        "2.50",
        "≤ 1.50; ≤ 0.35 × Debezium Server (1.75)",
        "pass; pass",
    ]
    assert row("commit → visible at 500/s, p99")[-1] == "**missed**; pass"


def test_bar_of_the_best_peer_takes_the_best_of_all() -> None:
    assert row("commits reached of 4 × 500/s")[-2:] == ["≥ 0.9 × the best peer (1,440)", "pass"]
    assert row("commit → visible at 4 × 500/s, p99")[-2:] == ["≤ the best peer (29)", "**missed**"]
    assert row("8 writers")[-2:] == ["≥ 0.80; ≥ the best peer − 0.02 (0.79)", "**missed**; pass"]


def test_figure_that_a_peer_does_not_have_is_a_dash_without_a_verdict() -> None:
    assert row("commit → visible at 4/s, p99") == [
        "commit → visible at 4/s, p99 (ms)",
        "8",
        "–",
        "–",
        "–",
        "≤ 10",
        "pass",
    ]
    assert row("entries that came again")[1:] == ["–", "15", "–", "–", "", ""]


def test_bar_relative_to_a_peer_that_did_not_run_is_left_out() -> None:
    alone = copy.deepcopy(RESULTS)
    del alone["peers"]["debezium"]
    assert row("commit → visible at 500/s, p50", alone)[-2:] == ["≤ 1.50", "pass"]


def test_neighbours_are_lines_of_the_same_table() -> None:
    assert row("transactions open for 50 ms")[1:] == ["5", "–", "–", "–", "≤ 20", "pass"]
    assert row("the same, at worst")[-1] == "**missed**"


def test_page_tells_where_a_peer_is_ahead() -> None:
    better = report.page(RESULTS).split("## What peers do better")[1]
    assert "* commit → visible at 500/s, p50: Maxwell 0.50, ours 1.25 ms" in better
    assert "* memory" not in better


def test_page_tells_what_failed() -> None:
    assert "What failed" not in report.page(RESULTS)
    failed = copy.deepcopy(RESULTS)
    failed["peers"]["maxwell"]["failures"] = ["crash: a change after a kill: not within 180 s"]
    assert "* Maxwell: crash: a change after a kill: not within 180 s" in report.page(failed)
    assert any("Maxwell: crash" in line for line in report.missed(failed))


@pytest.mark.parametrize(
    ("cores", "words"),
    [
        ((0.97, 0.2, 0.1), "One core of the worker bounds"),
        ((0.9, 0.6, 0.4), "The machine bounds"),
        ((0.6, 0.3, 0.2), "No part bounds"),
    ],
)
def test_page_tells_what_bounds_a_backlog(cores: tuple[float, float, float], words: str) -> None:
    results = copy.deepcopy(RESULTS)
    results["peers"]["gearsync"]["figures"].update(
        zip(("backlog_peer", "backlog_database", "backlog_redis"), cores)
    )
    assert words in report.page(results)


def test_missed_has_each_bar_that_was_missed() -> None:
    assert report.missed(RESULTS) == [
        "commit → visible at 500/s, p99: 6, bar ≤ 5",
        "commit → visible at 4 × 500/s, p99: 30, bar ≤ the best peer (29)",
        "8 writers, share of their rate without: 0.79, bar ≥ 0.80",
        "the same, at worst: 120, bar ≤ 100",
    ]


def test_readme_gets_the_figures_between_its_marks_and_keeps_the_rest() -> None:
    begin, end = report.MARKS
    text = f"# A title\n\n{begin}\nformer\n{end}\n\nThe end.\n"
    once = report.readme(text, RESULTS)
    assert once.startswith("# A title\n")
    assert once.endswith("\n\nThe end.\n")
    assert "former" not in once
    assert "| memory after the latency run, PSS (ours: with gearmand) (MiB) | **49.9** | 300 | – |" in once
    assert "Measured by `make bench` on 2026-01-02" in once
    assert report.readme(once, RESULTS) == once


def test_readme_shows_in_which_lines_a_peer_is_ahead() -> None:
    text = report.readme("\n".join(report.MARKS), RESULTS)
    assert "| commit → visible at 500/s, p50 (ms) | 1.25 | 5 | **0.50** |" in text
    assert "| backlog of transactions of 1,000 rows (rows/s) | **50,000** | 20,000 | – |" in text
    assert "| 8 writers, share of their rate without | 0.79 | 0.70 | **0.81** |" in text


def test_readme_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="has no"):
        report.readme("# A title\n", RESULTS)


def test_readme_of_the_project_has_the_marks() -> None:
    assert report.readme((ROOT / "README.md").read_text(), RESULTS)


def test_keys_of_the_figures_are_unique_and_the_readme_has_known_ones() -> None:
    keys = [figure.key for figure in (*FIGURES, *NEIGHBOURS)]
    assert len(keys) == len(set(keys))
    assert set(report.README) <= set(keys)


def test_best_is_of_the_peers_only() -> None:
    less, more = Figure("a", "", "", "less"), Figure("b", "", "", "more")
    values = {"gearsync": 1.0, "x": 2.0, "y": 3.0, "z": None}
    assert best(less, values) == ("x", 2.0)
    assert best(more, values) == ("y", 3.0)
    assert ratio(less, values) == 0.5
    assert best(less, {"gearsync": 1.0}) is None


def test_limit_that_is_met_exactly_is_passed() -> None:
    figure = Figure("a", "", "", "more", (Bar(1, "best", -0.02),))
    assert [verdict.passed for verdict in verdicts(figure, {"gearsync": 0.8, "x": 0.82})] == [True]
    assert [verdict.passed for verdict in verdicts(figure, {"gearsync": 0.799, "x": 0.82})] == [False]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (1.254, "1.25"), (12.34, "12.3"), (123.4, "123"), (45678.9, "45,679")],
)
def test_figure_has_the_digits_that_count(value: float | None, text: str) -> None:
    assert shown(value) == text


def test_age_is_that_of_the_oldest_change_that_is_committed_and_waits() -> None:
    # One from 0 to 4, one from 1 to 2, and after a pause one from 10 to 12.
    assert oldest_ages([(0.0, 4.0), (1.0, 1.0), (10.0, 2.0)], every=1.0) == [0.0, 1.0, 2.0, 3.0, 0.0, 1.0]
    assert oldest_ages([]) == []


def test_look_is_a_select_of_payloads_of_the_outbox() -> None:
    log = "".join(
        "# Time: 261129  1:00:00\n# User@Host: peer[peer] @ [127.0.0.1]\n# Thread_id: 1  Schema:   QC_hit: "
        f"No\n# Query_time: {seconds}  Lock_time: 0.0\n"
        f"SET timestamp=1;\n{statement};\n"
        for seconds, statement in (
            (
                "0.000210",
                (
                    "SELECT CONCAT(id, payload) FROM gearsync.outbox FORCE INDEX (PRIMARY)\n ORDER BY "
                    "id LIMIT 10"
                ),
            ),
            ("0.5", "SELECT COUNT(*) FROM gearsync.outbox"),
            ("0.7", "DELETE FROM gearsync.outbox WHERE id = 1"),
            ("0.9", "SELECT 1"),
        )
    )
    assert look_times(log) == [0.00021]


@pytest.mark.parametrize(
    ("entry", "change"),
    [
        (
            {
                b"key": b'{"id":1}',
                b"value": b'{"before":null,"after":{"id":1,"value":7,"name":"x"},"op":"c"}',
            },
            Change(1, 7, False),
        ),
        ({b"value": b'{"before":{"id":1,"value":7,"name":"x"},"after":null,"op":"d"}'}, Change(1, 7, True)),
        (
            {
                b"message": b'{"database":"bench","table":"bulk","type":"update",'
                b'"data":{"id":2,"value":8,"name":"y"}}'
            },
            Change(2, 8, False),
        ),
        ({b"message": b'{"type":"delete","data":{"id":2,"value":8,"name":"y"}}'}, Change(2, 8, True)),
        ({b"other": b"text"}, None),
    ],
)
def test_entry_of_a_stream_is_read_as_debezium_and_maxwell_write_it(
    entry: dict[bytes, bytes], change: Change | None
) -> None:
    assert as_change(entry) == change
