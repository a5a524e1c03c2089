# SPDX-License-Identifier: GPL-3.0-or-later
"""A renewal of the leases is one transaction, which is never left open."""

from __future__ import annotations

import pytest
from gearsync.outbox.lease import Leases
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import RowsLocked
from harness.outbox_database import OutboxDatabase


@pytest.fixture
def leases(session: Database) -> Leases:
    leases = Leases(session, 3600.0)
    leases.add([1, 2])
    leases.refresh()
    return leases


def test_a_renewal_that_waits_for_a_locked_lease_changes_nothing_and_ends_its_transaction(
    database: OutboxDatabase, session: Database, leases: Leases
) -> None:
    def state() -> object:
        return database.execute("SELECT owner, expires_at FROM gearsync.worker ORDER BY owner")

    before = state()
    session.run("SET SESSION innodb_lock_wait_timeout = 1")
    with database.connect(autocommit=False) as other, other.cursor() as cursor:
        cursor.execute("SELECT shard FROM gearsync.lease WHERE shard = 2 FOR UPDATE")
        with pytest.raises(RowsLocked):
            leases.refresh()
        assert state() == before
        # No row of another lease stays locked.
        cursor.execute("SELECT shard FROM gearsync.lease WHERE shard = 1 FOR UPDATE NOWAIT")
        cursor.execute("SELECT owner FROM gearsync.worker FOR UPDATE NOWAIT")
    leases.refresh()
    assert sorted(leases.held) == [1, 2]
    assert state() != before
