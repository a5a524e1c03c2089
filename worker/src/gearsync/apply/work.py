# SPDX-License-Identifier: GPL-3.0-or-later
"""The work of a batch: the steps that write its changes, and the changes that cannot be applied. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import msgspec

from gearsync.outbox.changes import Entry
from gearsync.outbox.reload_rows import Reloaded
from gearsync.outbox.spans import Spans
from gearsync.project.commands import Writer, reload_steps
from gearsync.project.payload import Layout, decode_change
from gearsync.project.transform import shown
from gearsync.shapes.shape import Step
from gearsync.values import Malformed


class Work(NamedTuple):
    """A batch in the order of its ids."""

    entries: list[Entry]
    steps: list[Step]
    """Not coalesced; ``change`` of each is the index of its change in ``entries``."""
    dead: dict[int, Malformed]
    """Id and reason of each change that cannot be applied; the reason for the log, and in full."""
    more: bool
    """Whether more changes may wait."""

    @property
    def ids(self) -> list[int]:
        return [entry.id for entry in self.entries]

    def only(self, table: str) -> Work:
        """The part of one table."""
        return self._part([number for number, entry in enumerate(self.entries) if entry.table == table])

    def without(self, ids: Spans) -> Work:
        """The part without these changes."""
        return self._part([number for number, entry in enumerate(self.entries) if entry.id not in ids])

    def _part(self, numbers: Sequence[int]) -> Work:
        place = {number: new for new, number in enumerate(numbers)}
        entries = [self.entries[number] for number in place]
        steps = [
            msgspec.structs.replace(step, change=place[step.change])
            for step in self.steps
            if step.change in place
        ]
        return Work(
            entries,
            steps,
            {entry.id: self.dead[entry.id] for entry in entries if entry.id in self.dead},
            self.more,
        )


def work_of(
    entries: Sequence[Entry],
    owns: Sequence[Usable],
    known: Mapping[tuple[str, int], Usable],
    reloaded: dict[int, Reloaded],
    wrong: dict[int, Malformed],
) -> tuple[list[Step], dict[int, Malformed]]:
    """The steps of a batch, and the changes that cannot be applied. ``owns`` are the declarations of its
    changes, ``known`` those of reloaded rows by table and number; ``reloaded`` and ``wrong`` are the results
    and errors of its reloads by id. Pure.
    """
    steps: list[Step] = []
    dead: dict[int, Malformed] = {}
    for number, (entry, own) in enumerate(zip(entries, owns)):
        outbox_id, _shard, table, operation, payload, _created = entry
        try:
            if outbox_id in wrong:
                raise wrong[outbox_id]
            if operation == "reload":
                change, under = reloaded[outbox_id]
                of_change = reload_steps(change, own.writer, known[table, under].writer)
            else:
                of_change = own.writer.steps(decode_change(own.layout, table, operation, payload))
            for step in of_change:
                step.change = number
            steps += of_change
        except Malformed as error:
            dead[outbox_id] = error
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001  # a bug here or in a transform: one change must not stop the process again and again
            reason = f"applying it raised {type(error).__name__}"
            dead[outbox_id] = Malformed(reason, f"{reason}: {shown(error)}")
    return steps, dead


class Usable(NamedTuple):
    """How the changes of one declaration are decoded and written."""

    layout: Optional[Layout]
    writer: Writer
