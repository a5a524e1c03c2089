# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which rights an account needs, and which of those that the collection has granted it may lose. No I/O
here.
"""

from __future__ import annotations

import collections

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import SCHEMA

# What the collection grants on a table, and on what of the schema of durable delivery.
ON_TABLE = {"worker": ("SELECT",), "definer": ("SELECT", "TRIGGER")}
ON_OUTBOX = {
    "worker": ((SCHEMA, None), ("SELECT", "INSERT", "UPDATE", "DELETE", "EXECUTE")),
    "definer": ((SCHEMA, "outbox"), ("INSERT",)),
}
# What docs/operations.md has users grant to workers, by the names of both servers.
MONITORING = frozenset(("USAGE", "REPLICATION CLIENT", "BINLOG MONITOR", "SLAVE MONITOR", "REPLICA MONITOR"))

# What the server syncs, as sets of (schema, table). outbox: whether there is one. synced: tables with
# triggers of durable delivery, or with changes that wait. ever: all that were durable at some time.
Records = collections.namedtuple("Records", "outbox synced ever")
# A definer's triggers: their tables, and whether one of them writes to the outbox.
Use = collections.namedtuple("Use", "tables outbox")
NO_USE = Use(frozenset(), False)

# Privileges by their levels, as in Grants. wanted: needed. unneeded: granted by the collection before, and
# not needed any more. ours: all that the collection grants or has granted.
Needs = collections.namedtuple("Needs", "wanted unneeded ours")


def _former_tables(purpose, grants, records):
    """The tables on which the collection may have granted rights at some time.

    A table with direct delivery leaves no record. But on what is not a trigger's table, an account that is
    locked has no use for TRIGGER.
    """
    tables = set(records.ever)
    if purpose == "definer":
        pair = set(ON_TABLE[purpose])
        tables |= {level for level, privileges in grants.levels.items() if privileges == pair and level[1]}
    return {table for table in tables if table[0] != SCHEMA}


def needs_of(purpose, tables, grants, *, records, use=NO_USE, outbox=None, gone=frozenset()):
    """The Needs of an account.

    tables: (schema, table) of those that it is for. grants: its Grants. use: its Use. outbox: whether it
    needs the outbox, None for when there are tables. gone: tables that count as not synced any more.
    """
    on_table, (level, on_outbox) = ON_TABLE[purpose], ON_OUTBOX[purpose]
    if outbox is None:
        outbox = bool(tables)
    # What waits in an outbox has to be drained, whoever is declared now.
    if purpose == "worker":
        outbox = outbox or records.outbox
    wanted = {level: on_outbox} if outbox else {}
    wanted.update(dict.fromkeys(tables, on_table))
    former = _former_tables(purpose, grants, records) - set(tables)
    # A worker may still have to read rows of a synced table, whose changes name their keys only.
    kept = use.tables if purpose == "definer" else records.synced - gone
    unneeded = dict.fromkeys(sorted(former - kept), on_table)
    if not outbox and not use.outbox:
        unneeded[level] = on_outbox
    return Needs(wanted, unneeded, {**dict.fromkeys(former, on_table), level: on_outbox, **wanted})
