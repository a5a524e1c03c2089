"""What is read from the outbox: one SELECT for a batch of changes, and the changes in its texts. Pure."""

from __future__ import annotations

import datetime
import functools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from gearsync.contract import SCHEMA
from gearsync.outbox.sql import ranges_condition, text_list

#: A larger payload is read by its id, so that a batch of large ones does not fill the memory. A long batch has less for each.
_INLINE = 16_384
#: A batch's payloads, in bytes; a single change may be larger.
MOST_BYTES = 8 << 20
#: Characters of a TIMESTAMP(6), with which a stamp begins.
CREATED = 26


class Entry(NamedTuple):
    """One change that waits."""

    id: int
    shard: int
    table: str
    operation: str
    payload: bytes
    #: When the statement ran that made it, in UTC, and operation and table, as the server writes them: one object for all that counting needs.
    stamp: bytes = b""


class Batch(NamedTuple):
    """What a read has found; ``more``: it was cut, so that there may be more of it."""

    entries: list[Entry]
    more: bool
    others: Mapping[int, Sequence[int]] = {}
    """Ids of changes of other shards, by shard."""
    last: int = 0
    """The last id, when it was cut."""


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


def _inline(rows: int) -> int:
    """The length up to which a payload is read with its change, when so many rows may be read at once, in bytes."""
    return max(256, min(_INLINE, 2 * MOST_BYTES // rows))


def look_sql(look: Look, index: str = "PRIMARY") -> str:
    """The SELECT of the oldest changes by the ``index`` of the ids, a text for each, which batch_of can read. Pure."""
    # One column in place of six: a client's work is by the column. A NUL begins no JSON: it says that the payload's length follows.
    inline = f"IF(LENGTH(payload) > {_inline(look.limit)}, CONCAT(X'00', LENGTH(payload)), payload)"
    payload = f"IF(table_name IN ({text_list(look.unread)}), '', {inline})" if look.unread else inline
    text = f"CONCAT(id, ' ', shard, ' ', created_at, ' ', operation, ' ', table_name, X'00', {payload})"
    if look.shards is not None:
        text = f"IF(shard IN ({', '.join(map(str, look.shards))}), {text}, CONCAT(id, ' ', shard))"
    return f"SELECT {text} FROM {SCHEMA}.outbox FORCE INDEX ({index}) WHERE {ranges_condition(look.ranges)} ORDER BY id LIMIT {look.limit}"


def batch_of(texts: Sequence[bytes], look: Look) -> tuple[Batch, list[int]]:
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
        if size > MOST_BYTES and entries:
            more = True
            break
        last = int(number)
        if large:
            apart.append(last)
        operation, table = _head(stamp[CREATED + 1 :])
        entries.append(Entry(last, int(shard), table, operation, payload, stamp))
    return Batch(entries, more, others, last), apart
