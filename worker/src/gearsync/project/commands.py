"""A change and its declaration → the Redis commands that make Redis say what the row says. Pure."""

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
    """What the changes of one declared table do."""

    def __init__(self, table: Table, transform: Optional[Transform] = None) -> None:
        """``table`` must be one that keeps to the rule book."""
        self.table = table.table
        self.columns = frozenset(table.columns)
        self.transform = transform
        self.shapes = shapes(table.write, table.fields)

    def steps(self, change: Change) -> list[Step]:
        """What ``change`` does, in the order in which it must be done. Raises Malformed for a missing column."""
        if self.transform is not None:
            change = self._transformed(self.transform, change)
        event, new, old = change.event, change.new or {}, change.old
        if event == "none":
            return []
        found: list[Step] = []
        for shape in self.shapes:
            if event == "delete":
                if not change.partial or shape.knows(old or {}):
                    found += shape.remove(old or {})
                continue
            if (event == "refresh" or change.partial) and shape.is_log:
                continue
            if event == "update" and old is not None and (not change.partial or shape.knows(old)):
                found += shape.replaced(old, new)
            found += shape.written(new, event)
        return found

    def _transformed(self, function: Transform, change: Change) -> Change:
        """The change when the rows that ``function`` leaves out are taken for rows that there are not."""
        new = None if change.new is None else transformed(function, change.new, self.table)
        try:
            old = None if change.old is None else transformed(function, change.old, self.table)
        except Malformed:
            # A function need not understand a row of which only some columns are known; then nothing is known that could be removed.
            if not change.partial:
                raise
            old = None
        if new is not None:
            return Change(change.table, "insert" if change.old is not None and old is None else change.event, new, old, change.partial)
        # A row that was never written has nothing to be removed; "none" is no event of a trigger.
        return Change(change.table, "delete" if old is not None else "none", None, old, change.partial)

    def commands(self, change: Change) -> list[Command]:
        """Redis commands for ``change``, in the order in which they must be executed. Raises Malformed for a missing column."""
        return [command for step in self.steps(change) for command in step.commands]

    def appends(self, change: Change) -> list[Command]:
        """Those of them that add to a list or a stream."""
        return [command for step in self.steps(change) if step.kind == APPEND for command in step.commands]


class FormerWriter(Writer):
    """The same for changes whose declaration is not written down: by the configuration's, as far as a change has the columns for it."""

    def __init__(self, table: Table, transform: Optional[Transform] = None) -> None:
        super().__init__(table, transform)
        self._table = table
        self._writers: dict[Any, Writer] = {}

    def steps(self, change: Change) -> list[Step]:
        """As those of a Writer. Raises Malformed when the change has the columns of no write."""
        rows = [frozenset(row) for row in (change.new, change.old) if row is not None]
        # The keys of the article's mapping are made of the columns' names alone.
        known = (None if change.new is None else rows[0], frozenset.intersection(*rows) if rows else frozenset())
        if known not in self._writers:
            self._writers[known] = self._made(*known)
        return self._writers[known].steps(change)

    def _made(self, new: Optional[frozenset[str]], both: frozenset[str]) -> Writer:
        """``new``: the columns of the new row; ``both``: those of each row that there is. What is written must be told as old, or it stays for ever."""
        table, fields = self._table, both | {*self._table.computed}
        columns = [column for column in table.columns if new is None or column in new]
        writes = [write for write in table.write if named(write) <= fields]
        if not writes or not columns:
            raise missing(min(named(table.write[0]) - fields, default=table.columns[0]))
        return Writer(msgspec.structs.replace(table, columns=columns, write=writes), self.transform)


def reload_steps(change: Change, own: Writer, under: Writer) -> list[Step]:
    """What a reload does that was made under ``own``, when rows are written as ``under`` says. Raises Malformed."""
    if own is under or change.event == "delete":
        return own.steps(change)
    # What the former values had written, only the former writes say.
    gone = own.steps(Change(change.table, "delete", None, change.old, True)) if change.old else []
    return [*gone, *under.steps(Change(change.table, change.event, change.new, None, change.partial))]


def coalesce(steps: Sequence[Step]) -> list[Step]:
    """Those of ``steps`` that are needed to end where all of them end: of what is written to one place, the last state."""
    owners: dict[bytes, Shape] = {}
    # Two tables may write one key; what they do to it is done in full, in its order.
    shared: set[bytes] = set()
    for step in steps:
        if owners.setdefault(step.key, step.shape) is not step.shape:
            shared.add(step.key)
    kept: dict[Any, tuple[Step, ...]] = {}
    for number, step in enumerate(steps):
        if step.kind == APPEND or step.key in shared:
            kept[number] = (step,)
            continue
        # Taken out and put back, so that it stands where its last step stood.
        before = kept.pop(step.place, None)
        if before is None or step.kind == REMOVE or (step.kind == PUT and step.shape.absolute):
            kept[step.place] = (step,)
        else:
            # What a removal takes away beside our own fields must not come back.
            kept[step.place] = (before[0], step) if before[0].kind == REMOVE else (step,)
    return [step for group in kept.values() for step in group]


def article_commands(change: Change) -> list[Command]:
    """The article's own mapping, for a flat payload that no declared table is named for: every member becomes a string of its name."""
    row = change.new or {}
    return [("DEL", name) if value is None else ("SET", name, value) for name, value in row.items()]
