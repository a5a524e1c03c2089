# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the outbox: the SELECT of a batch of changes, and the parsing of its result. Pure."""

from __future__ import annotations

import datetime
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from gearsync.contract import SCHEMA
from gearsync.outbox.sql import ranges_condition, text_list

#: Bytes of a payload that is read with its batch; a larger one is read by its id, to bound the memory. Less
#: in a long batch.
_INLINE = 16_384
#: Bytes of a batch's payloads; a single change may be larger.
MOST_BYTES = 8 << 20
#: The length of a TIMESTAMP(6), with which a stamp begins.
CREATED = 26


#: The stamp of a row of the outbox.
STAMP_SQL = "CONCAT(created_at, ' ', operation, ' ', table_name)"


class Entry(NamedTuple):
    """One row of the outbox."""

    id: int
    shard: int
    table: str
    operation: str
    payload: bytes
    #: "CREATED OPERATION TABLE" as the server writes it, in UTC: one object with all that counting needs.
    stamp: bytes = b""


class Batch(NamedTuple):
    """The changes of one look; ``more``: the look was cut, so that more changes may wait."""

    entries: list[Entry]
    more: bool
    others: Mapping[int, Sequence[int]] = {}
    """Ids of changes of other shards, by shard."""
    last: int = 0
    """The last id that was looked at."""


class Look(NamedTuple):
    """The parameters of one look at the outbox."""

    ranges: Sequence[tuple[int, Optional[int]]]
    """Ranges of ids; the last may have no end."""
    shards: Optional[Sequence[int]]
    """Shards whose changes are read; of others only the ids are. None for all shards."""
    limit: int
    """Rows at most."""
    unread: Sequence[str]
    """Tables whose payloads are not read, because their changes cannot be applied now."""


@functools.lru_cache(maxsize=10_000)
def _head(text: bytes) -> tuple[str, str]:
    """Operation and table of a stamp."""
    operation, _space, table = text.decode().partition(" ")
    return operation, table


class Applied(NamedTuple):
    """The number of changes of one table and operation that were made at one time, in UTC."""

    created: datetime.datetime
    operation: str
    table: str
    number: int


def summary(entries: Iterable[Entry]) -> Iterator[Applied]:
    """How many changes the entries are, by time, operation and table. Pure."""
    for stamp, number in Counter([entry.stamp for entry in entries]).items():
        yield Applied(
            datetime.datetime.fromisoformat(stamp[:CREATED].decode()), *_head(stamp[CREATED + 1 :]), number
        )


def _inline(rows: int) -> int:
    """The length in bytes up to which a payload is read with its change, when a look reads up to ``rows``
    rows.
    """
    return max(256, min(_INLINE, 2 * MOST_BYTES // rows))


def look_sql(look: Look, index: str = "PRIMARY") -> str:
    """The SELECT of the oldest changes by the ``index`` of the ids: one text for each, which ``batch_of``
    parses. Pure.
    """
    # One column instead of six: the driver's work is by the column. JSON never begins with NUL: it marks a
    # payload's length.
    inline = f"IF(LENGTH(payload) > {_inline(look.limit)}, CONCAT(X'00', LENGTH(payload)), payload)"
    payload = f"IF(table_name IN ({text_list(look.unread)}), '', {inline})" if look.unread else inline
    text = f"CONCAT(id, ' ', shard, ' ', {STAMP_SQL}, X'00', {payload})"
    if look.shards is not None:
        text = f"IF(shard IN ({', '.join(map(str, look.shards))}), {text}, CONCAT(id, ' ', shard))"
    return (
        f"SELECT {text} FROM {SCHEMA}.outbox FORCE INDEX ({index}) WHERE "
        f"{ranges_condition(look.ranges)} ORDER BY id LIMIT {look.limit}"
    )


def batch_of(texts: Sequence[bytes], look: Look) -> tuple[Batch, list[int]]:
    """The batch in the result of ``look_sql``, cut when it is large, and the ids whose payloads are still
    to be read. Pure.
    """
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
        if size > MOST_BYTES and entries:
            more = True
            break
        last = int(number)
        if large:
            apart.append(last)
        operation, table = _head(stamp[CREATED + 1 :])
        entries.append(Entry(last, int(shard), table, operation, payload, stamp))
    return Batch(entries, more, others, last), apart
