# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox over a connection of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.outbox.store import Outbox
from gearsync.servers.mysql import Database as Session
from harness.outbox_database import OutboxDatabase


@pytest.fixture
def session(database: OutboxDatabase) -> Iterator[Session]:
    session = Session(MySQLSettings(**database.account), 120.0)
    yield session
    session.close()


@pytest.fixture
def outbox(session: Session) -> Outbox:
    return Outbox(session)
