#!/usr/bin/env python3
# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Eight writers for ten seconds, and kill -9 of the worker and of gearmand: is each change in Redis, and no
old value?

usage: load.py MYSQL_SOCKET     inside the demo's host, as root, with the worker's Python, which has PyMySQL
and redis

The writers insert, update and delete customers; each change is a transaction. A reader asks Redis for each
committed change until it shows. At the end all entries in Redis are compared with all rows in MySQL. Nothing
here is shared with the worker or with `gearsync verify`. The exit status is 1 when something is lost or stale
or a write has failed.
"""

from __future__ import annotations

import collections
import functools
import math
import multiprocessing
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pymysql
import redis

WRITERS = 8
SECONDS = 10.0
#: Seconds from one change of a writer to its next one.
INTERVAL = 0.02
#: Which units are killed, and how many seconds after the start.
KILLS = ((2.0, "gearsync-worker@main"), (6.0, "gearmand"))
#: Seconds after the last change within which all changes must show.
PATIENCE = 60.0
CITIES = ("Bergen", "Chengdu", "Cusco", "Dakar", "Graz", "Lyon", "Oulu", "Perth", "Québec", "São Paulo")
STATEMENTS = {
    "insert": "INSERT INTO shop.customer (name, city, balance) VALUES ('New', %s, %s)",
    "update": "UPDATE shop.customer SET city = %s, balance = %s WHERE id = %s",
    "delete": "DELETE FROM shop.customer WHERE id = %s",
}

#: A value's place in Redis: the key, and the field or member. And the value there.
Entries = dict[tuple[str, str], Any]


class Change(NamedTuple):
    """A committed change."""

    event: str
    row: int
    #: The row's new balance. It only grows, so that an older value is known as such; of a deleted row it is
    #: infinite.
    balance: float
    #: When the commit returned, by the machine's monotonic clock.
    committed: float


class Kill(NamedTuple):
    """What is killed, and how many seconds after the start."""

    after: float
    name: str
    do: Callable[[], None]


def write(
    connect: Callable[[], Any], number: int, balances: dict[int, float], seconds: float, report: Any
) -> None:
    """Change customers; report changes and errors. ``balances``: the rows that only this writer changes."""
    chance = random.Random(number)
    # Only rows that were there at the start are deleted: an absent one is not one that is still to come.
    deletable = list(balances)
    chance.shuffle(deletable)
    due = time.monotonic()
    with connect() as connection, connection.cursor() as cursor:
        for _turn in range(round(seconds / INTERVAL)):
            time.sleep(max(0.0, due - time.monotonic()))
            due += INTERVAL
            event = chance.choices(("insert", "update", "delete"), (1, 4, len(deletable) > 1))[0]
            row = deletable.pop() if event == "delete" else chance.choice(list(balances))
            city, balance = chance.choice(CITIES), balances[row] + chance.randint(1, 100)
            values = {"insert": (city, balance), "update": (city, balance, row), "delete": (row,)}[event]
            try:
                cursor.execute(STATEMENTS[event], values)
            except pymysql.MySQLError as error:
                report.put(f"{event} of a customer: {error}")
                continue
            committed = time.monotonic()
            if event == "delete":
                del balances[row]
                balance = math.inf
            else:
                row = cursor.lastrowid if event == "insert" else row
                balances[row] = balance
            report.put(Change(event, row, balance, committed))


class Reader:
    """Asks Redis for the balances of changed customers."""

    def __init__(self, client: Any) -> None:
        self._client = client
        #: Changes of each row that do not show yet.
        self.waiting: dict[int, collections.deque[Change]] = {}
        #: The greatest balance of each changed row that Redis has shown.
        self._shown: dict[int, float] = {}
        #: Changed rows, of which some are looked at each time although nothing of them is waited for.
        self._again: collections.deque[int] = collections.deque()
        #: Changes that have shown, and how long after their commit, in seconds.
        self.delays: list[tuple[Change, float]] = []
        #: How often a row showed an older balance than before.
        self.older = 0

    def expect(self, change: Change) -> None:
        self.waiting.setdefault(change.row, collections.deque()).append(change)
        if change.row not in self._shown:
            self._shown[change.row] = -math.inf
            self._again.append(change.row)

    def look(self) -> None:
        """Ask for what is waited for, and for some of the other changed rows."""
        self._again.rotate(20)
        rows = [*self.waiting, *(row for row in list(self._again)[:20] if row not in self.waiting)]
        pipeline = self._client.pipeline(transaction=False)
        for row in rows:
            pipeline.hget(f"customer:{row}", "balance")
        values = pipeline.execute()
        now = time.monotonic()
        for row, value in zip(rows, values):
            changes = self.waiting.get(row, collections.deque())
            if value is None and not (changes and changes[-1].balance == math.inf):
                # Not there yet, or its deletion is in Redis before its writer has reported it.
                continue
            balance = math.inf if value is None else float(value)
            self.older += balance < self._shown[row]
            self._shown[row] = max(balance, self._shown[row])
            while changes and changes[0].balance <= balance:
                change = changes.popleft()
                self.delays.append((change, now - change.committed))
            if not changes:
                self.waiting.pop(row, None)


def entries_of_rows(cursor: Any) -> Entries:
    """What the declared hash, set and sorted set must hold, by the rows in MySQL."""
    cursor.execute("SELECT id, name, city, balance FROM shop.customer")
    wanted: Entries = {}
    for row, name, city, balance in cursor.fetchall():
        fields = {"id": str(row), "name": name, "city": city, "balance": str(balance)}
        wanted.update(
            {(f"customer:{row}", field): value for field, value in fields.items() if value is not None}
        )
        wanted["customer:by-balance", str(row)] = float(balance)
        if city is not None:
            wanted[f"customer:by-city:{city}", str(row)] = True
    return wanted


def entries_of_redis(client: Any) -> Entries:
    """What they hold, by Redis alone."""
    scores = client.zrange("customer:by-balance", 0, -1, withscores=True)
    found: Entries = {("customer:by-balance", row): score for row, score in scores}
    for key in client.scan_iter("customer:by-city:*", count=1000):
        found.update({(key, row): True for row in client.smembers(key)})
    hashes = list(client.scan_iter("customer:[0-9]*", count=1000))
    for first in range(0, len(hashes), 1000):
        pipeline = client.pipeline(transaction=False)
        keys = hashes[first : first + 1000]
        for key in keys:
            pipeline.hgetall(key)
        for key, fields in zip(keys, pipeline.execute()):
            found.update({(key, field): value for field, value in fields.items()})
    return found


def differences(wanted: Entries, found: Entries) -> tuple[list[str], list[str]]:
    """What is missing in Redis, and what is there and should not be, or should be another value."""
    missing = [f"{key} {name}: missing" for key, name in wanted.keys() - found.keys()]
    stale = [
        f"{key} {name}: {value!r}, MySQL: {wanted.get((key, name))!r}"
        for (key, name), value in found.items()
        if wanted.get((key, name)) != value
    ]
    return sorted(missing), sorted(stale)


class Load:
    """The writers, the kills and the reader, and what came of them."""

    def __init__(self, connect: Callable[[], Any], client: Any) -> None:
        self._connect, self._client = connect, client
        #: Errors of writes, and of writers that did not reach their end.
        self.errors: list[str] = []
        self.broken: list[str] = []
        self.begin = 0.0
        self.reader = Reader(client)

    def compare(self) -> tuple[list[str], list[str]]:
        with self._connect() as connection, connection.cursor() as cursor:
            wanted = entries_of_rows(cursor)
        return differences(wanted, entries_of_redis(self._client))

    def run(self, kills: Sequence[Kill], seconds: float = SECONDS, patience: float = PATIENCE) -> None:
        """Write, kill and read, until all changes show, at most ``patience`` seconds after the last one."""
        with self._connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id, balance FROM shop.customer")
            balances = {row: float(balance) for row, balance in cursor.fetchall()}
        shares: list[dict[int, float]] = [{} for _ in range(WRITERS)]
        for row, balance in balances.items():
            shares[row % WRITERS][row] = balance
        context = multiprocessing.get_context("fork")
        report: Any = context.SimpleQueue()
        self.begin = time.monotonic()
        writers = [
            context.Process(target=write, args=(self._connect, number, share, seconds, report))
            for number, share in enumerate(shares)
        ]
        for writer in writers:
            writer.start()
        timers = [threading.Timer(self.begin + kill.after - time.monotonic(), kill.do) for kill in kills]
        for timer in timers:
            timer.start()
        self._read(report, writers, patience)
        for writer in writers:
            writer.join()
        for timer in timers:
            timer.join()
        self.broken = [
            f"a writer ended with status {writer.exitcode}" for writer in writers if writer.exitcode
        ]

    def _read(self, report: Any, writers: Sequence[Any], patience: float) -> None:
        deadline = math.inf
        while time.monotonic() < deadline:
            # In this order: what a writer reports before it ends is in the queue then.
            ended = not any(writer.is_alive() for writer in writers)
            if ended and deadline == math.inf:
                deadline = time.monotonic() + patience
            while not report.empty():
                message = report.get()
                if isinstance(message, Change):
                    self.reader.expect(message)
                else:
                    self.errors.append(message)
            if ended and not self.reader.waiting:
                return
            self.reader.look()
            time.sleep(0.001)


def milliseconds(delays: Sequence[float]) -> str:
    """p50, p99 and the longest of delays in seconds."""
    ordered = sorted(delays) or [math.nan]
    figures = (ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])
    return "".join(f"{1000 * figure:>10,.1f}" for figure in figures)


def table(load: Load, kills: Sequence[Kill]) -> Iterator[str]:
    """The delays, by what had been killed last when a change was committed."""
    parts = [
        ("until the first kill", -math.inf),
        *((f"after kill -9 {kill.name}", kill.after) for kill in kills),
    ]
    ends = [*(after for _name, after in parts[1:]), math.inf]
    seen = [(change.committed - load.begin, delay) for change, delay in load.reader.delays]
    yield f"{'commit → visible (ms)':32}{'changes':>10}{'p50':>10}{'p99':>10}{'longest':>10}"
    for (name, first), last in zip(parts, ends):
        delays = [delay for committed, delay in seen if first <= committed < last]
        yield f"{name:32}{len(delays):>10,}{milliseconds(delays)}"
    yield f"{'all':32}{len(seen):>10,}{milliseconds([delay for _committed, delay in seen])}"


def result(load: Load, kills: Sequence[Kill]) -> tuple[int, list[str]]:
    """What the load has come to: the exit status, and lines for people."""
    missing, stale = load.compare()
    unseen = [
        f"customer:{change.row}: {change.event} never showed"
        for changes in load.reader.waiting.values()
        for change in changes
    ]
    older = [f"values that went back while they were read: {load.reader.older}"] * bool(load.reader.older)
    problems = [*load.broken, *load.errors, *unseen, *older, *missing, *stale]
    events = collections.Counter(change.event for change, _delay in load.reader.delays)
    counted = ", ".join(f"{event} {number:,}" for event, number in sorted(events.items()))
    lines = [
        *table(load, kills),
        "",
        f"changes  {len(load.reader.delays) + len(unseen):>8,}   ({counted})",
        f"failed   {len(load.errors):>8,}   (writes that MySQL refused)",
        (
            f"lost     {len(unseen) + len(missing):>8,}   (committed changes and values that Redis does not "
            "have)"
        ),
        (
            f"stale    {load.reader.older + len(stale):>8,}   (values in Redis that MySQL has no longer, or "
            "that went back)"
        ),
        *problems[:10],
        *[f"… and {len(problems) - 10} more"] * (len(problems) > 10),
    ]
    return int(bool(problems)), lines


def property_of(unit: str, name: str) -> str:
    command = ["systemctl", "show", "--property", name, "--value", unit]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def kill_unit(unit: str, killed: dict[str, str]) -> None:
    killed[unit] = property_of(unit, "MainPID")
    subprocess.run(["systemctl", "kill", "--signal=KILL", unit], check=True)


def follower(unit: str, killed: str) -> str:
    """The process that systemd has started in place of one that was killed; empty if there is none after
    a minute.
    """
    deadline = time.monotonic() + 60.0
    while (now := property_of(unit, "MainPID")) in ("0", killed):
        if time.monotonic() > deadline:
            return ""
        time.sleep(0.1)
    return now


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    connect = functools.partial(
        pymysql.connect,
        unix_socket=arguments[0],
        user="root",
        charset="utf8mb4",
        autocommit=True,
        read_timeout=60,
    )
    load = Load(connect, redis.Redis(decode_responses=True))
    if any(load.compare()):
        print(
            "shop.customer differs in Redis before the first change; repair it by gearsync verify --repair",
            file=sys.stderr,
        )
        return 1
    killed: dict[str, str] = {}
    kills = [Kill(after, unit, functools.partial(kill_unit, unit, killed)) for after, unit in KILLS]
    load.run(kills)
    for kill in kills:
        before = killed.get(kill.name, "0")
        after = follower(kill.name, before)
        if before == "0" or not after:
            print(
                f"{kill.name} was not running, or was not killed, or has not started again", file=sys.stderr
            )
            return 1
        pause = property_of(kill.name, "RestartUSec")
        print(
            f"at {kill.after:g} s: kill -9 {kill.name}, process {before}; after {pause} systemd starts "
            f"process {after}"
        )
    status, lines = result(load, kills)
    print("", *lines, sep="\n")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
