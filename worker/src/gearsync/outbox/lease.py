"""Which shards are this process's: taken, renewed and given back in MySQL, by MySQL's clock."""

from __future__ import annotations

import contextlib
import logging
import math
import random
import time
from collections.abc import Collection, Iterable

from gearsync.contract import SCHEMA
from gearsync.outbox.owner import is_dead, owner_name
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid

log = logging.getLogger(__name__)

_EXPIRES = "NOW(6) + INTERVAL %s MICROSECOND"
#: Seconds between two looks for leases that are not needed any more.
_RETIRE = 60.0
#: Longer than a table's triggers take to be replaced.
_SETTLED_MINUTES = 10
#: Hours after which rows of processes that are gone are removed.
_FORGET_HOURS = 1


def count_of(shard: int) -> int:
    """The count of shards that ``shard`` is one of: those of N are N(N-1)/2 and the N-1 that follow. Pure."""
    return (math.isqrt(8 * shard + 1) + 1) // 2


def share(shards: int, processes: int) -> int:
    """How many shards a process may hold. Pure."""
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
        #: Whether changes of one row may be in shards of several counts, so that only a process that has all may apply them.
        self.is_mixed = False
        self._retire_at = 0.0
        #: Whether everything is left to other processes.
        self.aside = False

    @property
    def has_all(self) -> bool:
        """Whether no other process holds a shard, so that no change is another's."""
        return len(self.held) == len(self.shards)

    def refresh(self, reason: str = "") -> None:
        """Say that this process lives, renew what it holds, notice what it has lost, take what is free up to its share.

        With a ``reason`` it stands aside: it gives back what it holds and takes nothing, as long as others live that have none.
        """
        if reason and self._stand_aside():
            if not self.aside:
                log.warning("leaves all shards to other processes: %s", reason, extra={"action": "stands_aside"})
            self.aside = True
            return
        if self.aside:
            log.info("takes its share of the shards again", extra={"action": "takes_part"})
        self.aside = False
        self._heartbeat()
        leases = self._database.rows(f"SELECT shard, owner FROM {SCHEMA}.lease")
        shards = [int(shard) for shard, _owner in leases]
        self.shards = frozenset(shards)
        self._bury({owner.decode() for _shard, owner in leases if owner})
        self._renew()
        ((live, first),) = self._database.rows(f"SELECT COUNT(*), MIN(owner) FROM {SCHEMA}.worker WHERE expires_at > NOW(6)")
        self.is_mixed = len({count_of(shard) for shard in shards}) > 1
        fair = share(len(shards), int(live)) if not self.is_mixed else len(shards) if first.decode() == self.owner else 0
        if len(self.held) < fair:
            self._take(fair - len(self.held))
        elif len(self.held) > fair:
            self._release(random.sample(sorted(self.held), len(self.held) - fair))
        if self.is_mixed and self.has_all and time.monotonic() >= self._retire_at:
            self._retire_at = time.monotonic() + _RETIRE
            self._retire(shards)

    def _retire(self, shards: Collection[int]) -> None:
        """Remove the leases of counts that no trigger writes to any more, when nothing waits there."""
        rows = self._database.rows(
            f"SELECT shard_sql FROM {SCHEMA}.synced_table WHERE (SELECT MAX(changed_at) FROM {SCHEMA}.synced_table) < NOW(6)"
            f" - INTERVAL {_SETTLED_MINUTES} MINUTE")
        used = {count_of(int(number)) for (sql,) in rows if (number := sql.partition(b" ")[0]).isdigit()}
        for count in {count_of(shard) for shard in shards} - used if used else ():
            its = [shard for shard in shards if count_of(shard) == count]
            removed = self._database.run(
                f"DELETE FROM {SCHEMA}.lease WHERE shard IN %s AND owner = %s AND NOT EXISTS (SELECT 1 FROM {SCHEMA}.outbox WHERE shard IN %s)",
                (its, self.owner, its))
            for shard in its if removed else ():
                self.held.pop(shard, None)

    def _bury(self, holders: Collection[str]) -> None:
        """Free what dead processes of this host hold, which need not be waited for, and forget who is gone for long."""
        owners = {owner.decode(): int(old) for owner, old in self._database.rows(
            f"SELECT owner, expires_at < NOW(6) - INTERVAL {_FORGET_HOURS} HOUR FROM {SCHEMA}.worker")}
        dead = {owner for owner in {*owners, *holders} if is_dead(owner)}
        # Each by its key: a condition on the time would wait for the rows of those that are alive.
        for owner in sorted(dead.union(owner for owner, old in owners.items() if old)):
            self._leave(owner)
        for owner in sorted(dead & set(holders)):
            self._database.run(
                f"UPDATE {SCHEMA}.lease FORCE INDEX (PRIMARY) SET owner = NULL, expires_at = NULL WHERE shard IN %s AND owner = %s",
                (sorted(self.shards), owner))

    def _leave(self, owner: str) -> None:
        """Take a process off the list of those that share the shards."""
        self._database.run(f"DELETE FROM {SCHEMA}.worker WHERE owner = %s", (owner,))
        # A schema of an earlier release has no such table.
        with contextlib.suppress(DatabaseUnavailable):
            self._database.run(f"DELETE FROM {SCHEMA}.worker_report WHERE owner = %s", (owner,))

    def add(self, shards: Iterable[int]) -> None:
        """Make leases of shards that have none; they are taken at the next ``refresh``."""
        for shard in sorted(shards):
            self._database.run(f"INSERT IGNORE INTO {SCHEMA}.lease (shard, owner, epoch) VALUES (%s, NULL, 0)", (shard,))

    def lost(self, shard: int) -> None:
        """Forget a lease that is another's by now."""
        if self.held.pop(shard, None) is not None:
            log.warning("the lease of shard %d is lost", shard, extra={"action": "lease_lost", "shard": shard})

    def raise_above(self, shard: int, epoch: int) -> bool:
        """Make the lease's epoch greater than ``epoch``; False when the lease is lost."""
        raised = max(epoch, self.held[shard]) + 1
        found = self._database.run(
            f"UPDATE {SCHEMA}.lease SET epoch = %s, expires_at = {_EXPIRES} WHERE shard = %s AND owner = %s AND epoch = %s",
            (raised, self._microseconds, shard, self.owner, self.held[shard]),
        )
        if found:
            self.held[shard] = raised
        return bool(found)

    def report(self, words: bytes) -> None:
        """Tell the other commands what this process has done."""
        # A schema of an earlier release, whose owner has not migrated it yet, does not have the table: nothing else depends on it.
        with contextlib.suppress(StatementInvalid):
            self._database.run(
                f"INSERT INTO {SCHEMA}.worker_report (owner, report) VALUES (%s, %s)"
                " ON DUPLICATE KEY UPDATE report = VALUES(report), reported_at = CURRENT_TIMESTAMP(6)", (self.owner, words))

    def close(self) -> None:
        """Give everything back, so that nobody has to wait for the leases to run out."""
        self._release(list(self.held))
        self._leave(self.owner)

    def _stand_aside(self) -> bool:
        """Leave the list of those that share the shards, unless nobody else would be left on it."""
        # Two that leave at the same moment find each other gone at their next refresh, and come back.
        if not self._database.rows(f"SELECT 1 FROM {SCHEMA}.worker WHERE owner <> %s AND expires_at > NOW(6) LIMIT 1", (self.owner,)):
            return False
        self._database.run(f"DELETE FROM {SCHEMA}.worker WHERE owner = %s", (self.owner,))
        self._release(list(self.held))
        return True

    def _heartbeat(self) -> None:
        self._database.run(
            f"INSERT INTO {SCHEMA}.worker (owner, expires_at) VALUES (%s, {_EXPIRES}) ON DUPLICATE KEY UPDATE expires_at = VALUES(expires_at)",
            (self.owner, self._microseconds),
        )

    def _renew(self) -> None:
        if not self.held:
            return
        # A lease that ran out but that nobody took is still ours: the epoch says so.
        held = " OR ".join(f"(shard = {shard} AND epoch = {epoch})" for shard, epoch in self.held.items())
        renewed = self._database.run(
            f"UPDATE {SCHEMA}.lease FORCE INDEX (PRIMARY) SET expires_at = {_EXPIRES} WHERE owner = %s AND ({held})", (self._microseconds, self.owner))
        if renewed < len(self.held):
            rows = self._database.rows(f"SELECT shard, epoch FROM {SCHEMA}.lease WHERE owner = %s", (self.owner,))
            ours = {(int(shard), int(epoch)) for shard, epoch in rows}
            for shard in [shard for shard in self.held if (shard, self.held[shard]) not in ours]:
                self.lost(shard)

    def _take(self, number: int) -> None:
        """Take so many leases that are free, or have run out; one that lasts longer than two leases is of a clock that was set back."""
        free = f"(owner IS NULL OR expires_at < NOW(6) OR expires_at > NOW(6) + INTERVAL {2 * self._microseconds} MICROSECOND)"
        shards = [int(shard) for (shard,) in self._database.rows(f"SELECT shard FROM {SCHEMA}.lease WHERE {free}")]
        # Processes that look at the same moment should not all try the same ones.
        chosen = random.sample(shards, min(number, len(shards)))
        if not chosen:
            return
        # One statement by itself: no lock is held while a client is asked, or frozen.
        self._database.run(
            f"UPDATE {SCHEMA}.lease FORCE INDEX (PRIMARY) SET owner = %s, epoch = epoch + 1, expires_at = {_EXPIRES} WHERE shard IN %s AND {free}",
            (self.owner, self._microseconds, chosen))
        for shard, epoch in self._database.rows(f"SELECT shard, epoch FROM {SCHEMA}.lease WHERE owner = %s", (self.owner,)):
            if int(shard) not in self.held:
                self.held[int(shard)] = int(epoch)
                log.info("drains shard %d with epoch %d", int(shard), int(epoch), extra={"action": "lease_taken", "shard": int(shard)})

    def _release(self, shards: Collection[int]) -> None:
        for shard in shards:
            epoch = self.held.pop(shard)
            self._database.run(
                f"UPDATE {SCHEMA}.lease SET owner = NULL, expires_at = NULL WHERE shard = %s AND owner = %s AND epoch = %s", (shard, self.owner, epoch))
