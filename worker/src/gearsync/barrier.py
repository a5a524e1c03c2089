"""Read your writes: answers when everything that was committed at the time of the question is in Redis."""

from __future__ import annotations

import time
from typing import Any, Optional

from gearsync.database import DatabaseUnavailable
from gearsync.outbox import Outbox

FUNCTION = "gearsync.barrier"
#: Seconds until the answer is what is missing; the job's caller waits for 30.
TIMEOUT = 10.0
_SLOWEST = 0.02


class Barrier:
    """One question. ``look`` until there is an answer."""

    def __init__(self, outbox: Outbox, timeout: float = TIMEOUT) -> None:
        self._outbox = outbox
        self._started = time.monotonic()
        self._timeout = timeout
        self._missing: Optional[dict[int, int]] = None
        self._gap = 0.001
        self.next_look = self._started

    def look(self) -> Optional[dict[str, Any]]:
        """The answer when there is one: nothing is missing any more, or the time is over."""
        over = time.monotonic() - self._started >= self._timeout
        try:
            if self._missing is None:
                self._missing = self._outbox.greatest()
            self._missing = {shard: number for shard, number in self._missing.items() if self._outbox.waits(shard, number)}
            answer: dict[str, Any] = {"ok": not self._missing}
            if self._missing and over:
                answer["missing"] = {str(shard): self._outbox.count(shard, number) for shard, number in self._missing.items()}
        except DatabaseUnavailable as error:
            answer = {"ok": False, "error": f"the database does not answer: {error}"}
        now = time.monotonic()
        if answer["ok"] or over:
            return {**answer, "seconds": round(now - self._started, 6)}
        self.next_look, self._gap = now + self._gap, min(self._gap * 1.5, _SLOWEST)
        return None


def wait(outbox: Outbox, timeout: float) -> dict[str, Any]:
    """The answer of a barrier, waited for."""
    barrier = Barrier(outbox, timeout)
    while (answer := barrier.look()) is None:
        time.sleep(max(0.0, barrier.next_look - time.monotonic()))
    return answer
