"""The declarations that triggers were ever made of. Each has a number, which the changes made under it name, and is kept in `numbered_declaration`."""

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
    """One column of a row's identity: its declared name, the table's own name for it, and how its value travels."""

    declared: str
    real: str
    kind: str
    #: How the server orders it when that is not by its value: ENUM and SET are ordered by number and compared as text.
    data_type: str = ""
    #: Digits of a second, where the type has them.
    precision: int = 0


class LargeColumn(msgspec.Struct):
    """A column whose values may be too large for a row's JSON, and the SQL of its bare value."""

    declared: str
    kind: str
    sql: str


class Declared(msgspec.Struct):
    """One declaration, as ``sync_table`` has written it down."""

    columns: list[tuple[str, str]]
    """Name and kind of each."""
    old: list[str]
    """What an update tells of the old row."""
    deleted: list[str]
    """What a delete tells of it."""
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
        """Which columns the values of its payloads are of."""
        return Layout(dict(self.columns), self.old, self.deleted, [column.declared for column in self.key])


def number_of(payload: bytes) -> int:
    """The number of the declaration that a change was made under; 0 for triggers of a release that did not number. Pure."""
    found = _NUMBER.match(payload)
    return int(found.group(1)) if found else 0


def load(database: Database, table: str) -> dict[int, Declared]:
    """The declarations of a table by their numbers, in their order, without those of a later release. Raises DatabaseUnavailable."""
    found = {}
    for number, content in database.rows(f"SELECT number, content FROM {SCHEMA}.numbered_declaration WHERE table_name = %s ORDER BY number", (table,)):
        with contextlib.suppress(msgspec.DecodeError):
            found[int(number)] = msgspec.json.decode(content, type=Declared)
    return found


class Known(NamedTuple):
    """What is done with the changes of one declaration."""

    declared: Optional[Declared]
    """None for changes of triggers of a release that did not number."""
    layout: Optional[Layout]
    writer: Optional[Writer]
    """None when they wait for a worker with another configuration."""


def is_behind(ours: Optional[Table], number: int, declared: Mapping[int, Declared]) -> bool:
    """Whether changes made under ``number`` wait for a worker whose transform is a later one than that of ``ours``. Pure.

    A transform is code, which only the configuration names; all else of a declaration is in the database.
    """
    if declared[number].transform is None or ours is None:
        return declared[number].transform is not None
    mine = (ours.transform, ours.computed)

    def ours_is_in(numbers: Iterable[int]) -> bool:
        return any((declared[each].transform, declared[each].computed) == mine for each in numbers)

    # One that is in none of them is newer than all: workers get their configuration first.
    return not ours_is_in(each for each in declared if each >= number) and ours_is_in(each for each in declared if each < number)


def table_under(name: str, declared: Declared, ours: Optional[Table]) -> Table:
    """The table as it was declared, if with a transform then with the one that there is now.

    A write that needs what this does not compute is left out. Without one an update does not tell all that a transform may ask an old row for. Pure.
    """
    columns = [column for column, _kind in declared.columns]
    transform, computed = (ours.transform, ours.computed) if ours and declared.transform else (None, [])
    fields = {*columns, *computed}
    return Table(
        table=name, columns=columns, write=[write for write in declared.write if named(write) <= fields], transform=transform, computed=computed)


class Declarations:
    """Those of all tables, read when the first change names them. Every method that reads raises DatabaseUnavailable."""

    def __init__(self, database: Database, tables: Iterable[Table], transforms: Mapping[str, Transform]) -> None:
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
        """Whether there are others than when this was asked before. What was known is forgotten then."""
        try:
            ((found,),) = self._database.rows(f"SELECT CONCAT(COUNT(*), ' ', COALESCE(MAX(declared_at), '')) FROM {SCHEMA}.numbered_declaration")
        except SchemaAbsent:
            # The workers get their release before the schema does.
            found = b""
        if found == self._version:
            return False
        self._version = found
        self._known.clear()
        return True

    def find(self, table: str, number: int) -> Optional[Known]:
        """One of them; None when there is none of that number."""
        if (table, number) not in self._known:
            ours = self._ours.get(table)
            if number > 0:
                self._load(table, ours)
            elif number == 0:
                self._known[table, 0] = Known(None, None, FormerWriter(ours, self._transforms.get(table)) if ours else None)
        return self._known.get((table, number))

    def _load(self, table: str, ours: Optional[Table]) -> None:
        declared = load(self._database, table)
        for number, each in declared.items():
            transform = self._transforms.get(table) if each.transform else None
            writer = None if is_behind(ours, number, declared) else Writer(table_under(table, each, ours), transform)
            self._known[table, number] = Known(each, each.layout(), writer)
