# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of batches that are given to the deleter."""

from __future__ import annotations

import math
from typing import Any

from gearsync.apply.applied_batches import AppliedBatches
from gearsync.apply.fences import Fences
from gearsync.apply.upstream import Made
from gearsync.apply.work import Work
from gearsync.outbox.changes import Entry


class Redis:
    """One that is asked for no fence."""

    def ask(self, commands: list[Any]) -> list[Any]:
        assert not commands
        return []


class GaveUp:
    """A deleter that has given up, and forgets what it is given."""

    def put(self, deletions: list[Any]) -> None:
        pass


def test_batches_that_the_deleter_has_dropped_are_not_known_to_be_deleted() -> None:
    fences = Fences(Redis(), "main")  # type: ignore[arg-type]  # what is used of it
    batches = AppliedBatches(fences, GaveUp(), keep=0.1)  # type: ignore[arg-type]
    for number in range(2000):
        work = Work([Entry(number, 0, "shop.a", "insert", b"{}")], [], {}, False)
        batches.add(work, {}, {}, frozenset(), [Made(0, "shop.a", [number], b"1234")])
        if number % 10 == 9:
            batches.confirm(math.inf, lambda _places: {})
    assert [kept.made.ids for kept in batches.kept] == [[number] for number in range(2000)]
