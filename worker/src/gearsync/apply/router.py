# SPDX-License-Identifier: GPL-3.0-or-later
"""The Redis commands for a job of direct delivery. Pure."""

from __future__ import annotations

from typing import Callable, Optional

from gearsync.contract import DIRECT_FUNCTION
from gearsync.declare.declaration import Table
from gearsync.project.commands import FormerWriter, Writer, article_commands
from gearsync.project.payload import Change, decode
from gearsync.project.transform import Transform
from gearsync.shapes.shape import Command
from gearsync.values import Malformed


class Router:
    """Finds the commands for a payload by its function and table."""

    def __init__(self, tables: list[Table], transforms: Optional[dict[str, Transform]] = None) -> None:
        # All tables: jobs of a table whose delivery is durable now may still wait, and arrive until its
        # triggers are replaced.
        self._writers = {
            table.table: (FormerWriter if table.delivery == "durable" else Writer)(
                table, (transforms or {}).get(table.table)
            )
            for table in tables
        }
        self._tables: dict[str, list[str]] = {}
        for table in tables:
            if table.delivery == "direct":
                self._tables.setdefault(table.function, []).append(table.table)
        #: The Gearman functions of tables with direct delivery.
        self.direct_functions = sorted(self._tables)
        #: The Gearman functions to offer, those of late jobs with them.
        self.functions = sorted({DIRECT_FUNCTION, *(table.function for table in tables)})

    def commands(
        self, function: str, payload: bytes, is_late: Callable[[Change], bool] = lambda _change: False
    ) -> list[Command]:
        """The commands for a job; for a change that ``is_late``, only those that append to a list or a
        stream. Raises Malformed.
        """
        change = decode(payload)
        if change.table is not None:
            writer = self._writers.get(change.table)
            if writer is None:
                raise Malformed(f"the configuration does not declare table {change.table!r}")
            return writer.appends(change) if is_late(change) else writer.commands(change)
        declared = self._tables.get(function, [])
        if len(declared) > 1:
            raise Malformed(
                f"the payload names no table, and function {function!r} serves {', '.join(declared)}"
            )
        if not declared:
            return article_commands(change)
        writer = self._writers[declared[0]]
        # Only declared columns are written, also for a trigger that was made by hand.
        undeclared = sorted((change.new or {}).keys() - writer.columns)
        if undeclared:
            raise Malformed(
                f"the declaration of {declared[0]} lacks columns {', '.join(map(repr, undeclared))}"
            )
        return writer.commands(change)
