"""What processes that drain let others know in Redis: what is there and still in the outbox, and that Redis has lost data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gearsync.contract import SCHEMA, applied_key
from gearsync.declare.configuration import Config
from gearsync.outbox.barrier import Barrier, wait
from gearsync.outbox.spans import Spans, from_text, text_of
from gearsync.outbox.store import Outbox
from gearsync.servers.mysql import Database
from gearsync.servers.redis_errors import Unavailable, text, words_of
from gearsync.servers.target import Target
from gearsync.shapes.shape import Command

#: Seconds for which a process that died is believed.
_VALID = 10


def saying(source: str, owner: str, applied: Spans) -> Command:
    """The command by which a process says what it has applied. Pure."""
    return ("SET", applied_key(source, owner), text_of(applied), "EX", _VALID)


def owners(database: Database) -> list[str]:
    """The processes that drain. Raises DatabaseUnavailable."""
    return [owner.decode() for (owner,) in database.rows(f"SELECT owner FROM {SCHEMA}.worker WHERE expires_at > NOW(6)")]


def read(target: Target, source: str, owners: Iterable[str]) -> Spans:
    """What these processes have applied and the outbox may still hold; less when one has not said so yet. Raises Unavailable."""
    answers = target.ask([("GET", applied_key(source, owner)) for owner in owners])
    return Spans(span for answer in answers for span in _spans(answer))


def _spans(answer: object) -> Sequence[tuple[int, int]]:
    if isinstance(answer, Exception):
        raise Unavailable(words_of(answer))
    return list(from_text(text(answer))) if answer else []


def barrier(config: Config, database: Database, target: Target, timeout: float, tables: Iterable[str] = ()) -> Barrier:
    """A barrier of a process that drains nothing itself."""
    return Barrier(Outbox(database), lambda: read(target, config.source, owners(database)), timeout, tables)


def missing(config: Config, database: Database, target: Target, tables: Iterable[str], timeout: float) -> dict[str, int]:
    """Wait until what is committed now of these tables alone is in Redis, for ``timeout`` seconds at most; how many changes are not then, by table.

    Raises DatabaseUnavailable and Unavailable. Changes of a table that no worker declares wait for ever, and are nothing to those who ask about another one.
    """
    return wait(barrier(config, database, target, timeout, tables), patient=False).get("missing") or {}
