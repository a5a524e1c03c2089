"""Deletes behind the drain what was applied: in a thread and over a connection of its own, so that no change waits for a commit."""

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
_PACE = 0.03
#: Ids of one deletion.
_MOST = 5000
#: Seconds between two attempts.
_PAUSE = 0.5
#: Seconds between two questions for transactions that write: the server stops for each of them for a moment.
_ASK = 0.25
#: The same after the server refused to answer, or to write a shorter binary log, until somebody gives the right.
_ASK_AGAIN = 60.0
#: An id may be given to a statement of ours that copies rows a moment before it has begun to write.
_SETTLED = 1.0
#: Answers that are kept while one of these transactions stays open.
_MOST_ASKED = 1000


class Deletion(NamedTuple):
    """The changes of a batch, which need no more than to be deleted."""

    ids: dict[int, list[int]]
    """By shard, sorted."""
    dead: dict[int, str]
    """Why some of them could not be applied: they are kept as dead letters."""
    numbers: dict[Place, int]
    """The batch's number in each fence that knows it."""

    @property
    def sorted_ids(self) -> list[int]:
        """The ids of all shards."""
        return sorted(itertools.chain(*self.ids.values()))

    @property
    def size(self) -> int:
        return sum(map(len, self.ids.values()))


class Deleter:
    """Deletes what it is given. What it was given twice, or was deleted before, does no harm."""

    def __init__(self, outbox: Outbox, outage: Outage) -> None:
        self._outbox = outbox
        self._outage = outage
        self._changed = threading.Condition()
        self._queue: list[Deletion] = []
        self._deleted: list[Deletion] = []
        self._closing = False
        #: The greatest id that was met; 0 while it is of no use to know which ids may still come.
        self.reached = 0
        self._ask_at = 0.0
        #: Whether it was logged that the server refuses to answer.
        self._warned = False
        #: What was reached before a transaction of ours began to write, that transaction's number, and when it was asked.
        self._asked: list[tuple[int, int, float]] = []
        self._decided = self._ended = 0
        self._session = self._last_own = 0
        self._shorten_at = 0.0
        self._lost = False
        #: How often all was forgotten: what was begun before says nothing.
        self._forgotten = 0
        self._thread = threading.Thread(target=self._run, name="deleter", daemon=True)
        self._thread.start()

    def put(self, deletions: list[Deletion]) -> None:
        """Have these changes deleted, unless something is ``lost``."""
        with self._changed:
            if not self._lost:
                self._queue += deletions
                self._changed.notify()

    def deleted(self) -> list[Deletion]:
        """What was deleted since the last call. Raises RuntimeError when the thread has ended: what is applied would wait for ever."""
        if not self._thread.is_alive():
            raise RuntimeError("the deleter has ended")
        with self._changed:
            found, self._deleted = self._deleted, []
        return found

    @property
    def lost(self) -> bool:
        """Whether a deletion was given up because the server may be another one, so that its ids may be other changes'."""
        return self._lost

    def decided(self) -> int:
        """The id up to which all transactions have ended, 0 when nothing new is known."""
        with self._changed:
            found, self._decided = self._decided, 0
        return found

    def forget(self) -> None:
        """Delete nothing of what was given and is not deleted yet."""
        with self._changed:
            self._queue, self._deleted, self._decided, self.reached, self._lost = [], [], 0, 0, False
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
                work, forgotten, self._ended = self._take(), self._forgotten, 0
            done = self._delete(work)
            with self._changed:
                if forgotten == self._forgotten and done:
                    self._deleted += work
                    self._decided = max(self._decided, self._ended)
                elif forgotten == self._forgotten:
                    self._queue, self._lost = [], True
            time.sleep(_PACE)
        self._outbox.database.close()

    def _take(self) -> list[Deletion]:
        number = size = 0
        while number < len(self._queue) and (not number or size + self._queue[number].size <= _MOST):
            size += self._queue[number].size
            number += 1
        work, self._queue = self._queue[:number], self._queue[number:]
        return work

    def _delete(self, work: list[Deletion]) -> bool:
        """False when it was given up."""
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
                if self._session != database.sessions or time.monotonic() >= self._shorten_at:
                    # An upgrade migrates the schema after it has restarted the workers.
                    self._shorten_at = float("inf") if self._outbox.shorten_log() else time.monotonic() + _ASK_AGAIN
                if self._session != database.sessions:
                    self._session, self._last_own = database.sessions, 0
                    self._asked.clear()
                writers = self._outbox.delete(ids, dead, again, ask)
                self._outage.end()
                if ask:
                    self._ask_at, self._warned = time.monotonic() + _ASK, False
                if writers is not None:
                    self._decide(reached, writers)
                return True
            except DatabaseUnavailable as error:
                if ask and error.code in TRANSACTIONS_UNKNOWN:
                    self._warn(error)
                    self._ask_at = time.monotonic() + _ASK_AGAIN
                    continue
                # It may have been done. A row that another session has locked says nothing about the server.
                again = True
                if not isinstance(error, RowsLocked):
                    self._outage.begin(str(error))
            time.sleep(_PAUSE)
        return True

    def _warn(self, error: DatabaseUnavailable) -> None:
        if not self._warned:
            log.warning(
                "which transactions are open is not known, so that looks become slow while a snapshot stays open: %s", error,
                extra={"action": "transactions_unknown"})
        self._warned = True

    def _decide(self, reached: int, writers: Writers) -> None:
        """Learn from the transactions that are open up to which id all is decided.

        Ids are given in order. Who was given one up to ``reached`` had written to the synced table before, and has a smaller number than our transaction,
        which began to write later. When all numbers smaller than ours are ended, so are these.
        """
        if writers.own <= self._last_own:
            # All who ask within 100 ms get one answer, which may be from before our transaction.
            return
        self._last_own = writers.own
        now = time.monotonic()
        ended = [asked for asked in self._asked if asked[1] <= writers.oldest and asked[2] + _SETTLED <= now]
        if ended:
            self._ended = max(number for number, _own, _at in ended)
            self._asked = [asked for asked in self._asked if asked not in ended]
        self._asked.append((reached, writers.own, now))
        if len(self._asked) > _MOST_ASKED:
            del self._asked[::2]
