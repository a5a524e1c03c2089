# SPDX-License-Identifier: GPL-3.0-or-later
"""When a drain looks again, and for how long it holds its wakes."""

from __future__ import annotations

import pytest
from gearsync.apply.pace import FIRST_GAP, LAST_GAP, Pace

LINGER, SWEEP = 0.25, 5.0


@pytest.fixture
def pace() -> Pace:
    return Pace(LINGER, SWEEP)


def looks(pace: Pace, now: float, until: float, connected: bool = True) -> list[float]:
    """The times of the looks that find nothing, which take no time."""
    moments = []
    while now < until:
        pace.after_none(now, 0.0, connected)
        moments.append(now)
        now = pace.due
    return moments


def test_after_a_change_it_looks_at_growing_gaps_and_then_sweeps(pace: Pace) -> None:
    pace.woken(10.0)
    pace.after_changes(10.0, 0.0, more=False)
    times = looks(pace, pace.due, 30.0)
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    lingering = [gap for gap in gaps if gap < 1.0]
    assert lingering == sorted(lingering)
    assert (min(lingering), max(lingering)) == (pytest.approx(FIRST_GAP), pytest.approx(LAST_GAP))
    assert sum(lingering) == pytest.approx(LINGER, abs=2 * LAST_GAP)
    assert next(gap for gap in gaps if gap >= 1.0) == pytest.approx(SWEEP)


def test_an_idle_drain_looks_less_often() -> None:
    pace = Pace(LINGER, 0.25)
    pace.after_none(999.0, 0.0, connected=True)
    assert pace.due == pytest.approx(999.25)
    pace.woken(1000.0)
    times = looks(pace, 1000.0, 1200.0)
    gaps = {later: later - earlier for earlier, later in zip(times, times[1:])}
    swept = {moment: gap for moment, gap in gaps.items() if moment > 1001.0}
    # A commit that comes long after its wake waits for a sixtieth of that time, a second at most.
    assert all(gap <= max(0.25, (moment - 1000.0) / 60) + 1e-6 for moment, gap in swept.items())
    assert all(gap == pytest.approx(0.25) for moment, gap in swept.items() if moment < 1015.0)
    assert all(gap == pytest.approx(1.0) for moment, gap in swept.items() if moment > 1062.0)
    pace.woken(1200.0)
    pace.after_none(1201.0, 0.0, connected=True)
    assert pace.due == pytest.approx(1201.25)
    # Without wakes nothing changes.
    pace.after_none(1400.0, 0.0, connected=False)
    assert pace.due == pytest.approx(1400.05)


def test_a_sweep_comes_earlier_when_the_process_is_awake(pace: Pace) -> None:
    pace.woken(10.0)
    pace.after_none(10.1, 0.1, connected=True)
    pace.awake(10.15)
    # What the look costs is paid first.
    assert pace.due == pytest.approx(10.2)
    pace.after_none(11.0, 0.1, connected=True)
    pace.awake(11.5)
    assert pace.due == 11.5


def test_it_pauses_for_as_long_as_a_look_took(pace: Pace) -> None:
    pace.after_changes(10.0, 0.005, more=False)
    assert pace.due == pytest.approx(10.005)
    # While changes come, they wait no longer than after the last look that found none.
    pace.after_changes(10.0, 0.5, more=False)
    assert pace.due == pytest.approx(10.0 + LAST_GAP)
    pace.after_none(10.1, 0.1, connected=True)
    assert pace.due == pytest.approx(10.2)


def test_it_looks_at_once_when_there_are_more_changes(pace: Pace) -> None:
    pace.after_changes(10.0, 0.5, more=True)
    assert pace.due == 10.0


def test_a_wake_is_followed_by_a_look_at_once(pace: Pace) -> None:
    pace.after_none(10.0, 0.0, connected=True)
    assert pace.due == pytest.approx(10.0 + SWEEP)
    pace.woken(11.0)
    assert pace.due == 11.0


def test_wakes_are_held_while_changes_come(pace: Pace) -> None:
    pace.woken(10.0)
    assert pace.holds(10.0)
    for number in range(100):
        pace.after_changes(10.0 + number * 0.01, 0.001, more=False)
        assert pace.holds(10.0 + number * 0.01 + 0.009)
    assert not pace.holds(11.1)


def test_it_keeps_looking_for_the_commit_of_a_wake_that_was_merged_into_the_last_answered_one(
    pace: Pace,
) -> None:
    pace.woken(10.0)
    pace.released(10.2)
    times = looks(pace, 10.2, 30.0)
    assert len([time for time in times if time <= 10.2 + LINGER]) > LINGER / LAST_GAP


@pytest.mark.parametrize("connected", [True, False])
def test_without_wakes_it_looks_more_often(pace: Pace, connected: bool) -> None:
    """A change without a wake, or no job server that could deliver one."""
    if connected:
        pace.after_changes(10.0, 0.0, more=False)
    times = looks(pace, 10.5, 12.0, connected)
    assert max(later - earlier for earlier, later in zip(times, times[1:])) < 0.1
    pace.woken(12.0)
    pace.after_none(13.0, 0.0, connected)
    assert (pace.due - 13.0 == pytest.approx(SWEEP)) is connected


def test_changes_that_come_while_it_lingers_do_not_mean_that_wakes_are_missing(pace: Pace) -> None:
    pace.woken(10.0)
    pace.after_changes(10.1, 0.0, more=False)
    pace.after_changes(10.3, 0.0, more=False)
    pace.after_none(11.0, 0.0, connected=True)
    assert pace.due == pytest.approx(11.0 + SWEEP)
