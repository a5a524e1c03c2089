# SPDX-License-Identifier: GPL-3.0-or-later
"""What draining processes publish in Redis: the changes that are applied and still in the outbox."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gearsync.contract import SCHEMA, applied_key
from gearsync.declare.configuration import Config
from gearsync.outbox.barrier import Barrier, wait
from gearsync.outbox.spans import Spans, from_text, text_of
from gearsync.outbox.store import Outbox
from gearsync.servers.mysql import Database
from gearsync.servers.redis_errors import Unavailable, message_of, text
from gearsync.servers.target import Target
from gearsync.shapes.shape import Command

#: Seconds for which the last publication of a process that died is valid.
_VALID = 10


def publish_command(source: str, owner: str, applied: Spans) -> Command:
    """The command by which a process publishes what it has applied. Pure."""
    return ("SET", applied_key(source, owner), text_of(applied), "EX", _VALID)


def owners(database: Database) -> list[str]:
    """The processes that drain. Raises DatabaseUnavailable."""
    return [
        owner.decode()
        for (owner,) in database.rows(f"SELECT owner FROM {SCHEMA}.worker WHERE expires_at > NOW(6)")
    ]


def read(target: Target, source: str, owners: Iterable[str]) -> Spans:
    """What these processes have applied and the outbox may still hold; less when one has not published it
    yet. Raises Unavailable.
    """
    answers = target.ask([("GET", applied_key(source, owner)) for owner in owners])
    return Spans(span for answer in answers for span in _spans(answer))


def _spans(answer: object) -> Sequence[tuple[int, int]]:
    if isinstance(answer, Exception):
        raise Unavailable(message_of(answer))
    return list(from_text(text(answer))) if answer else []


def barrier(
    config: Config, database: Database, target: Target, timeout: float, tables: Iterable[str] = ()
) -> Barrier:
    """A barrier for a process that does not drain."""
    return Barrier(Outbox(database), lambda: read(target, config.source, owners(database)), timeout, tables)


def missing(
    config: Config, database: Database, target: Target, tables: Iterable[str], timeout: float
) -> dict[str, int]:
    """Wait until what is committed now of ``tables`` is in Redis, for ``timeout`` seconds at most. Returns
    how many changes are missing then, by table.

    Only these tables count: changes of a table that no worker declares wait indefinitely. Raises
    DatabaseUnavailable and Unavailable.
    """
    return wait(barrier(config, database, target, timeout, tables), patient=False).get("missing") or {}
