# SPDX-License-Identifier: GPL-3.0-or-later
"""Deletes applied changes from the outbox, in a thread and over a connection of its own, so that no
change waits for a commit.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from typing import NamedTuple

from gearsync.apply.fences import Place
from gearsync.outbox.store import TRANSACTIONS_UNKNOWN, Outbox, Writers
from gearsync.servers.mysql_errors import DatabaseUnavailable, RowsLocked
from gearsync.servers.outage import Outage

log = logging.getLogger(__name__)

#: Seconds between two deletions: each is a commit, which a synced binary log makes expensive.
_GAP = 0.03
#: Ids of one deletion, at most.
_MOST = 5000
#: Seconds between two attempts.
_PAUSE = 0.5
#: Seconds between two queries for the open transactions: each stalls the server briefly.
_ASK = 0.25
#: The same after the server has refused the query, or a shorter binary log, for lack of a privilege.
_ASK_AGAIN = 60.0
#: Seconds between getting an id and beginning to write, at most, for the worker's own statement that copies
#: rows.
_COPY_DELAY = 1.0
#: Answers that are kept while a transaction stays open, at most.
_MOST_ASKED = 1000


class Deletion(NamedTuple):
    """The changes of an applied batch."""

    ids: dict[int, list[int]]
    """By shard, sorted."""
    dead: dict[int, str]
    """Reasons of those that could not be applied, by id: they become dead letters."""
    numbers: dict[Place, int]
    """The batch's number in each fence that records it."""

    @property
    def sorted_ids(self) -> list[int]:
        """The ids of all shards."""
        return sorted(itertools.chain(*self.ids.values()))

    @property
    def size(self) -> int:
        return sum(map(len, self.ids.values()))


