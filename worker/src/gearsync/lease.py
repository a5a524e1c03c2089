"""Which shards are this process's: taken, renewed and given back in MySQL, by MySQL's clock."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import socket
import uuid
from collections.abc import Collection

from gearsync.database import SCHEMA, Database, DatabaseUnavailable
from gearsync.outbox import Outbox
from gearsync.source import text_literal

log = logging.getLogger(__name__)

_EXPIRES = "NOW(6) + INTERVAL %s MICROSECOND"
#: Other processes' rows that nobody took away.
_FORGET_HOURS = 1


def owner_name() -> str:
    """A name that no other process has or will have."""
    return f"{socket.gethostname()[:150]}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


def share(shards: int, processes: int) -> int:
    """How many shards a process may hold. Pure."""
    return -(-shards // max(1, processes))


class Leases:
    """The tables `lease` and `worker`. Every method raises DatabaseUnavailable."""

    def __init__(self, database: Database, outbox: Outbox, seconds: float) -> None:
        self.owner = owner_name()
        self.held: dict[int, int] = {}
        self._database = database
        self._outbox = outbox
        self._microseconds = int(seconds * 1e6)
        #: Shards beyond this process's share.
        self._surplus = 0
        #: Whether everything is left to other processes.
        self.aside = False

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
        shards = self._shards()
        self._renew()
        ((live,),) = self._database.rows(f"SELECT COUNT(*) FROM {SCHEMA}.worker WHERE expires_at > NOW(6)")
        fair = share(len(shards), int(live))
        self._surplus = len(self.held) - fair
        if self._surplus >= 0:
            return
        free = [int(shard) for (shard,) in self._database.rows(f"SELECT shard FROM {SCHEMA}.lease WHERE owner IS NULL OR expires_at < NOW(6)")]
        # Processes that look at the same moment should not all try the same one.
        random.shuffle(free)
        for shard in free[: -self._surplus]:
            self._take(shard)
        self._surplus = len(self.held) - fair

    def renewal(self, shard: int) -> str:
        """The statement that renews one lease, and so makes sure that it is held until the commit; it finds no row when the lease is lost. Pure."""
        return (
            f"UPDATE {SCHEMA}.lease SET expires_at = NOW(6) + INTERVAL {self._microseconds} MICROSECOND"
            f" WHERE shard = {shard} AND owner = {text_literal(self.owner.encode()).decode()} AND epoch = {self.held[shard]}")

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
        try:
            self._database.run(
                f"INSERT INTO {SCHEMA}.worker_report (owner, report) VALUES (%s, %s)"
                " ON DUPLICATE KEY UPDATE report = VALUES(report), reported_at = CURRENT_TIMESTAMP(6)", (self.owner, words))
            self._database.run(f"DELETE FROM {SCHEMA}.worker_report WHERE reported_at < NOW(6) - INTERVAL {_FORGET_HOURS} HOUR")
        except DatabaseUnavailable as error:
            # A schema of an earlier release, whose owner has not migrated it yet: nothing else depends on it.
            if not error.statement:
                raise

    def balance(self, shard: int) -> None:
        """Give ``shard`` back when this process holds more than its share."""
        if self._surplus > 0 and shard in self.held:
            self._surplus -= 1
            self._release([shard])
            log.info("gave shard %d to another process", shard, extra={"action": "lease_released", "shard": shard})

    def close(self) -> None:
        """Give everything back, so that nobody has to wait for the leases to run out."""
        self._release(list(self.held))
        self._database.run(f"DELETE FROM {SCHEMA}.worker WHERE owner = %s", (self.owner,))
        with contextlib.suppress(DatabaseUnavailable):
            self._database.run(f"DELETE FROM {SCHEMA}.worker_report WHERE owner = %s", (self.owner,))

    def _stand_aside(self) -> bool:
        """Leave the list of those that share the shards, unless nobody else would be left on it."""
        with self._database.transaction():
            # Locked, so that of two that want to leave the second one sees that it is the last.
            living = {owner.decode() for (owner,) in self._database.rows(f"SELECT owner FROM {SCHEMA}.worker WHERE expires_at > NOW(6) FOR UPDATE")}
            if not living - {self.owner}:
                return False
            self._database.run(f"DELETE FROM {SCHEMA}.worker WHERE owner = %s", (self.owner,))
        self._release(list(self.held))
        return True

    def _heartbeat(self) -> None:
        self._database.run(
            f"INSERT INTO {SCHEMA}.worker (owner, expires_at) VALUES (%s, {_EXPIRES}) ON DUPLICATE KEY UPDATE expires_at = VALUES(expires_at)",
            (self.owner, self._microseconds),
        )
        self._database.run(f"DELETE FROM {SCHEMA}.worker WHERE expires_at < NOW(6) - INTERVAL {_FORGET_HOURS} HOUR")

    def _shards(self) -> set[int]:
        known = {int(shard) for (shard,) in self._database.rows(f"SELECT shard FROM {SCHEMA}.lease")}
        for shard in sorted(set(self._outbox.shards()) - known):
            self._database.run(f"INSERT IGNORE INTO {SCHEMA}.lease (shard, owner, epoch) VALUES (%s, NULL, 0)", (shard,))
            known.add(shard)
        return known

    def _renew(self) -> None:
        if not self.held:
            return
        # A lease that ran out but that nobody took is still ours: the epoch says so.
        held = " OR ".join(f"(shard = {shard} AND epoch = {epoch})" for shard, epoch in self.held.items())
        renewed = self._database.run(f"UPDATE {SCHEMA}.lease SET expires_at = {_EXPIRES} WHERE owner = %s AND ({held})", (self._microseconds, self.owner))
        if renewed < len(self.held):
            rows = self._database.rows(f"SELECT shard, epoch FROM {SCHEMA}.lease WHERE owner = %s", (self.owner,))
            ours = {(int(shard), int(epoch)) for shard, epoch in rows}
            for shard in [shard for shard in self.held if (shard, self.held[shard]) not in ours]:
                self.lost(shard)

    def _take(self, shard: int) -> None:
        with self._database.transaction():
            taken = self._database.run(
                f"UPDATE {SCHEMA}.lease SET owner = %s, epoch = epoch + 1, expires_at = {_EXPIRES} WHERE shard = %s AND (owner IS NULL OR expires_at < NOW(6))",
                (self.owner, self._microseconds, shard),
            )
            rows = self._database.rows(f"SELECT epoch FROM {SCHEMA}.lease WHERE shard = %s AND owner = %s", (shard, self.owner)) if taken else []
        if rows:
            self.held[shard] = int(rows[0][0])
            log.info("drains shard %d with epoch %d", shard, self.held[shard], extra={"action": "lease_taken", "shard": shard})

    def _release(self, shards: Collection[int]) -> None:
        for shard in shards:
            epoch = self.held.pop(shard)
            self._database.run(
                f"UPDATE {SCHEMA}.lease SET owner = NULL, expires_at = NULL WHERE shard = %s AND owner = %s AND epoch = %s", (shard, self.owner, epoch))
