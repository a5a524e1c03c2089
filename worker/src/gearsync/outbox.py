"""The outbox in MySQL: read a shard's changes, delete exactly those that were applied, keep those that cannot be."""

from __future__ import annotations

import datetime
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

import msgspec

from gearsync import source
from gearsync.change import Change, Json, Malformed, Row, Value, decode_outbox
from gearsync.database import SCHEMA, Database, DatabaseUnavailable

#: A larger payload is read by itself, so that a batch of large ones does not fill the memory.
_INLINE = 16_384
#: A batch's payloads, in bytes; a single change may be larger.
_MOST_BYTES = 8 << 20
#: Ids that follow one another are deleted as a range from so many on.
_RUN = 3
_ERROR_LENGTH = 10_000
#: Characters of a TIMESTAMP(6).
_CREATED = 26


class Entry(NamedTuple):
    """One change that waits."""

    id: int
    table: str
    operation: str
    payload: bytes
    #: When the statement ran that made it, in UTC, and operation and table, as the server writes them: one object for all that counting needs.
    stamp: bytes = b""


def _gone(change: Change, key: Row) -> Change:
    """What the reload of a row that is not there comes to. What is known of it is removed; what else it had written, its delete tells."""
    return Change(change.table, "delete", None, {**key, **(change.old or {})}, True)


class Batch(NamedTuple):
    """What a read has found; ``more``: it was cut, so that there may be more of it."""

    entries: list[Entry]
    more: bool


def layout(shard: int) -> range:
    """All shards of the count that ``shard`` is of: N shards are N(N-1)/2 and those that follow. Pure."""
    count = 1
    while count * (count + 1) // 2 <= shard:
        count += 1
    first = count * (count - 1) // 2
    return range(first, first + count)


def ids_condition(ids: Sequence[int]) -> str:
    """The condition that is true for exactly these ids, which are sorted; a range holds no id that is not among them. Pure."""
    parts: list[str] = []
    single: list[int] = []
    start = 0
    for end in range(1, len(ids) + 1):
        if end < len(ids) and ids[end] == ids[end - 1] + 1:
            continue
        if end - start >= _RUN:
            parts.append(f"id BETWEEN {ids[start]} AND {ids[end - 1]}")
        else:
            single += ids[start:end]
        start = end
    if single:
        parts.append(f"id IN ({', '.join(map(str, single))})")
    return " OR ".join(parts)


@functools.lru_cache(maxsize=10_000)
def _head(text: bytes) -> tuple[str, str]:
    """Operation and table."""
    operation, _space, table = text.decode().partition(" ")
    return operation, table


class Applied(NamedTuple):
    """So many changes of one table, by one operation, of one moment, in UTC."""

    created: datetime.datetime
    operation: str
    table: str
    number: int


def summary(entries: Iterable[Entry]) -> Iterator[Applied]:
    """What entries that were read come to, for counting. Pure."""
    for stamp, number in Counter([entry.stamp for entry in entries]).items():
        yield Applied(datetime.datetime.fromisoformat(stamp[:_CREATED].decode()), *_head(stamp[_CREATED + 1 :]), number)


def _names(names: Iterable[str]) -> str:
    return ", ".join(source.text_literal(name.encode()).decode() for name in sorted(names))


class _Large(msgspec.Struct):
    """A column that is too large to be part of the row's JSON, as synced_table has it."""

    declared: str
    kind: str
    sql: str


class _Readable(NamedTuple):
    """How a row is read: the columns that it is found by, those that come by themselves, and the SELECT without its condition."""

    key: list[source.KeyColumn]
    large: list[_Large]
    select: str


def _bare(kind: str, value: Optional[bytes]) -> Value:
    if value is None or kind == "binary":
        return value
    return Json(value.decode()) if kind == "json" else value.decode()