class Deleter:
    """Deletes what it is given. Changes that are given twice, or are deleted already, do no harm."""

    def __init__(self, outbox: Outbox, outage: Outage) -> None:
        self._outbox = outbox
        self._outage = outage
        self._changed = threading.Condition()
        self._queue: list[Deletion] = []
        self._deleted: list[Deletion] = []
        self._closing = False
        #: The greatest id that was read; 0 while it is not needed which ids may still appear.
        self.reached = 0
        self._ask_at = 0.0
        #: Whether it is logged that the server refuses the query.
        self._warned = False
        #: The ids reached when transactions of this thread began to write, with their numbers and times.
        self._asked: list[tuple[int, int, float]] = []
        #: The id up to which all ids are settled: of ended deletions, and of the one in progress.
        self._settled = self._settled_by_this = 0
        self._session = self._last_own = 0
        self._shorten_at = 0.0
        self._gave_up = False
        #: The lock that a session of the drain holds on the server whose changes are deleted, and the one for
        #: which this thread's session is known to be with the same server.
        self._lock = self._bound_to = ""
        #: How often `forget` was called: a deletion that began before has no result.
        self._forgotten = 0
        self._thread = threading.Thread(target=self._run, name="deleter", daemon=True)
        self._thread.start()

    def put(self, deletions: list[Deletion]) -> None:
        """Have these changes deleted, unless it ``gave_up``."""
        with self._changed:
            if not self._gave_up:
                self._queue += deletions
                self._changed.notify()

    def deleted(self) -> list[Deletion]:
        """What was deleted since the last call. Raises RuntimeError when the thread has ended: applied
        changes would never be deleted.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the thread that deletes applied changes has ended")
        with self._changed:
            deleted, self._deleted = self._deleted, []
        return deleted

    @property
    def gave_up(self) -> bool:
        """Whether a deletion was given up, since the server may be another one, on which the same ids are
        other changes.
        """
        return self._gave_up

    def settled(self) -> int:
        """The id up to which no id appears any more, since its transactions have ended; 0 when there is
        no news.
        """
        with self._changed:
            settled, self._settled = self._settled, 0
        return settled

    def forget(self, lock: str) -> None:
        """Do not delete what was given and is not deleted yet. What is given from now on is deleted only from
        the server on which a session holds ``lock``; from any without one.
        """
        with self._changed:
            self._lock = lock
            self._queue, self._deleted, self._settled, self.reached, self._gave_up = [], [], 0, 0, False
            self._forgotten += 1

    def close(self, seconds: float) -> None:
        """Delete what is left, for ``seconds`` at most, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    break
                work, forgotten, self._settled_by_this = self._take(), self._forgotten, 0
                lock = self._lock
            done = self._delete(work, lock)
            with self._changed:
                if forgotten == self._forgotten and done:
                    self._deleted += work
                    self._settled = max(self._settled, self._settled_by_this)
                elif forgotten == self._forgotten:
                    self._queue, self._gave_up = [], True
            time.sleep(_GAP)
        self._outbox.database.close()

    def _take(self) -> list[Deletion]:
        number = size = 0
        while number < len(self._queue) and (not number or size + self._queue[number].size <= _MOST):
            size += self._queue[number].size
            number += 1
        work, self._queue = self._queue[:number], self._queue[number:]
        return work

    def _is_with(self, lock: str) -> bool:
        """Whether this thread's session is with the server on which a session holds ``lock``. Raises
        DatabaseUnavailable.
        """
        database = self._outbox.database
        if lock and (lock != self._bound_to or self._session != database.sessions):
            ((holder,),) = database.rows("SELECT IS_USED_LOCK(%s)", (lock,))
            if holder is None:
                # Of the former server, or one that is not the drain's.
                database.close()
                return False
        self._bound_to = lock
        return True

    def _delete(self, work: list[Deletion], lock: str) -> bool:
        """Delete the changes, with as many attempts as it takes. Returns False when it gives up."""
        ids = sorted(set(itertools.chain(*(each for deletion in work for each in deletion.ids.values()))))
        dead = {number: error for deletion in work for number, error in deletion.dead.items()}
        again = False
        database = self._outbox.database
        database.drop_closed()
        while ids:
            reached, ask = self.reached, bool(self.reached) and time.monotonic() >= self._ask_at
            try:
                connected = database.connection is not None
                if again and connected and self._session != database.sessions:
                    return False
                if not self._is_with(lock) and not self._is_with(lock):
                    time.sleep(_PAUSE)
                    return False
                if self._session != database.sessions or time.monotonic() >= self._shorten_at:
                    # An upgrade migrates the schema after it has restarted the workers.
                    self._shorten_at = (
                        float("inf") if self._outbox.shorten_log() else time.monotonic() + _ASK_AGAIN
                    )
                if self._session != database.sessions:
                    self._session, self._last_own = database.sessions, 0
                    self._asked.clear()
                writers = self._outbox.delete(ids, dead, again, ask)
                self._outage.end()
                if ask:
                    self._ask_at, self._warned = time.monotonic() + _ASK, False
                if writers is not None:
                    self._settle(reached, writers)
                return True
            except DatabaseUnavailable as error:
                if ask and error.code in TRANSACTIONS_UNKNOWN:
                    self._warn(error)
                    self._ask_at = time.monotonic() + _ASK_AGAIN
                    continue
                # The rows may be deleted already. A row that another session has locked is no outage.
                again = True
                if not isinstance(error, RowsLocked):
                    self._outage.begin(str(error))
            time.sleep(_PAUSE)
        return True

    def _warn(self, error: DatabaseUnavailable) -> None:
        if not self._warned:
            log.warning(
                "MySQL does not report its open transactions, so that reading the outbox is slow while a "
                "snapshot stays open;"
                " grant PROCESS to the definer of gearsync.transactions, or migrate the schema with "
                "site.yml: %s",
                error,
                extra={"action": "transactions_unknown"},
            )
        self._warned = True

    def _settle(self, reached: int, writers: Writers) -> None:
        """Learn from the open transactions up to which id no id appears any more.

        Ids are given in order. A transaction that got one up to ``reached`` had written to a synced table
        before, so that its number is smaller than that of this thread's transaction, which began to write
        later. When all transactions with smaller numbers have ended, so have those.
        """
        if writers.own <= self._last_own:
            # The server answers all queries within 100 ms alike: this answer may be older than the
            # transaction.
            return
        self._last_own = writers.own
        now = time.monotonic()
        ended = [
            asked for asked in self._asked if asked[1] <= writers.oldest and asked[2] + _COPY_DELAY <= now
        ]
        if ended:
            self._settled_by_this = max(number for number, _own, _at in ended)
            self._asked = [asked for asked in self._asked if asked not in ended]
        self._asked.append((reached, writers.own, now))
        if len(self._asked) > _MOST_ASKED:
            del self._asked[::2]
