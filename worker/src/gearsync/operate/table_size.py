# SPDX-License-Identifier: GPL-3.0-or-later
"""How large a table is, for progress bars."""

from __future__ import annotations

from gearsync.outbox.synced_table import SyncedTable
from gearsync.servers.mysql import Database


def estimated_rows(database: Database, synced: SyncedTable) -> int:
    """The table's number of rows as information_schema estimates it."""
    rows = database.rows(
        "SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        (synced.schema, synced.name),
    )
    return int(rows[0][0] or 0) if rows else 0
