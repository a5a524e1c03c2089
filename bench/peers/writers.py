# SPDX-License-Identifier: GPL-3.0-or-later
"""What the applications beside a peer do; each function runs in a process of its own."""

from __future__ import annotations

import os
import random
import time
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event

from servers import Database

from peers.views import ASKED

#: Rows that `write_mix` finds in its table.
WRITTEN = 4000


def pace(begin: float, number: int, rate: float) -> None:
    """Sleep until it is time for a piece of work."""
    time.sleep(max(0.0, begin + number / rate - time.perf_counter()))


def update_evenly(
    database: Database,
    rate: float,
    count: int,
    rows: range,
    first: int,
    step: int,
    questions: int,
    answers: Connection,
) -> None:
    """Commit UPDATEs of bench.latency at an even rate, and write each into the pipe of questions; send
    the time at which each commit returned, by its value.
    """
    commits: dict[int, float] = {}
    with database.connect() as connection, connection.cursor() as cursor:
        begin = time.perf_counter()
        for number in range(count):
            pace(begin, number, rate)
            row, value = rows[number % len(rows)], first + number * step
            cursor.execute(f"UPDATE bench.latency SET value = {value} WHERE id = {row}")
            commits[value] = time.perf_counter()
            os.write(questions, ASKED.pack(row, value))
    answers.send(commits)


def write_mix(
    database: Database,
    table: str,
    writer: int,
    writers: int,
    first: int,
    running: Event,
    rate: float,
    answers: Connection,
) -> None:
    """INSERT, UPDATE and DELETE rows of its own, each value greater than the last; with ``rate`` 0 as
    fast as it goes. Send how many.
    """
    chance = random.Random(writer)
    rows = [row for row in range(1, WRITTEN + 1) if row % writers == writer]
    # What is deleted comes back later under the same id.
    absent = [row + WRITTEN for row in rows]
    value, done = first, 0
    with database.connect() as connection, connection.cursor() as cursor:
        begin = time.perf_counter()
        while running.is_set():
            if rate:
                pace(begin, done, rate)
            value += 1
            place = chance.randrange(len(rows))
            kind = chance.choices(["update", "insert", "delete"], [6, 2, 2])[0]
            if kind == "update":
                statement = (
                    f"UPDATE bench.{table} SET value = {value}, name = 'w{writer}-{value}' WHERE id = "
                    f"{rows[place]}"
                )
            elif kind == "insert" and absent:
                rows.append(absent.pop(0))
                statement = f"INSERT INTO bench.{table} VALUES ({rows[-1]}, {value}, 'w{writer}-{value}')"
            else:
                rows[place], rows[-1] = rows[-1], rows[place]
                absent.append(rows.pop())
                statement = f"DELETE FROM bench.{table} WHERE id = {absent[-1]}"
            cursor.execute(statement)
            done += 1
    answers.send(done)
