"""The outbox in MySQL: look for changes, delete exactly those that were applied, keep those that cannot be."""

from __future__ import annotations

import contextlib
import datetime
import functools
import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

import msgspec
from pymysql.constants import ER

from gearsync.contract import ROW, SCHEMA
from gearsync.outbox import synced_table
from gearsync.outbox.declarations import Declarations, KeyColumn, LargeColumn, number_of
from gearsync.outbox.spans import Spans, runs
from gearsync.project.payload import Change, Layout, decode_change, decode_outbox
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import AccessDenied, DatabaseUnavailable, StatementRefused
from gearsync.values import Malformed, Number, Row, Value

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
#: Ids that follow one another are deleted as a range from so many on, since each is a statement; so many others are looked up by one.
_RUN = 50
_LOOKED_UP = 500
_ERROR_LENGTH = 10_000
#: Longer than a table's triggers take to be replaced.
_SETTLED_MINUTES = 10
#: Characters of a TIMESTAMP(6), with which a stamp begins.
CREATED = 26
#: Asks which transactions are open. One row: the number of this one, the smallest of those that have written, seconds since the oldest that has written and
#: the oldest that has not began, how many are prepared without a client, and whether the server applies another one's changes.
TRANSACTIONS = f"CALL {SCHEMA}.transactions()"
#: Errors of it: the schema is not migrated yet, or the account that made it may not see transactions, or is not there any more.
TRANSACTIONS_UNKNOWN = (ER.SP_DOES_NOT_EXIST, ER.SPECIFIC_ACCESS_DENIED_ERROR, ER.PROCACCESS_DENIED_ERROR, ER.NO_SUCH_USER)


class Entry(NamedTuple):
    """One change that waits."""

    id: int
    shard: int
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
    others: Mapping[int, Sequence[int]] = {}
    """Ids of changes of other shards, by shard."""
    last: int = 0
    """The last id, when it was cut."""


def ranges_condition(ranges: Iterable[tuple[int, Optional[int]]]) -> str:
    """The condition that is true for ids in these ranges; one without an end goes on for ever. Pure."""
    return " OR ".join(f"id >= {first}" if last is None else f"id = {first}" if first == last else f"id BETWEEN {first} AND {last}" for first, last in ranges)


def ids_condition(ids: Sequence[int]) -> str:
    """The condition that is true for exactly these ids, which are sorted. Pure."""
    return ranges_condition(runs(ids))


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
        yield Applied(datetime.datetime.fromisoformat(stamp[:CREATED].decode()), *_head(stamp[CREATED + 1 :]), number)


def _names(names: Iterable[str]) -> str:
    return ", ".join(synced_table.text_literal(name.encode()).decode() for name in sorted(names))


class _Readable(NamedTuple):
    """How the rows are read that the reloads of one declaration ask for: under the declaration that is in force, found by the key of theirs."""

    number: int
    """That of the declaration in force."""
    layout: Optional[Layout]
    """Of the reloads' own declaration."""
    key: list[KeyColumn]
    """The columns that a row is found by."""
    large: list[LargeColumn]
    """Those that come by themselves."""
    select: str
    """The SELECT of both and of the row without its large columns, without its condition; empty when the table has not all columns of the key any more."""

    def condition(self, keys: Sequence[Row]) -> str:
        """What holds for the rows with these keys. Raises KeyError and ValueError."""
        names = [f"{ROW}.{synced_table.quote(column.real)}" for column in self.key]
        literals = [[synced_table.literal(column.kind, key[column.declared]) for column in self.key] for key in keys]
        if len(names) == 1 and len(keys) > 1:
            return f"{names[0]} IN ({', '.join(text for (text,) in literals)})"
        return " OR ".join("(" + " AND ".join(f"{name} = {text}" for name, text in zip(names, each)) + ")" for each in literals)


def _shown(column: KeyColumn) -> str:
    """What shows a key column as its values travel: as text, or as bytes."""
    name = f"{ROW}.{synced_table.quote(column.real)}"
    return name if column.kind == "binary" else f"{name} + 0" if column.kind == "bit" else f"CONVERT({name} USING utf8mb4)"


def _kind_of(value: Value) -> str:
    """What a key column is by a value of it. Pure."""
    return "binary" if isinstance(value, bytes) else "bit" if isinstance(value, int) else "decimal" if isinstance(value, Number) else "text"


def _key_of(entry: Entry) -> Row:
    """The key in a payload with names, which triggers of the first releases wrote; empty when the payload is none. Pure."""
    try:
        return decode_outbox(entry.table, entry.operation, entry.payload).new or {}
    except Malformed:
        return {}


def _alike(entry: Entry) -> tuple[Any, ...]:
    """What is equal for reloads that are read in one way. Pure."""
    number = number_of(entry.payload)
    return (entry.table, number) if number else (entry.table, number, *_key_of(entry))


class Reloaded(NamedTuple):
    """What a reload comes to: a change, and the number of the declaration that its row is to be written under."""

    change: Change
    number: int


