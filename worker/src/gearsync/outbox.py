"""The outbox in MySQL: read a shard's changes, delete exactly those that were applied, keep those that cannot be."""

from __future__ import annotations

import datetime
import functools
import itertools
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Callable, NamedTuple, Optional

import msgspec

from gearsync import source
from gearsync.change import Change, Json, Malformed, Row, Value, decode_outbox
from gearsync.database import SCHEMA, Database, DatabaseUnavailable

#: A larger payload is read by its id, so that a batch of large ones does not fill the memory. A long batch has less for each.
_INLINE = 16_384
#: A batch's payloads, in bytes; a single change may be larger.
_MOST_BYTES = 8 << 20
#: Rows that are read by one SELECT, when nothing is known of their sizes and at most.
_FIRST_ROWS, _MOST_ROWS = 8, 256
#: While the rows of one SELECT are no more bytes than this, the next one is for twice as many.
_FEW_BYTES = 1 << 20
#: A row that the server refuses to show is asked for so many times.
_ATTEMPTS = 3
#: Ids that follow one another are deleted as a range from so many on.
_RUN = 3
_ERROR_LENGTH = 10_000
#: Longer than a table's triggers take to be replaced.
_SETTLED_MINUTES = 10
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


class RowsDenied(Exception):
    """The account may not read the rows of ``table``; the message is the server's."""

    def __init__(self, table: str, error: DatabaseUnavailable) -> None:
        super().__init__(str(error))
        self.table = table


class _Unclear(Exception):
    """Not all rows of a SELECT can be understood, so that they are to be read one by one."""


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


def _declarations(names: str) -> str:
    return f"SELECT table_name, fingerprints FROM {SCHEMA}.declaration WHERE table_name IN ({names})"


