"""Changes that could not be applied: looked at, tried again, or dropped."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

import msgspec

from gearsync.contract import SCHEMA
from gearsync.outbox import reloads
from gearsync.outbox.declarations import KeyColumn, load, number_of
from gearsync.outbox.sql import literal
from gearsync.outbox.synced_table import SyncedTable
from gearsync.project.payload import Change, decode_change
from gearsync.servers.mysql import Database
from gearsync.values import Malformed, Row

#: Letters of one transaction.
_CHUNK = 100


class Letter(NamedTuple):
    """One dead letter; the times are UTC, as the server writes them. ``payload`` is empty where it was not asked for."""

    id: int
    table: str
    operation: str
    created_at: str
    failed_at: str
    error: str
    payload: bytes
    shard: int


class Outcome(NamedTuple):
    """What became of a letter: None, or why it was left where it is."""

    id: int
    mistake: Optional[str]


def identify(key: Sequence[KeyColumn], change: Change) -> tuple[Row, Row]:
    """What is known of a change's row before it and after it: its ``key``, and the values that tell what is to be removed. Raises ValueError.

    What a change's new values have brought into Redis, later changes of the row know as their old ones. Pure.
    """
    known = {**(change.old or {}), **(change.new or {})}
    absent = [column.declared for column in key if known.get(column.declared) is None]
    if absent or not key:
        raise ValueError(f"its row cannot be told: {', '.join(absent) or 'the table has no key'} is missing")
    row = {column.declared: known[column.declared] for column in key}
    for column in key:
        literal(column.kind, row[column.declared])
    return {**row, **(change.old or {})}, {**row, **(change.new or {})}


class DeadLetters:
    """The table `dead_letter`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def count(self, table: str = "") -> int:
        """How many there are, of one table or of all."""
        ((number,),) = self.database.rows(f"SELECT COUNT(*) FROM {SCHEMA}.dead_letter WHERE %s IN ('', table_name)", (table,))
        return int(number)

    def newest(self, limit: int, table: str = "") -> list[Letter]:
        """The ``limit`` newest, in their order, without payloads."""
        rows = self.database.rows(
            f"SELECT id, table_name, operation, created_at, failed_at, error, '', shard FROM {SCHEMA}.dead_letter"
            " WHERE %s IN ('', table_name) ORDER BY id DESC LIMIT %s", (table, limit))
        return [_letter(row) for row in reversed(rows)]

    def show(self, number: int) -> Optional[Letter]:
        """One of them as a whole, its values with their columns' names; None when there is none with this id."""
        letter = next(iter(self._read([number])), None)
        if letter is not None:
            with contextlib.suppress(ValueError):
                _key, change = self._understood(letter, None)
                old, new = change.old, change.new
                parts = [("key" if change.event == "reload" else "new", new), ("old", old)]
                payload = {name: {column: reloads.wire(value) for column, value in row.items()} for name, row in parts if row is not None}
                return letter._replace(payload=msgspec.json.encode({"declaration": number_of(letter.payload), **payload}))
        return letter

    def ids(self, table: str = "") -> list[int]:
        """All of them, the oldest first."""
        return [int(number) for (number,) in self.database.rows(f"SELECT id FROM {SCHEMA}.dead_letter WHERE %s IN ('', table_name) ORDER BY id", (table,))]

    def retry(self, ids: Sequence[int], synced_tables: Mapping[str, SyncedTable], append: Collection[str] = ()) -> Iterator[Outcome]:
        """Have the rows of these letters looked at again, and remove the letters, some in each transaction.

        A letter is older than what was done since. So its row is read anew, and the change itself is not written; for the tables of ``append`` it goes before
        that, so that their lists and streams get its entry.
        """
        for start in range(0, len(ids), _CHUNK):
            wanted = ids[start : start + _CHUNK]
            outcomes = dict.fromkeys(wanted, "there is no such letter")
            with self.database.transaction():
                # Locked, so that a second operator finds them gone and not a second time.
                for letter in self._read(wanted, "FOR UPDATE"):
                    outcomes[letter.id] = self._put(letter, synced_tables.get(letter.table), letter.table in append)
                self._delete([number for number, mistake in outcomes.items() if not mistake])
            yield from (Outcome(number, mistake or None) for number, mistake in outcomes.items())

    def _understood(self, letter: Letter, found: Optional[SyncedTable]) -> tuple[list[KeyColumn], Change]:
        """By which key the letter's row is found, and its change, both as the declaration says that it was made under. Raises ValueError."""
        number = number_of(letter.payload)
        known = load(self.database, letter.table).get(number) if number else None
        if number and known is None:
            raise ValueError(f"its declaration {number} is not in the database, or of a later release")
        if known is None and found is None:
            raise ValueError(f"{letter.table} has no triggers for durable delivery any more")
        try:
            change = decode_change(known.layout() if known else None, letter.table, letter.operation, letter.payload)
        except Malformed as error:
            raise ValueError(f"its payload is none: {error}") from None
        return known.key if known else found.key if found else [], change

    def _put(self, letter: Letter, found: Optional[SyncedTable], append: bool) -> str:
        try:
            key, change = self._understood(letter, found)
            row, after = identify(key, change)
        except ValueError as error:
            return str(error)
        try:
            # With the changes that are made now.
            shard = reloads.shard_of(self.database, found, row) if found else letter.shard
        except (KeyError, ValueError):
            shard = letter.shard
        number = number_of(letter.payload)
        if append and letter.operation in ("insert", "update", "delete"):
            reloads.put(self.database, shard, letter.table, letter.operation, letter.payload)
            row = after
        reloads.put(self.database, shard, letter.table, "reload", reloads.reload_payload(number, key, row))
        return ""

    def drop(self, ids: Sequence[int]) -> Iterator[Outcome]:
        """Remove these letters for ever, some in each transaction."""
        for start in range(0, len(ids), _CHUNK):
            wanted = ids[start : start + _CHUNK]
            with self.database.transaction():
                there = {letter.id for letter in self._read(wanted, "FOR UPDATE")}
                self._delete(sorted(there))
            yield from (Outcome(number, None if number in there else "there is no such letter") for number in wanted)

    def _read(self, ids: Sequence[int], lock: str = "") -> list[Letter]:
        numbers = ", ".join(map(str, ids))
        rows = self.database.rows(
            f"SELECT id, table_name, operation, created_at, failed_at, error, payload, shard FROM {SCHEMA}.dead_letter WHERE id IN ({numbers})"
            f" ORDER BY id {lock}")
        return [_letter(row) for row in rows]

    def _delete(self, ids: Sequence[int]) -> None:
        if ids:
            self.database.run(f"DELETE FROM {SCHEMA}.dead_letter WHERE id IN ({', '.join(map(str, ids))})")


def _letter(row: Sequence[bytes]) -> Letter:
    number, table, operation, created, failed, error, payload, shard = row
    return Letter(int(number), table.decode(), operation.decode(), created.decode(), failed.decode(), error.decode(errors="replace"), payload, int(shard))
