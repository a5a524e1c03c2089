# SPDX-License-Identifier: GPL-3.0-or-later
"""Streams: an entry for each change, also for a delete. They are logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from gearsync.shapes.shape import APPEND, Command, Probe, Shape, Step
from gearsync.values import Row


class Stream(Shape):
    """A stream to which each change of the row appends."""

    redis_type = b"stream"
    is_log = True
    writes = (("XADD", "*", "f", "v"),)

    def written(self, row: Row, event: str) -> list[Step]:
        key = self.key(row)
        if key is None:
            return []
        bound: Command = () if self.write.maxlen is None else ("MAXLEN", "~", self.write.maxlen)
        fields: list[Union[str, bytes, int]] = []
        for column in self.columns:
            value = row.get(column)
            if value is not None:
                fields += [column, value]
        return [
            Step(
                APPEND,
                self,
                key,
                None,
                [("XADD", key, *bound, "*", "event", event, *fields), *self.expire(key)],
            )
        ]

    def remove(self, row: Row) -> list[Step]:
        return self.written(row, "delete")

    def replaced(self, old: Row, new: Row) -> list[Step]:
        return []

    def probes(self, row: Row) -> Iterator[Probe]:
        return iter(())