class _Rows:
    """The rows that the reloads of a batch ask for, read some at a time, all in one snapshot."""

    def __init__(self, database: Database, entries: list[Entry], readable: Callable[[Entry], Optional[_Readable]]) -> None:
        self._database = database
        self._entries = entries
        self._readable = readable
        #: By those that are read in one way.
        self._tables: dict[tuple[Any, ...], Optional[_Readable]] = {}
        self._few: dict[str, int] = {}
        #: What was found out so far, by the entries' ids.
        self.changes: dict[int, Reloaded] = {}
        self.wrong: dict[int, Malformed] = {}
        self.bytes = 0

    def look(self, number: int) -> None:
        """Find out what the reload at ``number`` comes to, and some of the same table behind it. Raises DatabaseUnavailable and RowsDenied."""
        first = self._entries[number]
        alike = _alike(first)
        if alike not in self._tables:
            self._tables[alike] = self._readable(first)
        table = self._tables[alike]
        if table is None and number_of(first.payload):
            # It waits.
            return
        few = self._few.setdefault(first.table, _FIRST_ROWS if table is None or table.large else _MOST_ROWS)
        asked: dict[int, Change] = {}
        same = (entry for entry in itertools.islice(self._entries, number, None)
                if entry.operation == "reload" and entry.table == first.table and _alike(entry) == alike)
        for entry in itertools.islice(same, few):
            try:
                asked[entry.id] = decode_change(table and table.layout, entry.table, entry.operation, entry.payload)
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
        keys = {synced_table.identity_bytes(table.key, change.new or {}): change.new or {} for change in asked.values()}
        try:
            rows = self._select(table, list(keys.values()), next(iter(asked.values())))
        except StatementRefused:
            raise _Unclear from None
        found: dict[tuple[bytes, ...], Row] = {}
        for columns in rows:
            if columns[len(table.key)] is None:
                raise _Unclear
            try:
                found[tuple(bytes(value or b"") for value in columns[: len(table.key)])] = self._row(table, columns)
            except Malformed:
                raise _Unclear from None
        for number, change in asked.items():
            self._take(table, number, change, found)

    def _read_alone(self, table: _Readable, number: int, change: Change) -> None:
        """Raises Malformed."""
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                rows = self._select(table, [change.new or {}], change)
                break
            except StatementRefused as error:
                if attempt == _ATTEMPTS:
                    raise Malformed(f"the row cannot be read, error {error.code}", f"the row cannot be read: {error}") from None
        if rows and rows[0][len(table.key)] is None:
            raise Malformed("the row is too large to be put into words; raise max_allowed_packet")
        found = {tuple(bytes(value or b"") for value in columns[: len(table.key)]): self._row(table, columns) for columns in rows}
        self._take(table, number, change, found)

    def _select(self, table: _Readable, keys: list[Row], change: Change) -> list[tuple[Optional[bytes], ...]]:
        if not table.select:
            return []
        try:
            rows = self._database.rows(f"{table.select} WHERE {table.condition(keys)}")
        except AccessDenied as error:
            raise RowsDenied(str(change.table), error) from None
        self.bytes += sum(len(value) for columns in rows for value in columns if value is not None)
        return rows

    @staticmethod
    def _row(table: _Readable, columns: tuple[Optional[bytes], ...]) -> Row:
        small, *large = columns[len(table.key) :]
        found = decode_outbox("", "update", b'{"new":%s}' % (small or b"null"))
        values = {column.declared: synced_table.bare(column.kind, value) for column, value in zip(table.large, large)}
        return {**(found.new or {}), **values}

    def _take(self, table: _Readable, number: int, change: Change, found: dict[tuple[bytes, ...], Row]) -> None:
        key = change.new or {}
        # 'a' and 'A' are one key for many collations, and two rows for Redis, perhaps in two shards.
        row = found.get(synced_table.identity_bytes(table.key, key))
        found_change = _gone(change, key) if row is None else Change(change.table, "update", dict(row), change.old, change.partial)
        self.changes[number] = Reloaded(found_change, table.number)


