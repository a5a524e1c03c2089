# SPDX-License-Identifier: GPL-3.0-or-later
"""The outbox in MySQL: read changes, delete exactly those that are applied, keep those that cannot be as
dead letters.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from pymysql.constants import ER

from gearsync.contract import SCHEMA, TRANSACTIONS
from gearsync.outbox.changes import MOST_BYTES, STAMP_SQL, Batch, Look, batch_of, look_sql
from gearsync.outbox.declarations import Declarations
from gearsync.outbox.reload_rows import Reloaded, ReloadRows
from gearsync.outbox.spans import Spans, runs
from gearsync.outbox.sql import ids_condition, ranges_condition, text_list, text_literal
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import AccessDenied, DatabaseUnavailable, StatementRefused
from gearsync.values import Malformed

#: So many consecutive ids and more are deleted as a range, in a statement of its own.
_RUN = 50
#: Ids that one statement deletes by looking up each.
_LOOKED_UP = 500
_ERROR_LENGTH = 10_000
#: Errors of TRANSACTIONS when the schema is not migrated yet, or the account that made it lacks the privilege
#: or does not exist any more.
TRANSACTIONS_UNKNOWN = (
    ER.SP_DOES_NOT_EXIST,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
    ER.PROCACCESS_DENIED_ERROR,
    ER.NO_SUCH_USER,
)


def deletions(ids: Sequence[int], again: bool = False, index: str = "PRIMARY") -> list[str]:
    """The statements that delete these sorted ids, and lock no other row. Pure.

    A range ends with its limit, before the server reads the row after it, which may belong to an open
    transaction. When rows of it may be deleted already, since it is tried ``again``, each row is looked up by
    itself. ``index`` is that of the ids.
    """
    statements, single = [], list[int]()
    for first, last in runs(ids):
        if last - first >= _RUN and not again:
            statements.append(
                f"DELETE FROM {SCHEMA}.outbox WHERE id BETWEEN {first} AND {last} ORDER BY id LIMIT "
                f"{last - first + 1}"
            )
        else:
            single += range(first, last + 1)
    for start in range(0, len(single), _LOOKED_UP):
        # For IN (...) the server may scan a small table, and would wait for each locked row of it.
        applied = " UNION ALL ".join(
            f"SELECT {number} AS id" for number in single[start : start + _LOOKED_UP]
        )
        statements.append(
            f"DELETE {SCHEMA}.outbox FROM ({applied}) AS gone STRAIGHT_JOIN {SCHEMA}.outbox FORCE INDEX "
            f"({index}) ON outbox.id = gone.id"
        )
    return statements


class Writers(NamedTuple):
    """Transactions that write, by the numbers that InnoDB gives them at their first write."""

    own: int
    """The number of the session's own transaction."""
    oldest: int
    """The smallest number of all open ones."""