def _known(rows: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    return {name.decode(): msgspec.json.decode(known, type=list[str]) for name, known in rows}


def _beside(own: range, columns: str) -> str:
    """The SELECTs that find a row when a shard outside of ``own`` has changes."""
    # In these directions the search begins beside our own shards, whose deleted changes it would have to walk through otherwise.
    above = f"(SELECT {columns} FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY) WHERE shard >= {own.stop} ORDER BY shard, id LIMIT 1)"
    below = f"(SELECT {columns} FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY) WHERE shard < {own.start} ORDER BY shard DESC, id DESC LIMIT 1)"
    return f"{above} UNION ALL {below}" if own.start > 0 else above


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

    def condition(self, keys: Sequence[Row]) -> str:
        """What holds for the rows with these keys. Raises KeyError and ValueError."""
        names = [f"{source.ALIAS}.{source.quote(column.real)}" for column in self.key]
        literals = [[source.literal(column.kind, key[column.declared]) for column in self.key] for key in keys]
        if len(names) == 1 and len(keys) > 1:
            return f"{names[0]} IN ({', '.join(text for (text,) in literals)})"
        return " OR ".join("(" + " AND ".join(f"{name} = {text}" for name, text in zip(names, each)) + ")" for each in literals)


class _Rows:
    """The rows that the reloads of a batch ask for, read some at a time, all in one snapshot."""

    def __init__(self, database: Database, entries: list[Entry], readable: Callable[[str], Optional[_Readable]]) -> None:
        self._database = database
        self._entries = entries
        self._readable = readable
        self._tables: dict[str, Optional[_Readable]] = {}
        self._few: dict[str, int] = {}
        #: What was found out so far, by the entries' ids.
        self.changes: dict[int, Change] = {}
        self.wrong: dict[int, Malformed] = {}
        self.bytes = 0

    def look(self, number: int) -> None:
        """Find out what the reload at ``number`` comes to, and some of the same table behind it. Raises DatabaseUnavailable and RowsDenied."""
        first = self._entries[number]
        if first.table not in self._tables:
            self._tables[first.table] = self._readable(first.table)
        table = self._tables[first.table]
        few = self._few.setdefault(first.table, _FIRST_ROWS if table is None or table.large else _MOST_ROWS)
        asked: dict[int, Change] = {}
        same = (entry for entry in itertools.islice(self._entries, number, None) if entry.operation == "reload" and entry.table == first.table)
        for entry in itertools.islice(same, few):
            try:
                asked[entry.id] = decode_outbox(entry.table, entry.operation, entry.payload)
                if table is None or not table.key:
                    raise Malformed("reload of a table that synced_table does not know, or knows no key of")
                table.condition([asked[entry.id].new or {}])
            except Malformed as error:
                self.wrong[entry.id] = error
                asked.pop(entry.id, None)
            except (KeyError, ValueError) as error:
                self.wrong[entry.id] = Malformed(f"reload with a wrong key: {error}")
                asked.pop(entry.id, None)
        if table is not None and asked:
            before = self.bytes
            self._read(table, asked)
            self._few[first.table] = min(2 * few, _MOST_ROWS) if self.bytes - before <= _FEW_BYTES else max(few // 4, 1)

    def _read(self, table: _Readable, asked: dict[int, Change]) -> None:
        if len(asked) > 1:
            try:
                self._read_together(table, asked)
            except _Unclear:
                # Most often it is one row's fault, which is found in a few steps.
                pairs = list(asked.items())
                self._read(table, dict(pairs[: len(pairs) // 2]))
                self._read(table, dict(pairs[len(pairs) // 2 :]))
            return
        for number, change in asked.items():
            try:
                self._read_alone(table, number, change)
            except Malformed as error:
                self.wrong[number] = error

    def _read_together(self, table: _Readable, asked: dict[int, Change]) -> None:
        keys = {source.identity_bytes(table.key, change.new or {}): change.new or {} for change in asked.values()}
        try:
            rows = self._select(table, list(keys.values()), next(iter(asked.values())))
        except DatabaseUnavailable as error:
            if error.statement or error.refused:
                raise _Unclear from None
            raise
        found: dict[tuple[bytes, ...], Row] = {}
        for columns in rows:
            if columns[0] is None:
                raise _Unclear
            try:
                row = self._row(table, columns)
            except Malformed:
                raise _Unclear from None
            found[source.identity_bytes(table.key, row)] = row
        for number, change in asked.items():
            self._take(table, number, change, found)

    def _read_alone(self, table: _Readable, number: int, change: Change) -> None:
        """Raises Malformed."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                rows = self._select(table, [change.new or {}], change)
                break
            except DatabaseUnavailable as error:
                if not error.statement and not error.refused:
                    raise
                if attempt == _ATTEMPTS:
                    raise Malformed(f"the row cannot be read, error {error.code}", f"the row cannot be read: {error}") from None
        if rows and rows[0][0] is None:
            raise Malformed("the row is too large to be put into words; raise max_allowed_packet")
        found = [self._row(table, columns) for columns in rows]
        self._take(table, number, change, {source.identity_bytes(table.key, row): row for row in found})

    def _select(self, table: _Readable, keys: list[Row], change: Change) -> list[tuple[Optional[bytes], ...]]:
        try:
            rows = self._database.rows(f"{table.select} WHERE {table.condition(keys)}")
        except DatabaseUnavailable as error:
            if error.denied:
                raise RowsDenied(str(change.table), error) from None
            raise
        self.bytes += sum(len(value) for columns in rows for value in columns if value is not None)
        return rows

    @staticmethod
    def _row(table: _Readable, columns: tuple[Optional[bytes], ...]) -> Row:
        small, *large = columns
        found = decode_outbox("", "update", b'{"new":%s}' % (small or b"null"))
        values = {column.declared: _bare(column.kind, value) for column, value in zip(table.large, large)}
        return {**(found.new or {}), **values}

    def _take(self, table: _Readable, number: int, change: Change, found: dict[tuple[bytes, ...], Row]) -> None:
        key = change.new or {}
        # 'a' and 'A' are one key for many collations, and two rows for Redis, perhaps in two shards.
        row = found.get(source.identity_bytes(table.key, key))
        self.changes[number] = _gone(change, key) if row is None else Change(change.table, "update", dict(row), change.old, change.partial)


def _bare(kind: str, value: Optional[bytes]) -> Value:
    if value is None or kind == "binary":
        return value
    return Json(value.decode()) if kind == "json" else value.decode()


def _inline(rows: int) -> int:
    """The length up to which a payload is read with its change, when so many rows may be read at once, in bytes."""
    return max(256, min(_INLINE, 2 * _MOST_BYTES // rows))


def _oldest_changes(shards: Collection[int], limit: int, inline: int, without: str, columns: str = "") -> str:
    """The SELECT of the shards' oldest changes, a text for each, which _batch can read, after the given ``columns``."""
    # The index on id alone would be walked through all other shards' changes. One column in place of five: a client's work is by the column.
    # A NUL begins no JSON: it says that the payload's length follows.
    return (
        f"SELECT {columns}CONCAT(id, ' ', created_at, ' ', operation, ' ', table_name, X'00',"
        f" IF(LENGTH(payload) > {inline}, CONCAT(X'00', LENGTH(payload)), payload))"
        f" FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY)"
        f" WHERE shard IN ({', '.join(map(str, shards))}){f' AND table_name NOT IN ({without})' if without else ''} ORDER BY shard, id LIMIT {limit}")


def _batch(texts: Sequence[bytes], more: bool) -> tuple[Batch, list[int]]:
    """What _oldest_changes has found, cut when it is large, and the ids of those whose payloads are still to be read. Pure."""
    entries: list[Entry] = []
    apart: list[int] = []
    size = 0
    for text in texts:
        head, _zero, payload = text.partition(b"\0")
        number, _space, stamp = head.partition(b" ")
        large = payload[:1] == b"\0" and payload[1:].isdigit()
        size += int(payload[1:]) if large else len(payload)
        if size > _MOST_BYTES and entries:
            more = True
            break
        if large:
            apart.append(int(number))
        operation, table = _head(stamp[_CREATED + 1 :])
        entries.append(Entry(int(number), table, operation, payload, stamp))
    return Batch(entries, more), apart


class Outbox:
    """The table `outbox` and its neighbour `dead_letter`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def read(self, shard: int, limit: int, without: Iterable[str] = ()) -> Batch:
        """The oldest changes of a shard, in their order, ``without`` those of the named tables."""
        texts = [text for (text,) in self.database.rows(_oldest_changes([shard], limit, _inline(limit), _names(without)))]
        batch, apart = _batch(texts, len(texts) == limit)
        return Batch(self._with_payloads(shard, batch.entries, apart), batch.more) if apart else batch

    def read_each(self, shards: Collection[int], limit: int, without: Iterable[str] = ()) -> dict[int, Batch]:
        """The same for each of ``shards``, hardly slower than for one; left out is who has payloads that want to be read apart, or comes after a long one."""
        rows = self.database.rows(_oldest_changes(shards, limit, _inline(limit), _names(without), "shard, "))
        texts: dict[int, list[bytes]] = {shard: [] for shard in shards}
        for shard, text in rows:
            texts[int(shard)].append(text)
        last = int(rows[-1][0]) if len(rows) == limit else max(shards)
        found = {shard: _batch(texts[shard], len(rows) == limit and shard == last) for shard in shards if shard <= last}
        return {shard: batch for shard, (batch, apart) in found.items() if not apart}

    def _with_payloads(self, shard: int, entries: list[Entry], apart: list[int]) -> list[Entry]:
        """``entries`` with the payloads of those that were read without."""
        found = {
            int(number): payload
            for number, payload in self.database.rows(f"SELECT id, payload FROM {SCHEMA}.outbox WHERE shard = {shard} AND ({ids_condition(apart)})")
        }
        # What was deleted meanwhile is left out: the lease is another's by now.
        wanted = set(apart)
        return [
            entry._replace(payload=found[entry.id]) if entry.id in found else entry for entry in entries if entry.id in found or entry.id not in wanted]

    @staticmethod
    def deletion(shard: int, ids: Sequence[int]) -> str:
        """The statement that deletes ``ids``, at least one. Pure."""
        return f"DELETE FROM {SCHEMA}.outbox WHERE shard = {shard} AND ({ids_condition(ids)})"

    def keep(self, shard: int, dead: Mapping[int, str]) -> None:
        """Within the caller's transaction, before they are deleted: keep the ``dead`` (id → why) as dead letters."""
        for number, error in dead.items():
            self.database.run(
                f"REPLACE INTO {SCHEMA}.dead_letter (id, shard, table_name, operation, payload, created_at, failed_at, error)"
                f" SELECT id, shard, table_name, operation, payload, created_at, NOW(6), %s FROM {SCHEMA}.outbox WHERE shard = %s AND id = %s",
                # What a transform has raised may hold half of a surrogate pair.
                (error[:_ERROR_LENGTH].encode(errors="replace").decode(), shard, number),
            )

    def fingerprints(self, tables: Iterable[str]) -> dict[str, list[str]]:
        """Those of the declarations of ``tables`` that triggers were made of, the newest one last; of a table that is synced no more there are none.

        Asked for after changes were read, it is known that none of these is by triggers of a later declaration than the newest one.
        """
        names = _names(tables)
        try:
            return _known(self.database.rows(_declarations(names))) if names else {}
        except DatabaseUnavailable as error:
            # A schema of an earlier release, whose owner has not migrated it yet.
            if not error.schema_absent:
                raise
            return {}

    def after(self, shard: int, tables: Iterable[str]) -> tuple[dict[str, list[str]], list[int]]:
        """What is to be known when changes of ``tables`` were read: ``fingerprints`` and ``others``, at the price of one."""
        own = layout(shard)
        try:
            rows = self.database.rows(f"{_declarations(_names(tables))} UNION ALL {_beside(own, 'NULL, NULL')}")
        except DatabaseUnavailable as error:
            if not error.schema_absent:
                raise
            return {}, self.others(shard)
        known = _known(row for row in rows if row[0] is not None)
        return known, self._outside(own) if len(rows) > len(known) else []

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
        return self._outside(own) if self.database.rows(_beside(own, "1")) else []

    def _outside(self, own: range) -> list[int]:
        return [other for other in self.shards() if other not in own]

    def oldest(self, table: str, shards: Sequence[int]) -> Optional[int]:
        """The smallest id of a table's changes in these shards."""
        found = [
            self.database.rows(f"SELECT id FROM {SCHEMA}.outbox FORCE INDEX (PRIMARY) WHERE shard = %s AND table_name = %s ORDER BY id LIMIT 1", (shard, table))
            for shard in shards
        ]
        return min((int(rows[0][0]) for rows in found if rows), default=None)

    def is_settled(self, table: str) -> bool:
        """Whether nobody has changed, for minutes, to which shards the triggers of ``table`` write."""
        return bool(self.database.rows(
            f"SELECT 1 FROM {SCHEMA}.synced_table WHERE table_name = %s AND changed_at < NOW(6) - INTERVAL {_SETTLED_MINUTES} MINUTE", (table,)))

    def spans(self) -> dict[int, tuple[int, int]]:
        """The smallest and the greatest id of each shard that are committed now."""
        found = {}
        for shard in self.shards():
            ((first, last),) = self.database.rows(f"SELECT MIN(id), MAX(id) FROM {SCHEMA}.outbox WHERE shard = {shard}")
            if first is not None:
                found[shard] = int(first), int(last)
        return found

    def dead(self, spans: Mapping[int, tuple[int, int]]) -> int:
        """How many dead letters there are of changes with these ids."""
        conditions = " OR ".join(f"id BETWEEN {first} AND {last} AND shard = {shard}" for shard, (first, last) in spans.items())
        ((number,),) = self.database.rows(f"SELECT COUNT(*) FROM {SCHEMA}.dead_letter WHERE {conditions}") if conditions else ((0,),)
        return int(number)

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

    def read_with_rows(
        self, shard: int, limit: int, without: Iterable[str], seconds: float
    ) -> tuple[Batch, dict[int, Change], dict[int, Malformed]]:
        """A batch, and for its reloads what their rows are in the same snapshot: the changes that they come to by id, and those that come to none.

        It is cut when the rows are large, or when reading them has taken so many ``seconds``: nobody renews a lease meanwhile. Raises RowsDenied too.
        """
        over = time.monotonic() + seconds
        with self.database.snapshot():
            batch = self.read(shard, limit, without)
            rows = _Rows(self.database, batch.entries, self._readable)
            for number, entry in enumerate(batch.entries):
                if entry.operation != "reload" or entry.id in rows.changes or entry.id in rows.wrong:
                    continue
                if number and (rows.bytes > _MOST_BYTES or time.monotonic() > over):
                    batch = Batch(batch.entries[:number], True)
                    break
                rows.look(number)
        return batch, rows.changes, rows.wrong

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
