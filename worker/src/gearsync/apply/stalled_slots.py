# SPDX-License-Identifier: GPL-3.0-or-later
"""Slots of a cluster that are unreachable while others are not, and the changes that wait for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from gearsync.outbox.spans import Spans
from gearsync.servers.outage import Outage

#: Seconds until the slots are tried again: at least, and at most; and so many waiting changes add a second.
_FIRST, _RATE, _LONGEST = 1.0, 5000, 30.0


class StalledSlots:
    """Keeps the order: later changes for these slots wait as well, and all are read again at the same
    time.
    """

    def __init__(self, outage: Outage) -> None:
        """``outage`` logs when slots stall, and when none does any more."""
        self._outage = outage
        #: The slots and their errors.
        self.slots: dict[int, Exception] = {}
        self.ids = Spans()
        self.retry_at = 0.0

    def due(self, now: float) -> bool:
        """Whether the slots are to be tried again."""
        return bool(self.slots) and now >= self.retry_at

    def add(self, failed: Mapping[int, Exception], ids: Sequence[int]) -> None:
        """The changes with these sorted ``ids`` wait, since these slots have ``failed``."""
        now = time.monotonic()
        if failed.keys() - self.slots.keys():
            self._outage.begin(str(next(iter(failed.values()))))
            self.retry_at = self.retry_at if self.slots else now + _FIRST
            self.slots.update(failed)
        # All waiting changes are read again then, so that more of them wait longer.
        self.retry_at = min(self.retry_at + len(ids) / _RATE, now + _LONGEST)
        self.ids.add(ids)

    def forget(self) -> Spans:
        """No slot is stalled from now on. Returns the ids that have waited."""
        ids, self.slots, self.ids = self.ids, {}, Spans()
        return ids

    def end(self) -> None:
        """End the outage if no slot is stalled."""
        if not self.slots:
            self._outage.end()
