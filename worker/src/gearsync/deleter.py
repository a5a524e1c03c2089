"""Deletes behind the drain what was applied: in a thread and over a connection of its own, so that no change waits for a commit."""

from __future__ import annotations

import itertools
import threading
import time
from typing import NamedTuple

from gearsync.database import DatabaseUnavailable
from gearsync.fences import Place
from gearsync.outage import Outage
from gearsync.outbox import Outbox

#: Seconds between two deletions: each is a commit, which a synced binary log makes expensive.
_PACE = 0.03
#: Ids of one deletion.
_MOST = 5000
#: Seconds between two attempts.
_PAUSE = 0.5


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
        self._thread = threading.Thread(target=self._run, name="deleter", daemon=True)
        self._thread.start()

    def put(self, deletions: list[Deletion]) -> None:
        """Have these changes deleted."""
        with self._changed:
            self._queue += deletions
            self._changed.notify()

    def deleted(self) -> list[Deletion]:
        """What was deleted since the last call. Raises RuntimeError when the thread has ended: what is applied would wait for ever."""
        if not self._thread.is_alive():
            raise RuntimeError("the deleter has ended")
        with self._changed:
            found, self._deleted = self._deleted, []
        return found

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
                work = self._take()
            self._delete(work)
            with self._changed:
                self._deleted += work
            time.sleep(_PACE)
        self._outbox.database.close()

    def _take(self) -> list[Deletion]:
        number = size = 0
        while number < len(self._queue) and (not number or size + self._queue[number].size <= _MOST):
            size += self._queue[number].size
            number += 1
        work, self._queue = self._queue[:number], self._queue[number:]
        return work

    def _delete(self, work: list[Deletion]) -> None:
        ids = sorted(set(itertools.chain(*(each for deletion in work for each in deletion.ids.values()))))
        dead = {number: error for deletion in work for number, error in deletion.dead.items()}
        again = False
        self._outbox.database.drop_closed()
        while ids:
            try:
                self._outbox.delete(ids, dead, again)
                self._outage.end()
                return
            except DatabaseUnavailable as error:
                # It may have been done. A row that another session has locked says nothing about the server.
                again = True
                if not error.locked:
                    self._outage.begin(str(error))
            time.sleep(_PAUSE)