class Outbox:
    """The tables `outbox` and `dead_letter`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, declarations: Optional[Declarations] = None) -> None:
        """``declarations`` are needed for ``look_with_rows``."""
        self.database = database
        self._declarations = declarations
        self._index = ""

    @contextlib.contextmanager
    def _by_id(self) -> Iterator[str]:
        """The index of the ids: the primary key, or the index of a schema of the first release that is
        not migrated yet.
        """
        if not self._index:
            ((number,),) = self.database.rows(
                f"SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '{SCHEMA}' AND "
                "TABLE_NAME = 'outbox' AND INDEX_NAME = 'id'"
            )
            self._index = "id" if int(number) else "PRIMARY"
        try:
            yield self._index
        except DatabaseUnavailable:
            # The schema may have been migrated.
            self._index = ""
            raise

    def look(self, look: Look) -> Batch:
        """The oldest changes, in the order of their ids."""
        with self._by_id() as index:
            rows = self.database.rows(look_sql(look, index))
        return self._complete([text for (text,) in rows], look)

    def _complete(self, texts: Sequence[bytes], look: Look) -> Batch:
        """The batch of a look's result, with the payloads that were too large for it."""
        batch, apart = batch_of(texts, look)
        if not apart:
            return batch
        payloads = {
            int(number): payload
            for number, payload in self.database.rows(
                f"SELECT id, payload FROM {SCHEMA}.outbox WHERE {ids_condition(apart)}"
            )
        }
        # A row that was deleted meanwhile is left out: another process has applied it.
        separate = set(apart)
        return batch._replace(
            entries=[
                entry._replace(payload=payloads[entry.id]) if entry.id in payloads else entry
                for entry in batch.entries
                if entry.id in payloads or entry.id not in separate
            ]
        )

    def shorten_log(self) -> bool:
        """Set binlog_row_image to MINIMAL for this session, so that deleted rows are logged by their key
        alone. False when it is impossible.
        """
        try:
            self.database.run(f"CALL {SCHEMA}.minimal_row_image()")
        except (AccessDenied, StatementRefused):
            # The schema is not migrated yet, the account that made it is gone, or the worker's account may
            # not call it.
            return False
        return True

    def delete(
        self, ids: Sequence[int], dead: Mapping[int, str], again: bool, ask: bool = False
    ) -> Optional[Writers]:
        """Delete the sorted ``ids``, and keep the ``dead`` among them (id → reason) as dead letters.
        ``again``: they may be deleted already.

        With ``ask`` it returns the transactions that write meanwhile, if the server reports them.
        """
        kept = [self._keep(number, error) for number, error in dead.items()]
        try:
            with self._by_id() as index:
                # In one round trip: no lock is held while the server waits for a client.
                asked = [TRANSACTIONS] if ask else []
                answers = self.database.rows_of_each(
                    "START TRANSACTION", *kept, *deletions(ids, again, index), *asked, "COMMIT"
                )
        except DatabaseUnavailable:
            self.database.close()
            raise
        for row in (row for rows in answers for row in rows):
            own, oldest, _writing, _reading, _prepared, replicates = (int(value or 0) for value in row)
            return Writers(own, oldest) if own and not replicates else None
        return None

    @staticmethod
    def _keep(number: int, error: str) -> str:
        # A transform's error may contain an unpaired surrogate.
        reason = text_literal(error[:_ERROR_LENGTH].encode(errors="replace")).decode()
        return (
            f"REPLACE INTO {SCHEMA}.dead_letter (id, shard, table_name, operation, payload, created_at, "
            "failed_at, error)"
            f" SELECT id, shard, table_name, operation, payload, created_at, NOW(6), {reason} FROM "
            f"{SCHEMA}.outbox WHERE id = {number}"
        )

    def last_and_dead(self, first: int) -> tuple[int, int]:
        """The greatest id that is committed now, and the number of dead letters up to it, from one snapshot.

        Only ids from ``first`` on are searched; without any, the result is ``first - 1``.
        """
        with self.database.snapshot():
            # MAX scans back over deleted rows, whatever its condition, until it meets a row: it is used only
            # if there is one from ``first`` on. MIN starts its scan there; MySQL's ORDER BY with LIMIT may
            # start at the first row of the table.
            ((least,),) = self.database.rows(f"SELECT MIN(id) FROM {SCHEMA}.outbox WHERE id >= {first}")
            last = (
                int(self.database.rows(f"SELECT MAX(id) FROM {SCHEMA}.outbox")[0][0])
                if least is not None
                else first - 1
            )
            return last, self.dead(last)

    def waiting(
        self, ranges: Iterable[tuple[int, Optional[int]]], limit: int, tables: Iterable[str] = ()
    ) -> dict[str, int]:
        """The number of changes with ids in ``ranges``, by table, counted up to ``limit``; only those of
        ``tables`` if any are given.
        """
        of_tables = f" AND table_name IN ({text_list(tables)})" if tables else ""
        return {
            name.decode(): int(number)
            for name, number in self.database.rows(
                f"SELECT table_name, COUNT(*) FROM (SELECT table_name FROM {SCHEMA}.outbox WHERE "
                f"({ranges_condition(ranges)}){of_tables}"
                f" ORDER BY id LIMIT {limit}) AS looked_at GROUP BY table_name"
            )
        }

    def dead(self, last: int) -> int:
        """The number of dead letters with ids up to ``last``."""
        ((number,),) = self.database.rows(f"SELECT COUNT(*) FROM {SCHEMA}.dead_letter WHERE id <= {last}")
        return int(number)

    def present(self, spans: Spans) -> dict[int, int]:
        """The digests of the changes with ids of ``spans`` that are in the outbox: CRC-32 of their stamps, by
        id.
        """
        if not spans:
            return {}
        rows = self.database.rows(
            f"SELECT id, CRC32({STAMP_SQL}) FROM {SCHEMA}.outbox WHERE {ranges_condition(spans)}"
        )
        return {int(number): int(digest) for number, digest in rows}

    def last_id(self) -> int:
        """The greatest id that the server has given to a change, or got as a replica."""
        # MySQL keeps the figure for a day otherwise; MariaDB does not know the variable.
        with contextlib.suppress(StatementRefused):
            self.database.run("SET SESSION information_schema_stats_expiry = 0")
        ((following,),) = self.database.rows(
            f"SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = '{SCHEMA}' AND "
            "TABLE_NAME = 'outbox'"
        )
        return int(following or 1) - 1

    def look_with_rows(
        self, look: Look, seconds: float
    ) -> tuple[Batch, dict[int, Reloaded], dict[int, Malformed]]:
        """A batch, and from the same snapshot the rows that its reloads ask for: the resulting changes by id,
        and the reloads that fail by id.

        A reload whose declaration is absent is in neither. The batch is cut when the rows are large, or when
        reading them has taken ``seconds``: the leases are not renewed meanwhile. Raises RowsDenied too.
        """
        deadline = time.monotonic() + seconds
        with self._by_id() as index, self.database.snapshot():
            batch = self._complete([text for (text,) in self.database.rows(look_sql(look, index))], look)
            rows = ReloadRows(self.database, self._declarations, batch.entries)
            for number, entry in enumerate(batch.entries):
                if (
                    entry.operation != "reload"
                    or entry.table in look.unread
                    or entry.id in rows.changes
                    or entry.id in rows.wrong
                ):
                    continue
                if number and (rows.bytes > MOST_BYTES or time.monotonic() > deadline):
                    batch = Batch(batch.entries[:number], True, batch.others, batch.entries[number - 1].id)
                    break
                rows.look(number)
        return batch, rows.changes, rows.wrong
