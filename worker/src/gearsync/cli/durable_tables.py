# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables with durable delivery that a command is about."""

from __future__ import annotations

import sys

from gearsync.declare.configuration import Config
from gearsync.outbox.synced_table import SyncedTable


def declared(config: Config, wanted: list[str]) -> list[str]:
    """The names of the ``wanted`` tables, or of all. Raises ValueError for a table without durable
    delivery.
    """
    durable = [table.table for table in config.durable_tables]
    for name in wanted:
        if name not in durable:
            raise ValueError(
                f"{name} is not among the tables with durable delivery: "
                f"{', '.join(durable) or 'there are none'}"
            )
    return wanted or durable


def has_none(config: Config, wanted: list[str], work: str) -> bool:
    """Whether no table has durable delivery and none is ``wanted``; this is reported on stderr as nothing
    to ``work``.
    """
    if wanted or config.durable_tables:
        return False
    print(f"nothing to {work}: no table of the configuration has durable delivery", file=sys.stderr)
    return True


def without_triggers(name: str) -> str:
    """The error for a table that is not deployed."""
    return f"the database has no triggers for {name}: run site.yml"


def deployed(config: Config, synced: dict[str, SyncedTable], wanted: list[str]) -> list[SyncedTable]:
    """The ``wanted`` tables, or all, as they are deployed. Raises ValueError for a table that is not."""
    names = declared(config, wanted)
    absent = [name for name in names if name not in synced]
    if absent:
        raise ValueError(without_triggers(", ".join(absent)))
    return [synced[name] for name in names]
