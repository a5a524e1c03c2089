# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that is unavailable."""

from __future__ import annotations

import logging
import time

from gearsync.telemetry.metrics import ERRORS, Tally

log = logging.getLogger(__name__)

_FIRST_PAUSE, _LAST_PAUSE = 0.05, 2.0


class Outage:
    """Logs when it begins and when it ends; ``retry_at`` moves away with each failure."""

    def __init__(self, name: str, action: str, longest: float, tally: Tally) -> None:
        self.name = name
        self.action = action
        self._tally = tally
        self.failures = 0
        self.since = 0.0
        self.retry_at = 0.0
        self._longest = min(longest, _LAST_PAUSE)
        #: Reasons that were logged during this outage: each is logged once.
        self._logged: set[str] = set()

    def begin(self, reason: str, *, quiet: bool = False) -> None:
        """Count a failure: the first one begins the outage. A ``quiet`` one is reported elsewhere."""
        if not quiet:
            if reason not in self._logged:
                log.warning(
                    "%s, retrying indefinitely: %s",
                    self.name,
                    reason,
                    extra={"action": f"{self.action}_lost"},
                )
            self._logged.add(reason)
            self._tally.count(ERRORS, f"{self.action}_lost")
        now = time.monotonic()
        self.since = self.since if self.failures else now
        self.retry_at = now + min(_FIRST_PAUSE * 2 ** min(self.failures, 16), self._longest)
        self.failures += 1

    def end(self) -> None:
        if self._logged:
            log.info("resolved: %s", self.name, extra={"action": f"{self.action}_back"})
        self.failures, self.retry_at = 0, 0.0
        self._logged.clear()
