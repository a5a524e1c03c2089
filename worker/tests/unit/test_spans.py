# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of ids as ranges work like sets of ids."""

from __future__ import annotations

from gearsync.outbox.spans import Spans, from_text, runs, text_of
from hypothesis import given
from hypothesis import strategies as st

IDS = st.lists(st.integers(0, 60), unique=True).map(sorted)
ACTIONS = st.lists(st.tuples(st.sampled_from(["add", "remove"]), IDS), max_size=8)


def built(actions: list[tuple[str, list[int]]]) -> tuple[Spans, set[int]]:
    spans, wanted = Spans(), set[int]()
    for action, ids in actions:
        getattr(spans, action)(ids)
        wanted = wanted | set(ids) if action == "add" else wanted - set(ids)
    return spans, wanted


@given(ACTIONS)
def test_adding_and_removing_works_like_a_set(actions: list[tuple[str, list[int]]]) -> None:
    spans, wanted = built(actions)
    assert {number for number in range(70) if number in spans} == wanted
    assert len(spans) == len(wanted)
    assert bool(spans) == bool(wanted)
    # Ranges neither touch nor overlap.
    ends = list(spans)
    assert all(last + 1 < first for (_, last), (first, _) in zip(ends, ends[1:]))


@given(IDS)
def test_runs_and_their_text_hold_exactly_the_ids(ids: list[int]) -> None:
    assert [number for first, last in runs(ids) for number in range(first, last + 1)] == ids
    assert list(from_text(text_of(runs(ids)))) == list(runs(ids))


@given(ACTIONS, st.integers(1, 6))
def test_gaps_hold_all_that_is_absent_in_no_more_ranges_than_asked_for(
    actions: list[tuple[str, list[int]]], most: int
) -> None:
    spans, wanted = built(actions)
    gaps, held = spans.gaps(most)
    assert len(gaps) <= most
    inside = {
        number
        for number in range(70)
        if any(first <= number and (last is None or number <= last) for first, last in gaps)
    }
    assert set(range(70)) - wanted <= inside
    assert held == len(wanted & inside)
    if len(list(spans)) < most:
        assert inside == set(range(70)) - wanted


def test_text_keeps_long_runs_short() -> None:
    assert text_of([(17, 20), (25, 25)]) == "17-20,25"
    assert text_of([]) == ""


@given(IDS, IDS)
def test_common_is_the_intersection(one: list[int], other: list[int]) -> None:
    assert list(Spans.of(one).common(Spans.of(other))) == list(runs(sorted({*one} & {*other})))
