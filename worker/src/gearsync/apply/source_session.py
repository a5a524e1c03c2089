# SPDX-License-Identifier: GPL-3.0-or-later
"""The session over which a process drains: with which member it is, and how others know it."""

from __future__ import annotations

import logging
import uuid

from gearsync.servers.mysql import Database
from gearsync.servers.primary import NoPrimary
from gearsync.telemetry.metrics import ERRORS, Tally

log = logging.getLogger(__name__)


class SourceSession:
    """The last session that was begun."""

    def __init__(self, database: Database, tally: Tally) -> None:
        self._database = database
        self._tally = tally
        self._number = 0
        self._member = ""
        self._is_split = False
        #: A lock that it holds: another session is with the same server where it sees the lock held.
        self.lock = ""

    @property
    def is_new(self) -> bool:
        """Whether there is a later session: with another server, maybe. Raises DatabaseUnavailable."""
        return bool(self._database.connection) and not self.is_current

    @property
    def is_current(self) -> bool:
        """Whether there is no later session."""
        return self._number == self._database.sessions

    def begin(self) -> None:
        """Use the present session. Raises DatabaseUnavailable; then it is not begun."""
        if self.is_current:
            return
        self.lock = f"gearsync.{uuid.uuid4().hex}"
        self._database.run("DO GET_LOCK(%s, 0)", (self.lock,))
        name = self._database.member.name
        if self._member not in ("", name):
            log.warning(
                "the primary is %s, no longer %s", name, self._member, extra={"action": "primary_changed"}
            )
        self._number, self._member, self._is_split = self._database.sessions, name, False

    def failed(self, error: Exception) -> bool:
        """Whether an error means that there is no primary. Several of them are logged once."""
        if not isinstance(error, NoPrimary):
            return False
        if error.is_split and not self._is_split:
            self._is_split = True
            self._tally.count(ERRORS, "split_brain")
            log.error("nothing is drained: %s", error, extra={"action": "split_brain"})
        return True
