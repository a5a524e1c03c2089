# SPDX-License-Identifier: GPL-3.0-or-later
"""Threads that write to a database while a test changes something under them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pymysql

from harness.database import DatabaseServer
from harness.process import STOP
from harness.waiting import until

#: Seconds between two writes of a thread: writers without a pause would leave the machine nothing for what
#: happens under them.
PAUSE = 0.005


class Writers:
    """Threads that write, each over a connection of its own, from the beginning of the block to its end.

    ``write``: is called with a cursor, the writer's number and the number of its write, both from 0.
    """

    def __init__(self, database: DatabaseServer, number: int, write: Callable[[Any, int, int], None]) -> None:
        self.database, self.write = database, write
        #: Writes that succeeded, of each thread.
        self.counts = [0] * number
        self.errors: list[pymysql.MySQLError] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(writer,), daemon=True) for writer in range(number)
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP)
        assert not any(thread.is_alive() for thread in self._threads), "a writer has not ended"

    def _run(self, writer: int) -> None:
        with self.database.connect() as connection, connection.cursor() as cursor:
            while not self._stop.is_set():
                try:
                    self.write(cursor, writer, self.counts[writer])
                    self.counts[writer] += 1
                except pymysql.MySQLError as error:
                    self.errors.append(error)
                time.sleep(PAUSE)

    def go_on(self) -> None:
        """Wait until each thread has done a write that began after this call, or one has failed."""
        # The first one more may have begun before.
        wanted = [count + 2 for count in self.counts]
        until(lambda: self.errors or all(count >= least for count, least in zip(self.counts, wanted)))