def _inline(rows: int) -> int:
    """The length up to which a payload is read with its change, when so many rows may be read at once, in bytes."""
    return max(256, min(_INLINE, 2 * _MOST_BYTES // rows))


class Writers(NamedTuple):
    """Transactions that write, by the numbers that InnoDB gives them when they begin to."""

    own: int
    """That of the one that asks."""
    oldest: int
    """The smallest of all that are not ended."""


class Look(NamedTuple):
    """What is looked for."""

    ranges: Sequence[tuple[int, Optional[int]]]
    """Of ids."""
    shards: Optional[Sequence[int]]
    """Those whose changes are read; of others only the ids. None for all shards."""
    limit: int
    """Changes at most."""
    unread: Sequence[str]
    """Tables whose payloads are not read, because their changes cannot be applied now."""


def look_sql(look: Look, index: str = "PRIMARY") -> str:
    """The SELECT of the oldest changes by the ``index`` of the ids, a text for each, which _batch can read. Pure."""
    # One column in place of six: a client's work is by the column. A NUL begins no JSON: it says that the payload's length follows.
    inline = f"IF(LENGTH(payload) > {_inline(look.limit)}, CONCAT(X'00', LENGTH(payload)), payload)"
    payload = f"IF(table_name IN ({_names(look.unread)}), '', {inline})" if look.unread else inline
    text = f"CONCAT(id, ' ', shard, ' ', created_at, ' ', operation, ' ', table_name, X'00', {payload})"
    if look.shards is not None:
        text = f"IF(shard IN ({', '.join(map(str, look.shards))}), {text}, CONCAT(id, ' ', shard))"
    return f"SELECT {text} FROM {SCHEMA}.outbox FORCE INDEX ({index}) WHERE {ranges_condition(look.ranges)} ORDER BY id LIMIT {look.limit}"


def _batch(texts: Sequence[bytes], look: Look) -> tuple[Batch, list[int]]:
    """What look_sql has found, cut when it is large, and the ids of those whose payloads are still to be read. Pure."""
    entries: list[Entry] = []
    apart: list[int] = []
    others: dict[int, list[int]] = {}
    size = last = 0
    more = len(texts) == look.limit
    for text in texts:
        head, _zero, payload = text.partition(b"\0")
        number, shard, *stamps = head.split(b" ", 2)
        if not stamps:
            last = int(number)
            others.setdefault(int(shard), []).append(last)
            continue
        (stamp,) = stamps
        large = payload[:1] == b"\0" and payload[1:].isdigit()
        size += int(payload[1:]) if large else len(payload)
        if size > _MOST_BYTES and entries:
            more = True
            break
        last = int(number)
        if large:
            apart.append(last)
        operation, table = _head(stamp[CREATED + 1 :])
        entries.append(Entry(last, int(shard), table, operation, payload, stamp))
    return Batch(entries, more, others, last), apart


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
        batch, apart = _batch(texts, look)
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
        words = synced_table.text_literal(error[:_ERROR_LENGTH].encode(errors="replace")).decode()
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
        of_tables = f" AND table_name IN ({_names(tables)})" if tables else ""
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
            rows = _Rows(self.database, batch.entries, self._readable)
            for number, entry in enumerate(batch.entries):
                if entry.operation != "reload" or entry.table in look.unread or entry.id in rows.changes or entry.id in rows.wrong:
                    continue
                if number and (rows.bytes > _MOST_BYTES or time.monotonic() > over):
                    batch = Batch(batch.entries[:number], True, batch.others, batch.entries[number - 1].id)
                    break
                rows.look(number)
        return batch, rows.changes, rows.wrong

    def _readable(self, entry: Entry) -> Optional[_Readable]:
        synced = self.database.named_rows(f"SELECT * FROM {SCHEMA}.synced_table WHERE table_name = {_names([entry.table])}")
        own, in_force = number_of(entry.payload), int(synced[0].get(b"number", 0)) if synced else 0
        # That which was written down last is not in force before all triggers are of it: what is written under it must be told by them as old.
        number = max(own, in_force)
        if number == 0:
            return self._readable_by_names(synced[0]) if synced else None
        under, of = (self._declarations.find(entry.table, each) if self._declarations else None for each in (number, own))
        if under is None or under.declared is None or of is None:
            return None
        found = under.declared
        kinds = dict(found.columns)
        key = of.declared.key if of.declared else [KeyColumn(name, name, kinds.get(name) or _kind_of(value)) for name, value in _key_of(entry).items()]
        where = (found.source_schema, found.source_table)
        names = "SELECT CONVERT(COLUMN_NAME USING utf8mb4) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
        there = {name.decode().lower() for (name,) in self.database.rows(names, where)} if own != number else None
        is_found = there is None or all(column.real.lower() in there for column in key)
        return _Readable(number, of.layout, key, found.large_columns, _select_sql(key, found.small_sql, found.large_columns, *where) if is_found else "")

    @staticmethod
    def _readable_by_names(synced: Mapping[bytes, bytes]) -> _Readable:
        """How rows are read before the schema is migrated."""
        key = msgspec.json.decode(synced[b"key_columns"], type=list[KeyColumn])
        large = msgspec.json.decode(synced[b"large_columns"], type=list[LargeColumn])
        small, schema, name = (synced[column].decode() for column in (b"small_sql", b"source_schema", b"source_table"))
        return _Readable(0, None, key, large, _select_sql(key, small, large, schema, name))


def _select_sql(key: Sequence[KeyColumn], small_sql: str, large: Sequence[LargeColumn], schema: str, table: str) -> str:
    wanted = ", ".join([*map(_shown, key), small_sql, *(column.sql for column in large)])
    return f"SELECT {wanted} FROM {synced_table.quote(schema)}.{synced_table.quote(table)} AS {ROW}"
