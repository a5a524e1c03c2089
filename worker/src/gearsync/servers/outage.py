"""A server that does not do its work."""

from __future__ import annotations

import logging
import time

from gearsync.telemetry.metrics import ERRORS, Tally

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0


class Outage:
    """Logged when it begins and when it ends, tried again with a growing pause."""

    def __init__(self, name: str, action: str, longest: float, tally: Tally) -> None:
        self.name = name
        self.action = action
        self._tally = tally
        self.failures = 0
        self.since = 0.0
        self.retry_at = 0.0
        self._longest = min(longest, _LAST_PAUSE)
        self._said: set[str] = set()

    def begin(self, words: str) -> None:
        if words not in self._said:
            log.warning("%s, trying again for ever: %s", self.name, words, extra={"action": f"{self.action}_lost"})
        self._said.add(words)
        self._tally.count(ERRORS, f"{self.action}_lost")
        now = time.monotonic()
        self.since = self.since if self.failures else now
        self.retry_at = now + min(_FIRST_PAUSE * 2 ** min(self.failures, 16), self._longest)
        self.failures += 1

    def end(self) -> None:
        if self.failures:
            log.info("%s: over", self.name, extra={"action": f"{self.action}_back"})
        self.failures, self.retry_at = 0, 0.0
        self._said.clear()
