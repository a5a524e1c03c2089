# SPDX-License-Identifier: GPL-3.0-or-later
"""Read your writes: answers when all changes that were committed when the barrier began are in Redis."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Callable, Optional

from gearsync.outbox.spans import Spans
from gearsync.outbox.store import Outbox
from gearsync.servers.mysql_errors import DatabaseUnavailable
from gearsync.servers.redis_errors import Unavailable

#: Seconds until a barrier ends with the missing changes; the job's caller waits for 30.
TIMEOUT = 10.0
#: Seconds between two looks, at most.
_LAST_GAP = 0.02
#: How many missing changes are counted, at most.
_COUNTED = 20_000
#: Ranges of ids in one SELECT: enough for all, since changes that are in Redis must not be counted.
_MOST_RANGES = 10_000
#: The greatest id that the outbox can have.
_LAST_ID = 2**64 - 1


class Barrier:
    """One barrier: call ``look`` until it returns an answer."""

    def __init__(
        self,
        outbox: Outbox,
        applied: Callable[[], Spans],
        timeout: float = TIMEOUT,
        tables: Iterable[str] = (),
    ) -> None:
        """``applied`` returns the ids that are in Redis and may still be in the outbox, and those that cannot
        appear any more.

        With ``tables``, only changes of these count.
        """
        self._outbox = outbox
        self._applied = applied
        self._tables = list(tables)
        self._started = time.monotonic()
        self._timeout = timeout
        #: The greatest id that was committed when the barrier began.
        self._last: Optional[int] = None
        #: Dead letters with ids up to this one, at that time.
        self._dead_before = 0
        self._gap = 0.001
        self.next_look = self._started

    def look(self) -> Optional[dict[str, Any]]:
        """The answer once no change is missing or the time is over, else None. Raises DatabaseUnavailable
        and Unavailable.
        """
        if self._last is None:
            # Below the first absent id, an open snapshot may have left millions of deleted rows.
            self._last, self._dead_before = self._outbox.last_and_dead(self._applied().first_absent)
        missing = self._missing(1)
        if missing and not self._is_over:
            self._wait()
            return None
        # Changes that could not be applied are not in Redis, although they no longer wait.
        dead = self._outbox.dead(self._last) - self._dead_before
        answer: dict[str, Any] = {"ok": not missing and dead <= 0}
        if missing:
            answer["missing"] = self._missing(_COUNTED)
        if dead > 0:
            answer["dead"] = dead
        return self._answer(answer)

    def _missing(self, limit: int) -> dict[str, int]:
        """How many changes are not in Redis, by table, counted up to ``limit``."""
        assert self._last is not None  # noqa: S101  # look() has read it
        # Read before the outbox: a change that is applied in between costs one more look.
        applied = self._applied()
        applied_or_later = Spans(applied)
        applied_or_later.add_span(self._last + 1, _LAST_ID)
        ranges = [
            (first, last) for first, last in applied_or_later.gaps(_MOST_RANGES)[0] if first <= self._last
        ]
        return self._outbox.waiting(ranges, limit, self._tables) if ranges else {}

    def failed(self, error: Optional[Exception]) -> Optional[dict[str, Any]]:
        """The answer while a server is unavailable: None until the time is over."""
        if self._is_over:
            return self._answer({"ok": False, "error": f"the changes that wait are unknown: {error}"})
        self._wait()
        return None

    @property
    def _is_over(self) -> bool:
        return time.monotonic() - self._started >= self._timeout

    def _wait(self) -> None:
        self.next_look, self._gap = time.monotonic() + self._gap, min(self._gap * 1.5, _LAST_GAP)

    def _answer(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "seconds": round(time.monotonic() - self._started, 6)}


def wait(barrier: Barrier, patient: bool = True) -> dict[str, Any]:
    """Wait for a barrier's answer. Raises DatabaseUnavailable and Unavailable unless ``patient``."""
    while True:
        try:
            answer = barrier.look()
        except (DatabaseUnavailable, Unavailable) as error:
            if not patient:
                raise
            answer = barrier.failed(error)
        if answer is not None:
            return answer
        time.sleep(max(0.0, barrier.next_look - time.monotonic()))
