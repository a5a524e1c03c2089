# SPDX-License-Identifier: GPL-3.0-or-later
"""All declarations that triggers were made from. Each has a number, which its changes carry, and a row in
`numbered_declaration`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Optional

import msgspec

from gearsync.contract import SCHEMA
from gearsync.declare.declaration import Table, Write, named
from gearsync.project.commands import FormerWriter, Writer
from gearsync.project.payload import Layout
from gearsync.project.transform import Transform
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import SchemaAbsent

_NUMBER = re.compile(rb'(?:\[|\{"declaration": ?)([0-9]{1,10})\b')


class KeyColumn(msgspec.Struct):
    """One column of a table's key: its name in the declaration, its name in the table, and the kind of
    its values in payloads.
    """

    declared: str
    real: str
    kind: str
    #: The column's type: the server orders ENUM and SET by number and compares them as text.
    data_type: str = ""
    #: Fractional digits of a time.
    precision: int = 0


class LargeColumn(msgspec.Struct):
    """A column whose values may be too large for a row's JSON, and the SQL of its value alone."""

    declared: str
    kind: str
    sql: str


class Declared(msgspec.Struct):
    """One declaration, as ``sync_table`` stores it."""

    columns: list[tuple[str, str]]
    """Name and kind of each."""
    old: list[str]
    """The columns of the old row that an update sends."""
    deleted: list[str]
    """The columns that a delete sends."""
    key: list[KeyColumn]
    write: list[Write]
    computed: list[str]
    transform: Optional[str]
    source_schema: str
    source_table: str
    small_sql: str
    """The row as JSON with names, without its large columns."""
    large_columns: list[LargeColumn]

    def layout(self) -> Layout:
        """The columns of the values in its payloads."""
        return Layout(dict(self.columns), self.old, self.deleted, [column.declared for column in self.key])


def number_of(payload: bytes) -> int:
    """The number of the declaration that a change was made under; 0 for triggers of a release without
    numbers. Pure.
    """
    match = _NUMBER.match(payload)
    return int(match.group(1)) if match else 0


def load(database: Database, table: str) -> dict[int, Declared]:
    """The declarations of a table by number, in order, without those that a later release wrote. Raises
    DatabaseUnavailable.
    """
    by_number = {}
    for number, content in database.rows(
        f"SELECT number, content FROM {SCHEMA}.numbered_declaration WHERE table_name = %s ORDER BY number",
        (table,),
    ):
        with contextlib.suppress(msgspec.DecodeError):
            by_number[int(number)] = msgspec.json.decode(content, type=Declared)
    return by_number


class Known(NamedTuple):
    """How the changes of one declaration are decoded and written."""

    declared: Optional[Declared]
    """None for changes of triggers of a release without numbers."""
    layout: Optional[Layout]
    writer: Optional[Writer]
    """None when the changes wait for a worker with another configuration."""


def needs_later_transform(ours: Optional[Table], number: int, declared: Mapping[int, Declared]) -> bool:
    """Whether the changes of declaration ``number`` wait for a worker with a later transform than that of
    ``ours``. Pure.

    A transform is code, and only the configuration names it; the rest of a declaration is in the database.
    """
    if declared[number].transform is None or ours is None:
        return declared[number].transform is not None
    mine = (ours.transform, ours.computed)

    def ours_is_in(numbers: Iterable[int]) -> bool:
        return any((declared[each].transform, declared[each].computed) == mine for each in numbers)

    # A transform that is in no declaration is newer than all: workers get their configuration first.
    return not ours_is_in(each for each in declared if each >= number) and ours_is_in(
        each for each in declared if each < number
    )


def table_under(name: str, declared: Declared, ours: Optional[Table]) -> Table:
    """The table as it was declared; if that has a transform, with the current one.

    A write that needs a field that the current transform does not compute is left out. A declaration without
    a transform gets none: its updates may lack columns of the old row that a transform reads. Pure.
    """
    columns = [column for column, _kind in declared.columns]
    transform, computed = (ours.transform, ours.computed) if ours and declared.transform else (None, [])
    fields = {*columns, *computed}
    return Table(
        table=name,
        columns=columns,
        write=[write for write in declared.write if named(write) <= fields],
        transform=transform,
        computed=computed,
    )


class Declarations:
    """The declarations of all tables, each read when the first change names it. Methods that read raise
    DatabaseUnavailable.
    """

    def __init__(
        self, database: Database, tables: Iterable[Table], transforms: Mapping[str, Transform]
    ) -> None:
        """``tables`` are those of this worker's configuration."""
        self._database = database
        self._ours = {table.table: table for table in tables}
        self._transforms = transforms
        self._known: dict[tuple[str, int], Known] = {}
        self._version = b""

    def has(self, table: str) -> bool:
        """Whether this worker's configuration declares a table."""
        return table in self._ours

    def renewed(self) -> bool:
        """Whether the declarations have changed since the last call. If so, the cached ones are dropped."""
        try:
            ((version,),) = self._database.rows(
                "SELECT CONCAT(COUNT(*), ' ', COALESCE(MAX(declared_at), '')) FROM "
                f"{SCHEMA}.numbered_declaration"
            )
        except SchemaAbsent:
            # An upgrade installs the worker before it migrates the schema.
            version = b""
        if version == self._version:
            return False
        self._version = version
        self._known.clear()
        return True

    def find(self, table: str, number: int) -> Optional[Known]:
        """A table's declaration with this number; None when there is none."""
        if (table, number) not in self._known:
            ours = self._ours.get(table)
            if number > 0:
                self._load(table, ours)
            elif number == 0:
                self._known[table, 0] = Known(
                    None, None, FormerWriter(ours, self._transforms.get(table)) if ours else None
                )
        return self._known.get((table, number))

    def _load(self, table: str, ours: Optional[Table]) -> None:
        declared = load(self._database, table)
        for number, each in declared.items():
            transform = self._transforms.get(table) if each.transform else None
            writer = (
                None
                if needs_later_transform(ours, number, declared)
                else Writer(table_under(table, each, ours), transform)
            )
            self._known[table, number] = Known(each, each.layout(), writer)
