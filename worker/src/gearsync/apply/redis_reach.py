# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether this process reaches Redis: one that does not leaves its shards to others."""

from __future__ import annotations

from gearsync.servers.outage import Outage
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target

#: Seconds between two attempts to reach Redis while other processes hold the shards.
_PING = 2.0


class RedisReach:
    """``outage``: that of Redis, which its user begins and ends; ``lease``: seconds that a lease lasts."""

    def __init__(self, target: Target, outage: Outage, lease: float) -> None:
        self._target = target
        self._outage = outage
        self._lease = lease
        self._ping_at = 0.0
        self._answers = True

    def is_cut_off(self, now: float, *, has_yielded: bool) -> bool:
        """Whether this process has not reached Redis for longer than a lease. One that ``has_yielded`` writes
        nothing, so that it ends the outage here when Redis answers.
        """
        if not self._outage.failures or now - self._outage.since < self._lease:
            return False
        if now >= self._ping_at:
            self._ping_at = now + _PING
            try:
                self._target.ping()
                self._answers = True
            except Unavailable as error:
                self._answers = False
                self._outage.begin(str(error))
        if self._answers and has_yielded:
            self._outage.end()
        return not self._answers
