# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of a verification of one table. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, Optional

import msgspec

from gearsync.project.expectation import ORPHANED
from gearsync.values import Row


class Difference(NamedTuple):
    """One key, or one member of a key, that is not what MySQL asks for."""

    table: str
    kind: str
    write: int
    key: bytes
    member: Optional[bytes]
    row: Row
    """The columns that identify the row, as far as they are known."""


class Report(msgspec.Struct):
    """The result for one table."""

    table: str
    rows: int = 0
    keys: int = 0
    """Comparisons of a key or of a member."""
    different: Counter[str] = msgspec.field(default_factory=Counter)
    """Confirmed differences, by kind."""
    repaired: int = 0
    remaining: Counter[str] = msgspec.field(default_factory=Counter)
    """Differences that were not repaired, by kind."""
    unsettled: int = 0
    """Rows that could not be compared."""
    reasons: Counter[str] = msgspec.field(default_factory=Counter)
    """Why rows could not be compared, and how many for each reason."""
    unverifiable: list[str] = msgspec.field(default_factory=list)
    """Writes that cannot be compared."""
    untraced: list[str] = msgspec.field(default_factory=list)
    """Writes whose keys do not name their rows: their keys are compared, and their orphans are not looked
    for.
    """
    shared: int = 0
    """Keys without a row in this table that another write may have made, whose rows cannot be looked up."""
    untraceable: int = 0
    """Keys and members for which it is unknown whether a row asks for them."""
    absent: int = 0
    """Keys and members with a time to live that are absent from a Redis that has not lost its data."""
    walked: int = 0
    """Keys and members in Redis that rows of this table may have made."""
    refused: str = ""
    """Why nothing was removed."""
    examples: list[Difference] = msgspec.field(default_factory=list)
    error: str = ""
    """Why the table could not be compared to its end."""

    @property
    def equal(self) -> bool:
        return not self.remaining and not self.unsettled and not self.error

    @property
    def may_prune(self) -> bool:
        return bool(self.remaining[ORPHANED]) and not self.error and not self.refused

    def unsettle(self, reason: str, number: int = 1) -> None:
        """Count rows that could not be compared."""
        self.unsettled += number
        self.reasons[reason] += number
