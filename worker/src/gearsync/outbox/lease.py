# SPDX-License-Identifier: GPL-3.0-or-later
"""The shards that this process drains: leases in MySQL that it takes, renews and releases, by MySQL's
clock.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Optional

from gearsync.contract import SCHEMA
from gearsync.outbox.owner import is_dead, owner_name
from gearsync.outbox.sql import text_literal
from gearsync.outbox.synced_table import records
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid

log = logging.getLogger(__name__)

_EXPIRES = "NOW(6) + INTERVAL %s MICROSECOND"
#: Seconds between two searches for leases that are not needed any more.
_RETIRE = 60.0
#: Longer than replacing a table's triggers takes.
_SETTLED_MINUTES = 10
#: Hours after which rows of ended processes are removed.
_FORGET_HOURS = 1


def generation_of(shard: int) -> int:
    """The generation of a shard, which is its number of shards N: it has the shard N(N-1)/2 and the N-1
    that follow. Pure.
    """
    return (math.isqrt(8 * shard + 1) + 1) // 2


def share(shards: int, processes: int) -> int:
    """The number of shards that a process may hold. Pure."""
    return -(-shards // max(1, processes))


class Leases:
    """The tables `lease` and `worker`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, seconds: float) -> None:
        self.owner = owner_name()
        self.held: dict[int, int] = {}
        self._database = database
        self._microseconds = int(seconds * 1e6)
        #: All shards that have a lease.
        self.shards: frozenset[int] = frozenset()
        #: Whether shards of several generations may hold changes of one row, so that only a process that
        #: holds all may apply them.
        self.is_mixed = False
        self._retire_at = 0.0
        #: Whether this process leaves all shards to others.
        self.has_yielded = False
        #: Until when this process was last reported as alive, by the database's clock, and when that was, by
        #: the monotonic clock.
        self._alive_until = b""
        self.renewed_at = 0.0

    @property
    def has_all(self) -> bool:
        """Whether this process holds all shards, so that no other process applies changes."""
        return len(self.held) == len(self.shards)

    def refresh(self, reason: str = "") -> None:
        """Report this process as alive, renew its leases, drop those that it has lost, and take free ones up
        to its share.

        With a ``reason`` it yields: it releases all leases and takes none, as long as other processes are
        alive that do not yield.
        """
        if reason and self._yield():
            if not self.has_yielded:
                log.warning(
                    "this process leaves all shards to others: %s", reason, extra={"action": "stands_aside"}
                )
            self.has_yielded = True
            return
        if self.has_yielded:
            log.info("this process takes its share of the shards again", extra={"action": "takes_part"})
        self.has_yielded = False
        self._renew()
        live = self._read()
        shards = sorted(self.shards)
        self.is_mixed = len({generation_of(shard) for shard in shards}) > 1
        fair = (
            share(len(shards), len(live))
            if not self.is_mixed
            else len(shards)
            if live[:1] == [self.owner]
            else 0
        )
        if len(self.held) < fair:
            self._take(fair - len(self.held))
        elif len(self.held) > fair:
            self._release(random.sample(sorted(self.held), len(self.held) - fair))
        if self.is_mixed and self.has_all and time.monotonic() >= self._retire_at:
            self._retire_at = time.monotonic() + _RETIRE
            self._retire(shards)

    def _read(self) -> list[str]:
        """Read all shards and processes, and remove those that are dead; the live ones in order."""
        # One round trip: this is what an idle process does each second.
        leases, processes = self._database.rows_of_each(
            f"SELECT shard, owner FROM {SCHEMA}.lease",
            "SELECT owner, expires_at > NOW(6) AS live, "
            f"expires_at < NOW(6) - INTERVAL {_FORGET_HOURS} HOUR AS old, expires_at "
            f"FROM {SCHEMA}.worker ORDER BY owner",
        )
        self.shards = frozenset(int(shard) for shard, _owner in leases)
        removed = self._remove_dead_owners(
            {owner.decode(): bool(int(old)) for owner, _live, old, _until in processes},
            {owner.decode() for _shard, owner in leases if owner},
        )
        self._free({int(shard) for shard, owner in leases if owner and owner.decode() == self.owner})
        live = {owner.decode(): until for owner, is_live, _old, until in processes if int(is_live)}
        self._alive_until = live.get(self.owner, b"")
        self.renewed_at = time.monotonic()
        return [owner for owner in live if owner not in removed]

    def _free(self, ours: Collection[int]) -> None:
        """Free the leases that this process had given up, and has again by the state of the database: after a
        failover to a replica that lagged.
        """
        for shard in sorted(set(ours) - self.held.keys()):
            self._database.run(
                f"UPDATE {SCHEMA}.lease SET owner = NULL, expires_at = NULL WHERE shard = %s AND owner = %s",
                (shard, self.owner),
            )

    def _retire(self, shards: Collection[int]) -> None:
        """Remove the leases of shard generations that no trigger writes to any more, once none of their
        changes waits.
        """
        synced = records(
            self._database,
            f"(SELECT MAX(changed_at) FROM {SCHEMA}.synced_table) < NOW(6) - INTERVAL {_SETTLED_MINUTES} "
            "MINUTE",
        )
        # Unknown before the schema is migrated.
        used = (
            {generation for record in synced for generation in record.generations}
            if all(record.generations for record in synced)
            else set()
        )
        for generation in {generation_of(shard) for shard in shards} - used if used else ():
            its = [shard for shard in shards if generation_of(shard) == generation]
            removed = self._database.run(
                f"DELETE FROM {SCHEMA}.lease WHERE shard IN %s AND owner = %s AND NOT EXISTS (SELECT 1 FROM "
                f"{SCHEMA}.outbox WHERE shard IN %s)",
                (its, self.owner, its),
            )
            for shard in its if removed else ():
                self.held.pop(shard, None)

    def _remove_dead_owners(self, owners: Mapping[str, bool], holders: Collection[str]) -> set[str]:
        """Free the leases of dead processes of this host before they expire, and remove rows of processes
        that ended long ago. Returns the removed ones.

        ``owners``: all processes, and whether they ended long ago; ``holders`` are those that hold leases.
        """
        dead = {owner for owner in {*owners, *holders} if owner != self.owner and is_dead(owner)}
        # Each by its key: a condition on the time would wait for locks on the rows of live processes.
        gone = dead.union(owner for owner, old in owners.items() if old)
        for owner in sorted(gone):
            self._unregister(owner)
        for owner in sorted(dead & set(holders)):
            self._database.run(
                f"UPDATE {SCHEMA}.lease FORCE INDEX (PRIMARY) SET owner = NULL, expires_at = NULL WHERE "
                "shard IN %s AND owner = %s",
                (sorted(self.shards), owner),
            )
        return gone

    def _unregister(self, owner: str) -> None:
        """Remove a process from those that share the shards."""
        self._database.run(f"DELETE FROM {SCHEMA}.worker WHERE owner = %s", (owner,))
        # A schema of an earlier release lacks this table.
        with contextlib.suppress(DatabaseUnavailable):
            self._database.run(f"DELETE FROM {SCHEMA}.worker_report WHERE owner = %s", (owner,))

    def seconds_behind(self) -> Optional[float]:
        """By how much the server is older than the last report of this process as alive: infinite without any
        report of it, and None when it has the last one.
        """
        rows = self._database.rows(
            f"SELECT TIMESTAMPDIFF(MICROSECOND, expires_at, %s) FROM {SCHEMA}.worker WHERE owner = %s",
            (self._alive_until or None, self.owner),
        )
        if not rows:
            return math.inf
        microseconds = int(rows[0][0] or 0)
        return microseconds / 1e6 if microseconds > 0 else None

    def add(self, shards: Iterable[int]) -> None:
        """Create leases for shards that have none; the next ``refresh`` may take them."""
        for shard in sorted(shards):
            self._database.run(
                f"INSERT IGNORE INTO {SCHEMA}.lease (shard, owner, epoch) VALUES (%s, NULL, 0)", (shard,)
            )

    def lost(self, shard: int) -> None:
        """Drop a lease that another process holds by now."""
        if self.held.pop(shard, None) is not None:
            log.warning("lost the lease of shard %d", shard, extra={"action": "lease_lost", "shard": shard})

    def raise_above(self, shard: int, epoch: int) -> bool:
        """Make the lease's epoch greater than ``epoch``. Returns False when the lease is lost."""
        raised = max(epoch, self.held[shard]) + 1
        updated = self._database.run(
            f"UPDATE {SCHEMA}.lease SET epoch = %s, expires_at = {_EXPIRES} WHERE shard = %s AND owner = %s "
            "AND epoch = %s",
            (raised, self._microseconds, shard, self.owner, self.held[shard]),
        )
        if updated:
            self.held[shard] = raised
        return bool(updated)

    def report(self, content: bytes) -> None:
        """Store a report of this process for `gearsync status`."""
        # A schema that is not migrated yet lacks the table. Nothing else depends on it.
        with contextlib.suppress(StatementInvalid):
            self._database.run(
                f"INSERT INTO {SCHEMA}.worker_report (owner, report) VALUES (%s, %s)"
                " ON DUPLICATE KEY UPDATE report = VALUES(report), reported_at = CURRENT_TIMESTAMP(6)",
                (self.owner, content),
            )

    def close(self) -> None:
        """Release all leases, so that other processes need not wait until they expire."""
        self._release(list(self.held))
        self._unregister(self.owner)

    def _yield(self) -> bool:
        """Release all leases and leave the processes that share the shards. Returns False when there is
        no other process.
        """
        # Two processes that leave at the same time miss each other at their next refresh, and come back.
        if not self._database.rows(
            f"SELECT 1 FROM {SCHEMA}.worker WHERE owner <> %s AND expires_at > NOW(6) LIMIT 1", (self.owner,)
        ):
            return False
        self._database.run(f"DELETE FROM {SCHEMA}.worker WHERE owner = %s", (self.owner,))
        self._release(list(self.held))
        return True

    def _renew(self) -> None:
        """Report this process as alive, renew its leases and drop those that it has lost."""
        owner = text_literal(self.owner.encode()).decode()
        expires = f"NOW(6) + INTERVAL {self._microseconds} MICROSECOND"
        alive = (
            f"INSERT INTO {SCHEMA}.worker (owner, expires_at) VALUES ({owner}, {expires}) ON DUPLICATE KEY "
            "UPDATE expires_at = VALUES(expires_at)"
        )
        # A lease that has expired and was not taken is still this process's: its epoch is unchanged.
        held = " OR ".join(f"(shard = {shard} AND epoch = {epoch})" for shard, epoch in self.held.items())
        renewal = (
            f"UPDATE {SCHEMA}.lease FORCE INDEX (PRIMARY) SET expires_at = {expires} WHERE owner = {owner} "
            f"AND ({held})"
        )
        # A synced commit takes longer than all the rest of a refresh, and changes wait meanwhile.
        renewed = sum(self._database.commit_each(alive, *([renewal] if self.held else []))[1:])
        if renewed < len(self.held):
            rows = self._database.rows(
                f"SELECT shard, epoch FROM {SCHEMA}.lease WHERE owner = %s", (self.owner,)
            )
            ours = {(int(shard), int(epoch)) for shard, epoch in rows}
            for shard in [shard for shard in self.held if (shard, self.held[shard]) not in ours]:
                self.lost(shard)

    def _take(self, number: int) -> None:
        """Take so many leases that are free or have expired. One that lasts longer than two leases was
        made before the clock was set back.
        """
        free = (
            "(owner IS NULL OR expires_at < NOW(6) OR expires_at > NOW(6) + INTERVAL "
            f"{2 * self._microseconds} MICROSECOND)"
        )
        shards = [
            int(shard) for (shard,) in self._database.rows(f"SELECT shard FROM {SCHEMA}.lease WHERE {free}")
        ]
        # At random: processes that look at the same time should try different ones.
        chosen = random.sample(shards, min(number, len(shards)))
        if not chosen:
            return
        # A statement of its own: no lock is held while the server waits for a client, which may be paused.
        self._database.run(
            f"UPDATE {SCHEMA}.lease FORCE INDEX (PRIMARY) SET owner = %s, epoch = epoch + 1, expires_at = "
            f"{_EXPIRES} WHERE shard IN %s AND {free}",
            (self.owner, self._microseconds, chosen),
        )
        for shard, epoch in self._database.rows(
            f"SELECT shard, epoch FROM {SCHEMA}.lease WHERE owner = %s", (self.owner,)
        ):
            if int(shard) not in self.held:
                self.held[int(shard)] = int(epoch)
                log.info(
                    "took the lease of shard %d, epoch %d",
                    int(shard),
                    int(epoch),
                    extra={"action": "lease_taken", "shard": int(shard)},
                )

    def _release(self, shards: Collection[int]) -> None:
        for shard in shards:
            epoch = self.held.pop(shard)
            self._database.run(
                f"UPDATE {SCHEMA}.lease SET owner = NULL, expires_at = NULL WHERE shard = %s AND owner = %s "
                "AND epoch = %s",
                (shard, self.owner, epoch),
            )
