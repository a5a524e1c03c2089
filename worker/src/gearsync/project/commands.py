# SPDX-License-Identifier: GPL-3.0-or-later
"""From a change and its declaration to the Redis commands that apply it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import msgspec

from gearsync.declare.declaration import Table, named
from gearsync.project.payload import Change
from gearsync.project.transform import Transform, transformed
from gearsync.shapes import shapes
from gearsync.shapes.shape import APPEND, PUT, REMOVE, Command, Shape, Step
from gearsync.values import Malformed, missing


class Writer:
    """Makes commands of the changes of one declared table."""

    def __init__(self, table: Table, transform: Optional[Transform] = None) -> None:
        """``table`` must be one that keeps to the rule book."""
        self.table = table.table
        self.columns = frozenset(table.columns)
        self.transform = transform
        self.shapes = shapes(table.write, table.fields)

    def steps(self, change: Change) -> list[Step]:
        """The steps that apply ``change``, in their order. Raises Malformed for a missing column."""
        if self.transform is not None:
            change = self._transformed(self.transform, change)
        event, new, old = change.event, change.new or {}, change.old
        if event == "none":
            return []
        steps: list[Step] = []
        for shape in self.shapes:
            if event == "delete":
                if not change.partial or shape.knows(old or {}):
                    steps += shape.remove(old or {})
                continue
            if (event == "refresh" or change.partial) and shape.is_log:
                continue
            if event == "update" and old is not None and (not change.partial or shape.knows(old)):
                steps += shape.replaced(old, new)
            steps += shape.written(new, event)
        return steps

    def _transformed(self, function: Transform, change: Change) -> Change:
        """The change of the transformed rows; a row that ``function`` leaves out counts as a row that
        does not exist.
        """
        new = None if change.new is None else transformed(function, change.new, self.table)
        try:
            old = None if change.old is None else transformed(function, change.old, self.table)
        except Malformed:
            # A function need not accept a row of which only some columns are known: then it is unknown what
            # to remove.
            if not change.partial:
                raise
            old = None
        if new is not None:
            return Change(
                change.table,
                "insert" if change.old is not None and old is None else change.event,
                new,
                old,
                change.partial,
            )
        # A row that was never written has nothing to remove. No trigger sends the event "none".
        return Change(change.table, "delete" if old is not None else "none", None, old, change.partial)

    def commands(self, change: Change) -> list[Command]:
        """The commands that apply ``change``, in their order. Raises Malformed for a missing column."""
        return [command for step in self.steps(change) for command in step.commands]

    def appends(self, change: Change) -> list[Command]:
        """Those of the commands that append to a list or a stream."""
        return [command for step in self.steps(change) if step.kind == APPEND for command in step.commands]


class FormerWriter(Writer):
    """Makes commands of changes whose own declaration is unknown: by the configuration's, with the writes
    for which a change has the columns.
    """

    def __init__(self, table: Table, transform: Optional[Transform] = None) -> None:
        super().__init__(table, transform)
        self._table = table
        self._writers: dict[Any, Writer] = {}

    def steps(self, change: Change) -> list[Step]:
        """The steps of the writes for which the change has the columns. Raises Malformed when there are
        none.
        """
        rows = [frozenset(row) for row in (change.new, change.old) if row is not None]
        # The keys of the article's mapping are made of the columns' names alone.
        known = (
            None if change.new is None else rows[0],
            frozenset.intersection(*rows) if rows else frozenset(),
        )
        if known not in self._writers:
            self._writers[known] = self._writer(*known)
        return self._writers[known].steps(change)

    def _writer(self, new: Optional[frozenset[str]], both: frozenset[str]) -> Writer:
        """``new``: the columns of the new row; ``both``: those in each row of the change.

        A write needs its columns in the old row, too, or what it had written is never removed.
        """
        table, fields = self._table, both | {*self._table.computed}
        columns = [column for column in table.columns if new is None or column in new]
        writes = [write for write in table.write if named(write) <= fields]
        if not writes or not columns:
            raise missing(min(named(table.write[0]) - fields, default=table.columns[0]))
        return Writer(msgspec.structs.replace(table, columns=columns, write=writes), self.transform)


def reload_steps(change: Change, own: Writer, under: Writer) -> list[Step]:
    """The steps of a reload that was made under the declaration of ``own``, when the row is written by
    ``under``. Raises Malformed.
    """
    if own is under or change.event == "delete":
        return own.steps(change)
    # Only the former writes remove what the former values had written.
    gone = own.steps(Change(change.table, "delete", None, change.old, True)) if change.old else []
    return [*gone, *under.steps(Change(change.table, change.event, change.new, None, change.partial))]


def coalesce(steps: Sequence[Step]) -> list[Step]:
    """The steps that lead to the same result as all ``steps``: for each place only its last state is
    written.
    """
    owners: dict[bytes, Shape] = {}
    # When two tables write one key, all its steps are kept, in their order.
    shared: set[bytes] = set()
    for step in steps:
        if owners.setdefault(step.key, step.shape) is not step.shape:
            shared.add(step.key)
    kept: dict[Any, tuple[Step, ...]] = {}
    for number, step in enumerate(steps):
        if step.kind == APPEND or step.key in shared:
            kept[number] = (step,)
            continue
        # Removed and added again, so that it takes the position of its last step.
        before = kept.pop(step.place, None)
        if before is None or step.kind == REMOVE or (step.kind == PUT and step.shape.absolute):
            kept[step.place] = (step,)
        else:
            # A removal also removes fields of others, which must not come back.
            kept[step.place] = (before[0], step) if before[0].kind == REMOVE else (step,)
    return [step for group in kept.values() for step in group]


def article_commands(change: Change) -> list[Command]:
    """The commands for a flat payload without a declared table: every member becomes a string with its
    name as key.
    """
    row = change.new or {}
    return [("DEL", name) if value is None else ("SET", name, value) for name, value in row.items()]
