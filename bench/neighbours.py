#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What others on the same database do to the drain: transactions that stay open, and a snapshot that keeps
every deleted row from being purged.

usage: bench/neighbours.py [--seconds 60] [--rows 3000000]     with the environment of tests/setup bench

Four writers have transactions of ten rows that stay open for 50 ms, with one drainer and with four: how old
the oldest change is that is committed and waits, and how many waits for row locks the server counts. Then a
consistent snapshot stays open while ROWS changes are drained: what a look at the outbox takes and how fast a
backlog is drained, before and after. Each figure is printed with its bar; the exit status is 1 when one was
missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from figures import NEIGHBOURS, OURS, shown, verdicts
from peers.gearsync import Gearsync
from peers.session import BLOCK, ROWS, Changes, Figures, Session, percentile
from peers.views import ASKED
from servers import ROOT, Database, Pipeline, cleaned_up, machine

WRITERS = 4
A_TRANSACTION = 10
OPEN = 0.05
WAITS = "Innodb_row_lock_waits"
#: Rows of bench.bulk.
BULK = 100_000


def oldest_ages(changes: Sequence[tuple[float, float]], every: float = 0.005) -> list[float]:
    """The age of the oldest waiting change at even moments, of those moments at which one waits.

    ``changes``: the time of each commit, in order, and the seconds until it showed.
    """
    waiting, found = deque(changes), []
    now = waiting[0][0] if waiting else 0.0
    while waiting:
        commit, delay = waiting[0]
        if commit + delay <= now:
            waiting.popleft()
        else:
            if commit <= now:
                found.append(now - commit)
            now += every
    return found


def write_slowly(
    database: Database, rows: range, first: int, seconds: float, questions: int, answers: Connection
) -> None:
    """Transactions that stay open after their last statement; send the time at which each commit
    returned, by the value of each change.
    """
    commits: dict[int, float] = {}
    value = first
    with database.connect(autocommit=False) as connection, connection.cursor() as cursor:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            written: Changes = []
            for _number in range(A_TRANSACTION):
                value += 1
                written.append((rows[value % len(rows)], value))
                cursor.execute(f"UPDATE bench.latency SET value = {value} WHERE id = {written[-1][0]}")
            time.sleep(OPEN)
            connection.commit()
            now = time.perf_counter()
            for row, number in written:
                commits[number] = now
                os.write(questions, ASKED.pack(row, number))
    answers.send(commits)


def status(database: Database, name: str) -> int:
    return int(database.execute(f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1])


def open_transactions(session: Session, seconds: float) -> tuple[float, float, float]:
    """The age of the oldest change that is committed and waits, in ms: in the median and at worst; and
    the waits for row locks.
    """
    part, before = ROWS // WRITERS, status(session.database, WAITS)
    parts = [range(number * part + 1, (number + 1) * part + 1) for number in range(WRITERS)]

    def start(questions: int) -> list[Connection]:
        return [
            session.children.run(
                write_slowly, session.database, rows, session.values(1_000_000), seconds, questions
            )
            for rows in parts
        ]

    changes, _used = session.watched(start, 0, seconds)
    ages = sorted(age * 1000 for age in oldest_ages(changes))
    return percentile(ages, 50), ages[-1], status(session.database, WAITS) - before


def look_times(log: str) -> list[float]:
    """The seconds of each SELECT of the outbox's payloads in a slow log."""
    found = []
    for entry in log.split("# User@Host:")[1:]:
        seconds = re.search(r"Query_time: ([\d.]+)", entry)
        statement = re.search(r"^SET timestamp=\d+;\n(.*)", entry, re.DOTALL | re.MULTILINE)
        if (
            seconds
            and statement
            and re.match(r"SELECT\b.*\bpayload\b.*\boutbox\b", statement.group(1), re.DOTALL)
        ):
            found.append(float(seconds.group(1)))
    return found