class Outbox:
    """The table `outbox` and its neighbour `dead_letter`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def read(self, shard: int, limit: int, without: Iterable[str] = ()) -> Batch:
        """The oldest changes of a shard, in their order, ``without`` those of the named tables."""
        names = _names(without)
        # The index on id alone would be walked through all other shards' changes. One column in place of five: a client's work is by the column.
        rows = self.database.rows(
            f"SELECT CONCAT(id, ' ', created_at, ' ', operation, ' ', table_name, X'00', IF(LENGTH(payload) > {_INLINE}, '', payload))"
            f" FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY)"
            f" WHERE shard = {shard}{f' AND table_name NOT IN ({names})' if names else ''} ORDER BY id LIMIT {limit}")
        entries: list[Entry] = []
        size = 0
        for (text,) in rows:
            head, _zero, payload = text.partition(b"\0")
            number, _space, stamp = head.partition(b" ")
            if not payload:
                if size >= _MOST_BYTES:
                    return Batch(entries, True)
                found = self.database.rows(f"SELECT payload FROM {SCHEMA}.outbox WHERE shard = {shard} AND id = {number.decode()}")
                if not found:
                    # Deleted meanwhile: the lease is another's by now.
                    continue
                payload = found[0][0]
            size += len(payload)
            if size > _MOST_BYTES and entries:
                return Batch(entries, True)
            operation, table = _head(stamp[_CREATED + 1 :])
            entries.append(Entry(int(number), table, operation, payload, stamp))
        return Batch(entries, len(rows) == limit)

    def delete(self, shard: int, ids: Sequence[int], dead: dict[int, str]) -> None:
        """Within the caller's transaction: keep the ``dead`` (id → why) as dead letters, and delete ``ids``, the dead among them."""
        for number, error in dead.items():
            self.database.run(
                f"REPLACE INTO {SCHEMA}.dead_letter (id, shard, table_name, operation, payload, created_at, failed_at, error)"
                f" SELECT id, shard, table_name, operation, payload, created_at, NOW(6), %s FROM {SCHEMA}.outbox WHERE shard = %s AND id = %s",
                # What a transform has raised may hold half of a surrogate pair.
                (error[:_ERROR_LENGTH].encode(errors="replace").decode(), shard, number),
            )
        if ids:
            self.database.run(f"DELETE FROM {SCHEMA}.outbox WHERE shard = {shard} AND ({ids_condition(ids)})")

    def shards(self) -> list[int]:
        """The shards that have changes."""
        # One look into the index for each shard, where SELECT DISTINCT may read all of it.
        return [int(shard) for (shard,) in self.database.rows(
            f"WITH RECURSIVE found (shard) AS (SELECT MIN(shard) FROM {SCHEMA}.outbox UNION ALL"
            f" SELECT (SELECT MIN(o.shard) FROM {SCHEMA}.outbox o WHERE o.shard > found.shard) FROM found WHERE found.shard IS NOT NULL)"
            " SELECT shard FROM found WHERE shard IS NOT NULL")]

    def others(self, shard: int) -> list[int]:
        """The shards of other counts than that of ``shard`` that have changes."""
        own = layout(shard)
        # In these directions the search begins beside our own shards, whose deleted changes it would have to walk through otherwise.
        above = f"(SELECT 1 FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY) WHERE shard >= {own.stop} ORDER BY shard, id LIMIT 1)"
        below = f"(SELECT 1 FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY) WHERE shard < {own.start} ORDER BY shard DESC, id DESC LIMIT 1)"
        looks = [above, below] if own.start > 0 else [above]
        if not self.database.rows(" UNION ALL ".join(looks)):
            return []
        return [other for other in self.shards() if other not in own]

    def oldest(self, table: str, shards: Sequence[int]) -> Optional[int]:
        """The smallest id of a table's changes in these shards."""
        found = [
            self.database.rows(f"SELECT id FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY) WHERE shard = %s AND table_name = %s ORDER BY id LIMIT 1", (shard, table))
            for shard in shards
        ]
        return min((int(rows[0][0]) for rows in found if rows), default=None)

    def greatest(self) -> dict[int, int]:
        """The greatest id of each shard that is committed now."""
        found = {}
        for shard in self.shards():
            ((number,),) = self.database.rows(f"SELECT MAX(id) FROM {SCHEMA}.outbox WHERE shard = {shard}")
            if number is not None:
                found[shard] = int(number)
        return found

    def waits(self, shard: int, number: int) -> bool:
        """Whether a change of ``shard`` up to the id ``number`` is not deleted yet."""
        return bool(self.database.rows(f"SELECT 1 FROM {SCHEMA}.outbox WHERE shard = {shard} AND id <= {number} LIMIT 1"))

    def count(self, shard: int, number: int) -> int:
        """How many changes of ``shard`` up to the id ``number`` are not deleted yet."""
        ((found,),) = self.database.rows(f"SELECT COUNT(*) FROM {SCHEMA}.outbox WHERE shard = {shard} AND id <= {number}")
        return int(found)

    def present(self, shard: int, ids: Sequence[int]) -> set[int]:
        """Those of ``ids`` that are in the outbox."""
        if not ids:
            return set()
        return {int(number) for (number,) in self.database.rows(f"SELECT id FROM {SCHEMA}.outbox WHERE shard = {shard} AND id IN ({', '.join(map(str, ids))})")}

    def read_with_rows(self, shard: int, limit: int, without: Iterable[str]) -> tuple[Batch, dict[int, Change], dict[int, Malformed]]:
        """A batch, and for its reloads what their rows are in the same snapshot: the changes that they come to by id, and those that come to none.

        It is cut when the rows are large.
        """
        changes: dict[int, Change] = {}
        wrong: dict[int, Malformed] = {}
        tables: dict[str, Optional[_Readable]] = {}
        with self.database.snapshot():
            batch = self.read(shard, limit, without)
            size = 0
            for number, entry in enumerate(batch.entries):
                if size > _MOST_BYTES:
                    return Batch(batch.entries[:number], True), changes, wrong
                if entry.operation == "reload":
                    if entry.table not in tables:
                        tables[entry.table] = self._readable(entry.table)
                    try:
                        changes[entry.id] = self._reload(tables[entry.table], decode_outbox(entry.table, entry.operation, entry.payload))
                        size += sum(len(value) for value in (changes[entry.id].new or {}).values() if isinstance(value, (bytes, str)))
                    except Malformed as error:
                        wrong[entry.id] = error
        return batch, changes, wrong

    def _readable(self, table: str) -> Optional[_Readable]:
        rows = self.database.rows(
            f"SELECT source_schema, source_table, key_columns, small_sql, large_columns FROM {SCHEMA}.synced_table WHERE table_name = %s", (table,))
        if not rows:
            return None
        schema, name, key, small_sql, large = rows[0]
        columns = msgspec.json.decode(large, type=list[_Large])
        wanted = ", ".join([small_sql.decode(), *(column.sql for column in columns)])
        return _Readable(
            msgspec.json.decode(key, type=list[source.KeyColumn]), columns,
            f"SELECT {wanted} FROM {source.quote(schema.decode())}.{source.quote(name.decode())} AS {source.ALIAS}")

    def _reload(self, table: Optional[_Readable], change: Change) -> Change:
        """What a row that is to be read comes to. Raises Malformed."""
        key: Row = change.new or {}
        if table is None or not table.key:
            raise Malformed("reload of a table that synced_table does not know, or knows no key of")
        try:
            literals = [source.literal(column.kind, key[column.declared]) for column in table.key]
        except (KeyError, ValueError) as error:
            raise Malformed(f"reload with a wrong key: {error}") from None
        condition = " AND ".join(f"{source.ALIAS}.{source.quote(column.real)} = {text}" for column, text in zip(table.key, literals))
        try:
            rows = self.database.rows(f"{table.select} WHERE {condition}")
        except DatabaseUnavailable as error:
            if error.statement:
                raise Malformed(f"the row cannot be read: {error}") from None
            raise
        if not rows:
            return _gone(change, key)
        small, *large = rows[0]
        if small is None:
            raise Malformed("the row is too large to be put into words; raise max_allowed_packet")
        found = decode_outbox(str(change.table), "update", b'{"new":%s}' % small)
        values = {column.declared: _bare(column.kind, value) for column, value in zip(table.large, large)}
        row = {**(found.new or {}), **values}
        if source.identity_bytes(table.key, row) != source.identity_bytes(table.key, key):
            # 'a' and 'A' are one key for many collations, and two rows for Redis, perhaps in two shards.
            return _gone(change, key)
        return Change(change.table, "update", row, change.old, change.partial)
