# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about every server at one moment. Pure."""

from __future__ import annotations

from typing import Any, Optional

import msgspec

from gearsync.outbox.declarations import Declared
from gearsync.outbox.lost_tables import LostTable
from gearsync.servers.gearman_admin import Queue
from gearsync.telemetry.metrics import Report


class Server(msgspec.Struct, rename={"detail": "words"}):
    """Whether a server can be used; ``detail`` is its error."""

    name: str
    ok: bool
    detail: str = ""


class DatabaseServer(Server):
    """The database server, and where a source has several members each one's state, by its address."""

    members: dict[str, str] = msgspec.field(default_factory=dict)
    is_split: bool = False
    """Whether several members are writable, so that none is drained."""


class JobServer(Server):
    """A job server and its queues for this pipeline's functions."""

    queues: dict[str, Queue] = msgspec.field(default_factory=dict)


class Waiting(msgspec.Struct):
    """Changes of one table that wait in the outbox: how many, and the age of the oldest in seconds."""

    rows: int
    oldest: float


class Lease(msgspec.Struct):
    """The process that drains a shard. ``seconds_left`` is negative when the lease has expired."""

    shard: int
    owner: Optional[str]
    epoch: int
    seconds_left: Optional[float]

    @property
    def held(self) -> bool:
        return self.owner is not None and (self.seconds_left or 0.0) > 0.0


class Synced(msgspec.Struct):
    """A durable table as it was deployed: its name in the server, the checksums of its triggers by their
    names, and what they were made from.
    """

    schema: str
    name: str
    triggers: dict[str, str]
    #: None for triggers of a release that did not store it.
    declared: Optional[Declared] = None
    #: The types of the declared columns.
    column_types: dict[str, str] = msgspec.field(default_factory=dict)


class Verification(msgspec.Struct):
    """The result of a table's last verification; ``finished`` is in seconds since 1970."""

    finished: float
    sample: float
    rows: int
    different: dict[str, int]
    unsettled: int
    repaired: int
    error: str = ""
    """Why a later verification failed; empty when there was none."""


class Load(msgspec.Struct):
    """A table's last resync: rows so far, and when it finished, in seconds since 1970."""

    rows: int
    finished: Optional[float]
    whole: bool
    """Whether it was of all rows."""


class Transactions(msgspec.Struct):
    """The transactions that are open in the database server."""

    writing: float
    """Age in seconds of the oldest one that has written; 0 when there is none."""
    reading: float
    """Age in seconds of the oldest one that has not written; 0 when there is none."""
    prepared: int
    """Prepared XA transactions without a client."""


class DatabaseState(msgspec.Struct):
    """What the schema `gearsync` contains."""

    waiting: dict[str, Waiting]
    truncated: bool
    """Whether more changes wait than were counted: then the numbers of rows are too small, and the oldest
    age is right.
    """
    leases: list[Lease]
    workers: int
    dead_letters: dict[str, int]
    synced: dict[str, Synced]
    verifications: dict[str, Verification]
    loads: dict[str, Load]
    reports: dict[str, Report]
    triggers: dict[str, Optional[str]]
    """For each durable table the problem with its triggers; None when there is none. A table is absent
    when its triggers cannot be read.
    """
    functions: Optional[dict[str, Any]]
    """gman_stats(), or None when the database server has no such function."""
    transactions: Optional[Transactions] = None
    """None when the account that made the schema may not see transactions, or the schema is of an earlier
    release.
    """
    drained: str = ""
    """The member that is drained, when it is another one than this state is of."""


class PipelineState(msgspec.Struct):
    """The whole pipeline. ``time`` is in seconds since 1970; ``database`` is None when MySQL does not
    answer, or has no schema yet.
    """

    time: float
    source: str
    mysql: Optional[DatabaseServer]
    redis: Server
    job_servers: list[JobServer]
    database: Optional[DatabaseState]
    lost: dict[str, LostTable] = msgspec.field(default_factory=dict)
    """The tables of which Redis has changes that the database has lost."""


def last_verification(of_kinds: dict[str, Verification]) -> Verification:
    """The result to show, of the last ones of the whole table, of a sample, and of those that failed.

    A sample without differences does not replace the differences of the whole table.
    """
    full, sample, failed = of_kinds.get("full"), of_kinds.get("sample"), of_kinds.get("failed")
    later = full and sample and sample.finished > full.finished and sum(sample.different.values()) > 0
    shown = (sample if later else full) or sample
    if failed is None or (shown is not None and shown.finished > failed.finished):
        return shown or Verification(0.0, 0.0, 0, {}, 0, 0)
    if shown is None:
        return msgspec.structs.replace(failed, finished=0.0, rows=0, different={}, unsettled=0)
    return msgspec.structs.replace(shown, error=failed.error)