def look(session: Session, seconds: float) -> float:
    """Milliseconds of a look at the outbox, in the median, while 50 changes a second come."""
    log = session.peer.directory / "slow.log"
    session.peer.stop()
    # For sessions that begin from now on.
    session.database.execute(
        "SET GLOBAL log_slow_filter = ''",
        "SET GLOBAL long_query_time = 0",
        f"SET GLOBAL slow_query_log_file = '{log}'",
        "SET GLOBAL slow_query_log = 1",
    )
    session.peer.start()
    session.evenly(1, 50, seconds)
    session.database.execute("SET GLOBAL slow_query_log = 0", "SET GLOBAL long_query_time = 10")
    times = look_times(log.read_text(errors="replace"))
    log.unlink()
    return statistics.median(times) * 1000


def update(session: Session, rows: int) -> Changes:
    """Change so many rows of bench.bulk by 1,000, in turn; the last changes."""
    with session.database.connect() as connection, connection.cursor() as cursor:
        for start in range(0, rows, BLOCK):
            first, value = start % BULK + 1, session.values(BLOCK)
            cursor.execute(
                f"UPDATE bench.bulk SET value = {value} + id - {first} WHERE id BETWEEN {first} AND "
                f"{first + BLOCK - 1}"
            )
    return [(first + place, value + place) for place in range(BLOCK)]


def backlog(session: Session) -> float:
    """Rows a second of a backlog by 1,000."""
    session.peer.stop()
    first = session.values(0)
    update(session, BULK)
    return session.drain([(row, first + row - 1) for row in range(1, BULK + 1)], None)[0]


def snapshot(session: Session, rows: int, seconds: float) -> Figures:
    """Looks and a backlog before, and while a snapshot is open over so many changes that were drained."""
    session.database.execute(f"INSERT INTO bench.bulk SELECT seq, 0, 'row' FROM bench.seq_1_to_{BULK}")
    # Or the first looks would have what is deleted and not purged yet in their way, as under a snapshot.
    session.until(
        lambda: session.peer.settled() and status(session.database, "Innodb_history_list_length") < 100,
        "the purge",
        every=0.1,
    )
    found = {
        "snapshot_rows": float(rows),
        "look_before": look(session, seconds),
        "drain_before": backlog(session),
    }
    with session.database.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        last = update(session, rows)
        session.until(
            lambda: session.view.shown("bulk", last) and session.peer.settled(),
            "the changes under the snapshot",
            1800,
        )
        found["look_times"] = look(session, seconds) / found["look_before"]
        found["drain_share"] = backlog(session) / found["drain_before"]
    return found


def run(work: Path, seconds: float, rows: int, report: Callable[[str], None]) -> Figures:
    """All figures of neighbours, each part on servers of its own."""
    figures: Figures = {}

    @contextlib.contextmanager
    def begun(**settings: int) -> Iterator[Session]:
        peer = Gearsync(work)
        peer.settings = settings
        with Session(peer, Pipeline(), seconds) as session:
            session.make_tables()
            session.first_start()
            yield session

    for prefix, drainers in (("open", 1), ("open4", 4)):
        with begun(drainers=drainers) as session:
            found = dict(
                zip(
                    (f"{prefix}_p50", f"{prefix}_worst", f"{prefix}_waits"),
                    open_transactions(session, seconds),
                )
            )
        figures.update(found)
        report(
            f"transactions open for 50 ms, {drainers} drainers: "
            + ", ".join(f"{name} {value:,.1f}" for name, value in found.items())
        )
    with begun() as session:
        found = snapshot(session, rows, seconds / 6)
    report("an open snapshot: " + ", ".join(f"{name} {value:,.2f}" for name, value in found.items()))
    return {**figures, **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seconds", type=float, default=60, help="of the transactions (default: %(default)g)"
    )
    parser.add_argument(
        "--rows",
        type=int,
        default=3_000_000,
        help="changes that are drained under the snapshot (default: %(default)d)",
    )
    options = parser.parse_args()
    print(machine(), flush=True)
    with cleaned_up():
        figures = run(
            ROOT / ".work/peers", options.seconds, options.rows, lambda line: print(line, flush=True)
        )
    missed = False
    for figure in NEIGHBOURS:
        judged = list(verdicts(figure, {OURS: figures[figure.key]}))
        missed = missed or not all(verdict.passed for verdict in judged)
        bars = "".join(
            f"; bar {shown(verdict.limit)}: {'pass' if verdict.passed else 'missed'}" for verdict in judged
        )
        print(f"{figure.title}: {shown(figures[figure.key])}{f' {figure.unit}' if figure.unit else ''}{bars}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
