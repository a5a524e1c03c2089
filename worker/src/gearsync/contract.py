# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that the worker shares with the collection, with clients and with other workers. A test compares
them with the collection's. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Union

#: The schema that the module `outbox` makes.
SCHEMA = "gearsync"
#: Returns the open transactions as one row: the number of this one, the smallest number of those that have
#: written, the age in seconds of the oldest that has written and of the oldest that has not, how many are
#: prepared without a client, and whether the server is a replica.
TRANSACTIONS = f"CALL {SCHEMA}.transactions()"
#: The alias of a synced table in the SQL that `sync_table` stores.
ROW = "gearsync_row"

#: Marks a payload of our triggers in direct delivery; any other JSON object is a flat one, as the article's
#: triggers send it.
MARK, MARK_VERSION = "$gearsync", 1
#: The events of triggers.
EVENTS = ("insert", "update", "delete")
#: What a row of the outbox can be: a change, a row as it is of which nothing has changed, or a request to
#: read a row.
OPERATIONS = (*EVENTS, "refresh", "reload")

#: The Gearman function of direct delivery where a declaration names no other.
DIRECT_FUNCTION = "syncToRedis"
_DRAIN = "gearsync.drain"
_BARRIER = "gearsync.barrier"


def drain_function(source: str, shard: int) -> str:
    """The Gearman function by which triggers wake the process that drains a shard."""
    return f"{drain_prefix(source)}{shard}"


def drain_prefix(source: str) -> str:
    """The prefix of these functions of a source."""
    return f"{_DRAIN}.{source}."


def barrier_functions(source: str, *, is_alone: bool = True) -> tuple[str, ...]:
    """The Gearman functions by which a client asks whether all that is committed is in Redis: this source's,
    and where it ``is_alone`` on its job servers the one without a name.
    """
    own = f"{_BARRIER}.{source}"
    return (_BARRIER, own) if is_alone else (own,)


def fence_key(source: str, shard: Union[int, str]) -> str:
    """The key of a shard's fence in a Redis that is not a cluster."""
    return f"gearsync:{source}:fence:{shard}"


def slot_fence_key(source: str, shard: Union[int, str], tag: str) -> str:
    """The key of a shard's fence in the slot of a cluster into which ``tag`` falls."""
    return f"gearsync:{{{tag}}}:{source}:fence:{shard}"


def applied_key(source: str, owner: str) -> str:
    """The key under which a process that drains reports what it has applied."""
    return f"gearsync:{source}:applied:{owner}"


def lost_key(source: str) -> str:
    """The key of the marks of tables of which Redis has changes that the database has lost."""
    return f"gearsync:{source}:lost"


def whole_key(source: str, table: str) -> str:
    """The key of the marker that Redis has lost nothing of a table: it is in Redis only as long as that
    is so.
    """
    return f"gearsync:{source}:whole:{table}"


def resync_key(source: str, table: str, parts: Iterable[str] = ()) -> str:
    """The key of a resync's marker; ``parts`` distinguish the conditions of a table."""
    return ":".join([f"gearsync:{source}:resync:{table}", *parts])
