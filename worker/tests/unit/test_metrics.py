# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters, lags and their percentiles."""

from __future__ import annotations

import pathlib

import msgspec
import pytest
from gearsync.telemetry import tallies
from gearsync.telemetry.metrics import BUCKETS, CHANGES, ERRORS, Histogram, Report, Tally, Window, merged
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.floats(0, 299, allow_nan=False), min_size=1), st.floats(0.01, 1))
def test_a_percentile_lies_in_the_bucket_of_the_value_that_it_stands_for(
    values: list[float], share: float
) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(0, -(-int(share * len(values) * 1e9) // 10**9) - 1)]
    bounds = (0.0, *BUCKETS)
    low = max(bound for bound in bounds if bound < exact or bound == 0.0)
    high = min(bound for bound in bounds[1:] if bound >= exact)
    found = histogram.percentile(share)
    assert found is not None
    assert low <= found <= high * (1 + 1e-9)
    assert sum(histogram.counts) == len(values)


def test_percentiles_of_nothing_and_beyond_the_last_bucket() -> None:
    histogram = Histogram()
    assert histogram.percentile(0.5) is None
    histogram.add(10_000.0, 3)
    assert histogram.percentile(0.5) == BUCKETS[-1]
    assert histogram.total == 30_000.0


def test_a_tally_is_what_it_was_and_what_came_since() -> None:
    tally = Tally()
    tally.count(CHANGES, "s.a", 3)
    tally.lag("s.a", 0.004, 3)
    former = msgspec.json.decode(msgspec.json.encode(tally), type=Tally)
    tally.count(CHANGES, "s.a", 2)
    tally.count(ERRORS, "refused")
    tally.lag("s.b", -1.0)
    since = tally.since(former)
    assert since.counters == {CHANGES: {"s.a": 2}, ERRORS: {"refused": 1}}
    assert list(since.lags) == ["s.b"]
    assert since.lags["s.b"].counts[0] == 1
    assert since.lags["s.b"].total == 0.0
    assert merged([former, since]) == tally
    assert str(former) == "3 changes"
    assert str(Tally()) == "nothing"


def test_a_window_forgets_what_is_older_than_a_minute() -> None:
    tally, window = Tally(), Window(60.0, 12)
    for second in range(0, 300, 5):
        tally.count(CHANGES, "s.a", 10)
        report = window.report(tally, float(second))
    assert report.seconds == pytest.approx(60.0)
    assert report.tally.counters == {CHANGES: {"s.a": 120}}
    assert Window().report(tally, 7.0) == Report(0.0, Tally())


def test_a_snapshot_survives_its_process_and_a_torn_file_is_nothing(tmp_path: pathlib.Path) -> None:
    tally = Tally({CHANGES: {"s.a": 1}})
    tallies.save(tmp_path / "drain-0.json", tally)
    (tmp_path / "direct-0.json").write_text("{")
    assert tallies.load_all(tmp_path) == {"direct-0": Tally(), "drain-0": tally}
    tallies.save(tmp_path / "absent" / "drain-0.json", tally)
    assert tallies.load(tmp_path / "absent" / "drain-0.json") == Tally()
