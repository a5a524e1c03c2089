# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A statement that failed for good, and why."""

from __future__ import annotations

import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._lock_holders import lock_timeout_message
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ER_LOCK_WAIT_TIMEOUT,
    quote,
)


class StatementFailed(Exception):
    """The message is for the operator. blocked_by: the numbers of the connections that held the lock; None
    when it was not a lock that was missing.
    """

    def __init__(self, message, blocked_by=None):
        super().__init__(message)
        self.blocked_by = blocked_by

    @property
    def result(self):
        """What the module returns of it."""
        return {"msg": str(self), **({} if self.blocked_by is None else {"blocked_by": self.blocked_by})}


def statement_failed(database, error, what, schema, seconds):
    """The StatementFailed of an error of a statement that changes a schema of ours. what: names it in the
    message. seconds: how long locks were waited for.
    """
    if error.code != ER_LOCK_WAIT_TIMEOUT:
        return StatementFailed(f"{what}: {error}")
    # What is prepared names no table: the only such statement is of the outbox.
    named = re.search(f"{re.escape(quote(schema))}\\.`(\\w+)`", error.sql)
    message, holders = lock_timeout_message(
        database,
        schema,
        named.group(1) if named else "outbox",
        seconds,
        f"Executed before: {len(database.queries)} statement(s); run this again to continue.",
    )
    return StatementFailed(f"{what}: {message}", holders)
