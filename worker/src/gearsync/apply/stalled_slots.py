"""Slots of a cluster that are out of reach while others are not, and the changes that wait for them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from gearsync.outbox.spans import Spans
from gearsync.servers.outage import Outage

#: Seconds until the slots are tried again: at least, for so many changes that wait one more, and at most.
_FIRST, _RATE, _LONGEST = 1.0, 5000, 30.0


class StalledSlots:
    """Nothing that comes later for these slots overtakes what waits: all of it is read again at one time."""

    def __init__(self, outage: Outage) -> None:
        """``outage`` reports it."""
        self._outage = outage
        #: The slots, and why they are out of reach.
        self.slots: dict[int, Exception] = {}
        self.ids = Spans()
        self.retry_at = 0.0

    def due(self, now: float) -> bool:
        """Whether the slots are to be tried again."""
        return bool(self.slots) and now >= self.retry_at

    def add(self, failed: Mapping[int, Exception], ids: Sequence[int]) -> None:
        """The changes with these sorted ``ids`` wait, because these slots have ``failed``."""
        now = time.monotonic()
        if failed.keys() - self.slots.keys():
            self._outage.begin(str(next(iter(failed.values()))))
            self.retry_at = self.retry_at if self.slots else now + _FIRST
            self.slots.update(failed)
        # All of them are read again then.
        self.retry_at = min(self.retry_at + len(ids) / _RATE, now + _LONGEST)
        self.ids.add(ids)

    def forget(self) -> Spans:
        """Try all slots from now on. Returns the ids of what has waited."""
        ids, self.slots, self.ids = self.ids, {}, Spans()
        return ids

    def end(self) -> None:
        """Report that nothing waits any more, when that is so."""
        if not self.slots:
            self._outage.end()
