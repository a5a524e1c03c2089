# SPDX-License-Identifier: GPL-3.0-or-later
"""Dead letters, the changes that could not be applied: list, show, retry and drop them."""

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
_NO_LETTER = "there is no letter with this id"


class Letter(NamedTuple):
    """One dead letter; the times are UTC, as the server writes them. ``payload`` is empty in a list."""

    id: int
    table: str
    operation: str
    created_at: str
    failed_at: str
    error: str
    payload: bytes
    shard: int


class Outcome(NamedTuple):
    """The result for one letter: None, or the problem that kept it from being removed."""

    id: int
    problem: Optional[str]


def identify(key: Sequence[KeyColumn], change: Change) -> tuple[Row, Row]:
    """A change's row before and after it: the columns of ``key``, and the values that what it removes depends
    on.

    What the new values have written to Redis is removed by later changes of the row, whose old values they
    are. Raises ValueError when the row cannot be identified. Pure.
    """
    values = {**(change.old or {}), **(change.new or {})}
    absent = [column.declared for column in key if values.get(column.declared) is None]
    if not key:
        raise ValueError("its row cannot be identified: the table has no key")
    if absent:
        raise ValueError(f"its row cannot be identified: the payload has no value for {', '.join(absent)}")
    row = {column.declared: values[column.declared] for column in key}
    for column in key:
        literal(column.kind, row[column.declared])
    return {**row, **(change.old or {})}, {**row, **(change.new or {})}


class DeadLetters:
    """The table `dead_letter`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def count(self, table: str = "") -> int:
        """The number of dead letters, of one table or of all."""
        ((number,),) = self.database.rows(
            f"SELECT COUNT(*) FROM {SCHEMA}.dead_letter WHERE %s IN ('', table_name)", (table,)
        )
        return int(number)

    def newest(self, limit: int, table: str = "") -> list[Letter]:
        """The ``limit`` newest, the oldest of them first, without payloads."""
        rows = self.database.rows(
            "SELECT id, table_name, operation, created_at, failed_at, error, '', shard FROM "
            f"{SCHEMA}.dead_letter"
            " WHERE %s IN ('', table_name) ORDER BY id DESC LIMIT %s",
            (table, limit),
        )
        return [_letter(row) for row in reversed(rows)]

    def show(self, number: int) -> Optional[Letter]:
        """One dead letter with its payload, whose values have their columns' names; None when there is
        none with this id.
        """
        letter = next(iter(self._read([number])), None)
        if letter is not None:
            with contextlib.suppress(ValueError):
                _key, change = self._decoded(letter, None)
                old, new = change.old, change.new
                parts = [("key" if change.event == "reload" else "new", new), ("old", old)]
                payload = {
                    name: {column: reloads.wire(value) for column, value in row.items()}
                    for name, row in parts
                    if row is not None
                }
                return letter._replace(
                    payload=msgspec.json.encode({"declaration": number_of(letter.payload), **payload})
                )
        return letter

    def ids(self, table: str = "") -> list[int]:
        """The ids of all, the oldest first."""
        return [
            int(number)
            for (number,) in self.database.rows(
                f"SELECT id FROM {SCHEMA}.dead_letter WHERE %s IN ('', table_name) ORDER BY id", (table,)
            )
        ]

    def retry(
        self, ids: Sequence[int], synced_tables: Mapping[str, SyncedTable], append: Collection[str] = ()
    ) -> Iterator[Outcome]:
        """Enqueue reloads of the rows of these letters, and remove the letters, some in each transaction.

        A letter is older than later changes of its row. So the row is read again, and the change itself is
        not written; for the tables of ``append`` it is enqueued before that, so that their lists and streams
        get its entry.
        """
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            problems = dict.fromkeys(chunk, _NO_LETTER)
            with self.database.transaction():
                # Locked, so that two operators cannot retry one letter twice.
                for letter in self._read(chunk, "FOR UPDATE"):
                    problems[letter.id] = self._enqueue(
                        letter, synced_tables.get(letter.table), letter.table in append
                    )
                self._delete([number for number, problem in problems.items() if not problem])
            yield from (Outcome(number, problem or None) for number, problem in problems.items())

    def _decoded(self, letter: Letter, synced: Optional[SyncedTable]) -> tuple[list[KeyColumn], Change]:
        """The key that identifies the letter's row, and its change, both by the declaration that it was
        made under. Raises ValueError.
        """
        number = number_of(letter.payload)
        declared = load(self.database, letter.table).get(number) if number else None
        if number and declared is None:
            raise ValueError(
                f"its declaration {number} is not in {SCHEMA}.numbered_declaration, or was written by a "
                "later release: upgrade this host's worker"
            )
        if declared is None and synced is None:
            raise ValueError(
                f"{letter.table} has no triggers for durable delivery any more: declare it again, or drop "
                "the letter"
            )
        try:
            change = decode_change(
                declared.layout() if declared else None, letter.table, letter.operation, letter.payload
            )
        except Malformed as error:
            raise ValueError(str(error)) from None
        return declared.key if declared else synced.key if synced else [], change

    def _enqueue(self, letter: Letter, synced: Optional[SyncedTable], append: bool) -> str:
        """Put the letter's reload into the outbox. Returns the problem that prevents it, or an empty text."""
        try:
            key, change = self._decoded(letter, synced)
            row, after = identify(key, change)
        except ValueError as error:
            return str(error)
        try:
            # The shard of the row's changes from now on.
            shard = reloads.shard_of(self.database, synced, row) if synced else letter.shard
        except (KeyError, ValueError):
            shard = letter.shard
        number = number_of(letter.payload)
        if append and letter.operation in ("insert", "update", "delete"):
            reloads.put(self.database, shard, letter.table, letter.operation, letter.payload)
            row = after
        reloads.put(self.database, shard, letter.table, "reload", reloads.reload_payload(number, key, row))
        return ""

    def drop(self, ids: Sequence[int]) -> Iterator[Outcome]:
        """Remove these letters permanently, some in each transaction."""
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            with self.database.transaction():
                present = {letter.id for letter in self._read(chunk, "FOR UPDATE")}
                self._delete(sorted(present))
            yield from (Outcome(number, None if number in present else _NO_LETTER) for number in chunk)

    def _read(self, ids: Sequence[int], lock: str = "") -> list[Letter]:
        numbers = ", ".join(map(str, ids))
        rows = self.database.rows(
            "SELECT id, table_name, operation, created_at, failed_at, error, payload, shard FROM "
            f"{SCHEMA}.dead_letter WHERE id IN ({numbers})"
            f" ORDER BY id {lock}"
        )
        return [_letter(row) for row in rows]

    def _delete(self, ids: Sequence[int]) -> None:
        if ids:
            self.database.run(f"DELETE FROM {SCHEMA}.dead_letter WHERE id IN ({', '.join(map(str, ids))})")


def _letter(row: Sequence[bytes]) -> Letter:
    number, table, operation, created, failed, error, payload, shard = row
    return Letter(
        int(number),
        table.decode(),
        operation.decode(),
        created.decode(),
        failed.decode(),
        error.decode(errors="replace"),
        payload,
        int(shard),
    )
