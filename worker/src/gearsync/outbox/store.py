"""The outbox in MySQL: look for changes, delete exactly those that were applied, keep those that cannot be."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from pymysql.constants import ER

from gearsync.contract import SCHEMA
from gearsync.outbox.changes import MOST_BYTES, Batch, Look, batch_of, look_sql
from gearsync.outbox.declarations import Declarations
from gearsync.outbox.reload_rows import Reloaded, ReloadRows
from gearsync.outbox.spans import Spans, runs
from gearsync.outbox.sql import ids_condition, ranges_condition, text_list, text_literal
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import AccessDenied, DatabaseUnavailable, StatementRefused
from gearsync.values import Malformed

#: Ids that follow one another are deleted as a range from so many on, since each is a statement; so many others are looked up by one.
_RUN = 50
_LOOKED_UP = 500
_ERROR_LENGTH = 10_000
#: Asks which transactions are open. One row: the number of this one, the smallest of those that have written, seconds since the oldest that has written and
#: the oldest that has not began, how many are prepared without a client, and whether the server applies another one's changes.
TRANSACTIONS = f"CALL {SCHEMA}.transactions()"
#: Errors of it: the schema is not migrated yet, or the account that made it may not see transactions, or is not there any more.
TRANSACTIONS_UNKNOWN = (ER.SP_DOES_NOT_EXIST, ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.PROCACCESS_DENIED_ERROR, ER.NO_SUCH_USER)


def deletions(ids: Sequence[int], again: bool = False, index: str = "PRIMARY") -> list[str]:
    """The statements that delete these ids, which are sorted, and lock no other row. Pure.

    A range ends with its limit, before the server has read the row behind it, which may be that of a transaction that is open. When rows of it may be
    gone already, because it is tried ``again``, each row is looked up by itself. ``index`` is that of the ids.
    """
    statements, single = [], list[int]()
    for first, last in runs(ids):
        if last - first >= _RUN and not again:
            statements.append(f"DELETE FROM {SCHEMA}.outbox WHERE id BETWEEN {first} AND {last} ORDER BY id LIMIT {last - first + 1}")
        else:
            single += range(first, last + 1)
    for start in range(0, len(single), _LOOKED_UP):
        # The server may choose to read the whole of a small table for a list of ids, and waits for every row of it then.
        gone = " UNION ALL ".join(f"SELECT {number} AS id" for number in single[start : start + _LOOKED_UP])
        statements.append(
            f"DELETE {SCHEMA}.outbox FROM ({gone}) AS gone STRAIGHT_JOIN {SCHEMA}.outbox FORCE INDEX ({index}) ON outbox.id = gone.id")
    return statements


class Writers(NamedTuple):
    """Transactions that write, by the numbers that InnoDB gives them when they begin to."""

    own: int
    """That of the one that asks."""
    oldest: int
    """The smallest of all that are not ended."""


class Outbox:
    """The table `outbox` and its neighbour `dead_letter`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, declarations: Optional[Declarations] = None) -> None:
        """``declarations`` are needed where rows are read."""
        self.database = database
        self._declarations = declarations
        self._index = ""

    @contextlib.contextmanager
    def _by_id(self) -> Iterator[str]:
        """The index of the ids: the primary key, or that which a schema of the first release has until it is migrated."""
        if not self._index:
            ((number,),) = self.database.rows(
                f"SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '{SCHEMA}' AND TABLE_NAME = 'outbox' AND INDEX_NAME = 'id'")
            self._index = "id" if int(number) else "PRIMARY"
        try:
            yield self._index
        except DatabaseUnavailable:
            # It may have been migrated.
            self._index = ""
            raise

    def look(self, look: Look) -> Batch:
        """The oldest changes, in the order of their ids."""
        with self._by_id() as index:
            found = self.database.rows(look_sql(look, index))
        return self._complete([text for (text,) in found], look)

    def _complete(self, texts: Sequence[bytes], look: Look) -> Batch:
        """What was found, with the payloads of those that were read without."""
        batch, apart = batch_of(texts, look)
        if not apart:
            return batch
        found = {int(number): payload for number, payload in self.database.rows(f"SELECT id, payload FROM {SCHEMA}.outbox WHERE {ids_condition(apart)}")}
        # What was deleted meanwhile is left out: it is another process's by now.
        wanted = set(apart)
        return batch._replace(entries=[
            entry._replace(payload=found[entry.id]) if entry.id in found else entry
            for entry in batch.entries if entry.id in found or entry.id not in wanted])

    def shorten_log(self) -> bool:
        """Have the binary log name the rows that this session deletes by their key alone. False: the schema or its accounts are not made for it."""
        try:
            self.database.run(f"CALL {SCHEMA}.minimal_row_image()")
        except (AccessDenied, StatementRefused):
            # The schema is not migrated yet, or the account that made it is gone, or the worker's may not call it.
            return False
        return True

    def delete(self, ids: Sequence[int], dead: Mapping[int, str], again: bool, ask: bool = False) -> Optional[Writers]:
        """Delete ``ids``, which are sorted, and keep the ``dead`` among them (id → why) as dead letters. ``again``: it may have been done before.

        With ``ask`` it returns which transactions write meanwhile, if the server says so.
        """
        kept = [self._keep(number, error) for number, error in dead.items()]
        try:
            with self._by_id() as index:
                # In one round trip: no lock is held while a client is waited for.
                asked = [TRANSACTIONS] if ask else []
                answers = self.database.rows_of_each("START TRANSACTION", *kept, *deletions(ids, again, index), *asked, "COMMIT")
        except DatabaseUnavailable:
            self.database.close()
            raise
        for row in (row for rows in answers for row in rows):
            own, oldest, _writing, _reading, _prepared, replicates = (int(value or 0) for value in row)
            return Writers(own, oldest) if own and not replicates else None
        return None

    @staticmethod
    def _keep(number: int, error: str) -> str:
        # What a transform has raised may hold half of a surrogate pair.
        words = text_literal(error[:_ERROR_LENGTH].encode(errors="replace")).decode()
        return (
            f"REPLACE INTO {SCHEMA}.dead_letter (id, shard, table_name, operation, payload, created_at, failed_at, error)"
            f" SELECT id, shard, table_name, operation, payload, created_at, NOW(6), {words} FROM {SCHEMA}.outbox WHERE id = {number}")

    def last_and_dead(self, first: int) -> tuple[int, int]:
        """The greatest id that is committed now, and how many dead letters there are of changes up to it, at the same moment.

        It is looked for from the id ``first`` on; when none is there, it is the one before that.
        """
        with self.database.snapshot():
            # MAX goes back over what is deleted, whatever its condition is, until there is a row: only where there is one behind ``first``. MIN begins there,
            # where MySQL's ORDER BY with LIMIT may begin with the first row of the table.
            ((there,),) = self.database.rows(f"SELECT MIN(id) FROM {SCHEMA}.outbox WHERE id >= {first}")
            last = int(self.database.rows(f"SELECT MAX(id) FROM {SCHEMA}.outbox")[0][0]) if there is not None else first - 1
            return last, self.dead(last)

    def waiting(self, ranges: Iterable[tuple[int, Optional[int]]], limit: int, tables: Iterable[str] = ()) -> dict[str, int]:
        """How many changes with ids in ``ranges`` there are, by table, counted up to ``limit``; only those of ``tables`` when some are given."""
        of_tables = f" AND table_name IN ({text_list(tables)})" if tables else ""
        return {name.decode(): int(number) for name, number in self.database.rows(
            f"SELECT table_name, COUNT(*) FROM (SELECT table_name FROM {SCHEMA}.outbox WHERE ({ranges_condition(ranges)}){of_tables}"
            f" ORDER BY id LIMIT {limit}) AS looked_at GROUP BY table_name")}

    def dead(self, last: int) -> int:
        """How many dead letters there are of changes up to the id ``last``."""
        ((number,),) = self.database.rows(f"SELECT COUNT(*) FROM {SCHEMA}.dead_letter WHERE id <= {last}")
        return int(number)

    def present(self, spans: Spans) -> Spans:
        """Those of the ids that are in the outbox."""
        condition = ranges_condition(spans)
        return Spans((int(number), int(number)) for (number,) in self.database.rows(f"SELECT id FROM {SCHEMA}.outbox WHERE {condition}")) if spans else Spans()

    def look_with_rows(self, look: Look, seconds: float) -> tuple[Batch, dict[int, Reloaded], dict[int, Malformed]]:
        """A batch, and for its reloads what their rows are in the same snapshot: the changes that they come to by id, and those that come to none.

        Of a reload whose declaration is not there nothing is said. It is cut when the rows are large, or when reading them has taken so many ``seconds``:
        nobody renews a lease meanwhile. Raises RowsDenied too.
        """
        over = time.monotonic() + seconds
        with self._by_id() as index, self.database.snapshot():
            batch = self._complete([text for (text,) in self.database.rows(look_sql(look, index))], look)
            rows = ReloadRows(self.database, self._declarations, batch.entries)
            for number, entry in enumerate(batch.entries):
                if entry.operation != "reload" or entry.table in look.unread or entry.id in rows.changes or entry.id in rows.wrong:
                    continue
                if number and (rows.bytes > MOST_BYTES or time.monotonic() > over):
                    batch = Batch(batch.entries[:number], True, batch.others, batch.entries[number - 1].id)
                    break
                rows.look(number)
        return batch, rows.changes, rows.wrong
