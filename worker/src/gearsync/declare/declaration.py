# SPDX-License-Identifier: GPL-3.0-or-later
"""The declared tables as the worker has them. The rule book has checked them before. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import msgspec

from gearsync.contract import DIRECT_FUNCTION
from gearsync.declare.rules import DELIVERIES, EVENTS
from gearsync.declare.template import write_columns


class Write(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One Redis shape of a row, as declared."""

    type: str
    key: str
    ttl: Optional[int] = None
    value: Optional[str] = None
    member: Optional[str] = None
    score: Optional[str] = None
    max: Optional[int] = None
    maxlen: Optional[int] = None
    distinct: Optional[bool] = None  # for sync_table: what separates columns is in none of their values


class Table(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One declared table."""

    table: str
    columns: list[str]
    write: list[Write]
    delivery: str = DELIVERIES[0]
    function: str = DIRECT_FUNCTION
    events: list[str] = msgspec.field(default_factory=lambda: list(EVENTS))
    transform: Optional[str] = None
    computed: list[str] = msgspec.field(default_factory=list)

    @property
    def fields(self) -> list[str]:
        """What a row has when it is written: the columns, and what the transform adds."""
        return [*self.columns, *self.computed]


def typed(declaration: Mapping[str, Any]) -> Table:
    """A declaration that keeps to the rule book."""
    return msgspec.convert(declaration, Table)


def named(write: Write) -> set[str]:
    """The columns that a write's templates name. Raises TemplateError."""
    return set(write_columns(msgspec.structs.asdict(write)))
