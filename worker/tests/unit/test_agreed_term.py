# SPDX-License-Identifier: GPL-3.0-or-later
"""Which server may be drained after another one, by the terms that its data know."""

from __future__ import annotations

import pytest
from gearsync.apply.agreed_term import Recorded, obstacle, recorded
from gearsync.outbox.terms import Known, Term, own_term

FIRST, SECOND, THIRD = Term(1, "a"), Term(2, "b"), Term(3, "a")
MINUTE = 60_000_000


@pytest.mark.parametrize(
    ("known", "own"),
    [
        ({}, Term(1, "a")),
        ({FIRST: 5}, FIRST),
        # It is drained again: that is another term.
        ({FIRST: 5, SECOND: 6}, THIRD),
        ({FIRST: 5, SECOND: 6, THIRD: 7}, THIRD),
        # Two servers were drained apart from each other.
        ({SECOND: 6, Term(2, "a"): 7}, THIRD),
    ],
)
def test_a_server_has_the_last_term_or_begins_the_next(known: Known, own: Term) -> None:
    assert own_term("a", known, 1) == own


def test_a_term_never_gets_smaller_on_a_server_that_was_restored() -> None:
    assert own_term("a", {}, 7) == Term(7, "a")


@pytest.mark.parametrize(
    ("server", "known", "words"),
    [
        ("b", {}, ""),
        ("a", {FIRST: 5}, "has no data of that term"),
        ("a", {FIRST: 5, Term(2, "c"): 9}, "has no data of that term"),
        ("a", {FIRST: 5, SECOND: 9 * MINUTE}, ""),
        ("c", {SECOND: 8 * MINUTE}, ""),
        ("c", {SECOND: 8 * MINUTE - 1}, "lacks the last minute"),
    ],
)
def test_a_server_follows_another_one_of_whose_term_its_data_know(
    server: str, known: Known, words: str
) -> None:
    reason = obstacle(Recorded(SECOND, 9 * MINUTE, "host:1:x", "db2"), server, known)
    assert reason.startswith(words) if words else reason == ""


def test_the_first_term_is_followed_also_where_nothing_of_it_has_arrived() -> None:
    state = Recorded(FIRST, 5, "host:1:x", "db1")
    assert obstacle(state, "b", {}) == ""
    assert obstacle(state, "b", {Term(1, "c"): 5}) != ""


def test_what_is_recorded_is_read_back() -> None:
    state = Recorded(SECOND, 5, "host:1:x", "/run/my socket")
    assert recorded(str(state)) == state
    # A fence has the term alone.
    assert recorded("2 b") == Recorded(SECOND, 0, "", "the server b")
