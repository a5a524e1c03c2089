# SPDX-License-Identifier: GPL-3.0-or-later
"""What each peer has to do: every work returns figures by the keys of figures.py, and keeps series for the
plots.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from multiprocessing.synchronize import Event
from typing import Any

from servers import Pipeline

from peers.gearsync import Gearsync
from peers.peer import Failed, Peer, wait
from peers.processes import FORK, answer, pss
from peers.session import BARE, BLOCK, LAST, Figures, Session, percentile
from peers.views import PATIENCE, Streams
from peers.writers import WRITTEN, write_mix

KILLS = 5
#: Seconds without a change after which a system is idle.
REST = 30.0
#: Of what is compared in turn.
ROUNDS = 5


def latency(session: Session) -> Figures:
    changes, used = session.evenly(1, 500, session.seconds)
    delays = sorted(delay * 1000 for _when, delay in changes)
    session.series["latency"] = [
        (percentile(delays, percent / 10), percent / 10) for percent in range(0, 1001, 5)
    ]
    scale = 30 / session.seconds
    return {
        "latency_p50": percentile(delays, 50),
        "latency_p99": percentile(delays, 99),
        "cpu_peer": used["peer"] * scale,
        "cpu_database": used["database"] * scale,
        "memory": pss(session.peer.pids()),
    }


def burst(session: Session) -> Figures:
    changes, _used = session.evenly(4, 2000, session.seconds * 2 / 3)
    delays = sorted(delay * 1000 for _when, delay in changes)
    return {
        "burst_rate": (len(changes) - 1) / (changes[-1][0] - changes[0][0]),
        "burst_p99": percentile(delays, 99),
    }


def quiet(session: Session) -> Figures:
    """What wakes are for, and what is left without them."""
    found = {}
    for name in ("quiet_p99", "no_wakes_p99"):
        if name == "no_wakes_p99":
            session.servers.gearmand.stop()
            time.sleep(1)
        changes, _used = session.evenly(1, 4, session.seconds)
        found[name] = percentile(sorted(delay * 1000 for _when, delay in changes), 99)
    session.servers.gearmand.start()
    # Until it is connected again, it looks more often than it would.
    session.until(
        lambda: session.servers.gearmand.queue("gearsync.barrier")[2] > 0, "the worker at the job server"
    )
    return found


def idle(session: Session) -> Figures:
    """Percent of a core that the peer, MariaDB and Redis take while nothing is written."""
    time.sleep(REST)
    before, seconds = session.cpu(), session.seconds / 2
    time.sleep(seconds)
    return {"idle": sum(now - before[name] for name, now in session.cpu().items()) / seconds * 100}


def backlog(session: Session) -> Figures:
    share = min(1.0, session.seconds / 30)
    rows, single = int(300_000 * share) // BLOCK * BLOCK, int(50_000 * share)
    session.peer.stop()
    mark, first = session.view.mark("bulk"), session.values(rows)
    with session.database.connect() as connection, connection.cursor() as cursor:
        for start in range(1, rows + 1, BLOCK):
            cursor.execute(
                f"INSERT INTO bench.bulk SELECT seq, {first} + seq - 1, CONCAT('name ', seq) FROM "
                f"bench.seq_{start}_to_{start + BLOCK - 1}"
            )
    found, used = session.drain([(row, first + row - 1) for row in range(1, rows + 1)], mark, "backlog")
    figures = {"backlog_multi": found, **{f"backlog_{name}": cores for name, cores in used.items()}}
    session.peer.stop()
    mark, first = session.view.mark("bulk"), session.values(single)
    # How they are written is not measured, and the logs have the same in them when they are not synced
    # one by one.
    session.database.execute("SET GLOBAL sync_binlog = 0", "SET GLOBAL innodb_flush_log_at_trx_commit = 2")
    with session.database.connect() as connection, connection.cursor() as cursor:
        for row in range(1, single + 1):
            cursor.execute(f"UPDATE bench.bulk SET value = {first + row - 1} WHERE id = {row}")
    session.database.execute("SET GLOBAL sync_binlog = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    figures["backlog_single"], _used = session.drain(
        [(row, first + row - 1) for row in range(1, single + 1)], mark
    )
    return figures


def _mixed(session: Session, table: str, writers: int, running: Event, rate: float = 0) -> list[Any]:
    first = session.values(writers * 1_000_000)
    running.set()
    return [
        session.children.run(
            write_mix,
            session.database,
            table,
            number,
            writers,
            first + number * 1_000_000,
            running,
            rate / writers,
        )
        for number in range(writers)
    ]


def _written(session: Session, pipes: list[Any], running: Event) -> int:
    running.clear()
    count = sum(int(answer(pipe, 60)) for pipe in pipes)
    session.children.end()
    return count


def _rate(session: Session, table: str, seconds: float) -> float:
    running = FORK.Event()
    began = time.perf_counter()
    pipes = _mixed(session, table, 8, running)
    time.sleep(seconds)
    return _written(session, pipes, running) / (time.perf_counter() - began)


def writers(session: Session) -> Figures:
    """8 writers as fast as they go, between two measurements of the same without the peer."""
    session.peer.stop()
    before = _rate(session, BARE, session.seconds / 3)
    session.peer.start()
    session.written_last("writers")
    session.database.execute(f"DELETE FROM bench.writers WHERE id >= {LAST[0]}")
    rate = _rate(session, "writers", session.seconds * 2 / 3)
    session.written_last("writers")
    lost = session.different("writers")
    session.peer.stop()
    # The rows that the first one has left are not those that it found.
    session.database.execute(
        f"TRUNCATE bench.{BARE}",
        f"INSERT INTO bench.{BARE} SELECT seq, 0, 'row' FROM bench.seq_1_to_{WRITTEN}",
    )
    after = _rate(session, BARE, session.seconds / 3)
    session.peer.start()
    if lost:
        raise Failed(f"{lost} rows differ after 8 writers")
    return {"writers_share": rate / statistics.mean([before, after])}


def cost(session: Session) -> Figures:
    """What an INSERT costs beside one into a table without triggers, in rounds of both; and what it
    adds to the binary log.
    """
    found = {}
    for state in ("stopped", "running"):
        if state == "stopped":
            session.peer.stop()
        else:
            session.peer.start()
            session.written_last("cost")
        for name, statements, rows in (
            ("multi", max(5, int(session.seconds * 2)), BLOCK),
            ("single", max(50, int(session.seconds * 20)), 1),
        ):
            bare, carried = [], []
            for _round in range(ROUNDS):
                bare.append(session.insert(BARE, statements, rows))
                carried.append(session.insert("cost", statements, rows))
            ratio = statistics.median(carried) / statistics.median(bare)
            found[f"{name}_{state}"] = ratio if name == "single" else 1 / ratio
    session.settle("cost")
    sizes = [session.database.binary_log()]
    for table in (BARE, "cost"):
        session.insert(table, int(session.seconds * 30), 1)
        if table == "cost":
            session.settle(table)
        sizes.append(session.database.binary_log())
    found["binary_log"] = (sizes[2] - sizes[1]) / (sizes[1] - sizes[0])
    return found


def lag(session: Session) -> Figures:
    """The lag of each change while the peer is killed once, for the plot."""
    killed = 0.0

    def meanwhile() -> None:
        nonlocal killed
        time.sleep(session.seconds / 6)
        killed = time.perf_counter()
        session.peer.kill()
        session.peer.start()

    changes, _used = session.evenly(1, 500, session.seconds * 2 / 3, meanwhile)
    points: dict[float, float] = {}
    for when, delay in changes:
        place = (when - killed) * 10 // 1 / 10
        points[place] = max(points.get(place, 0.0), delay)
    session.series["lag"] = list(points.items())
    return {}


def crash(session: Session) -> Figures:
    """800 changes a second by four writers, and five times SIGKILL, each after the change that
    follows the last one has shown.
    """
    chance, running = random.Random(11), FORK.Event()
    began, recoveries = time.perf_counter(), []
    pipes = _mixed(session, "crash", 4, running, 800)
    for number in range(KILLS):
        time.sleep(chance.uniform(0.02, 0.06) * session.seconds)
        session.peer.kill()
        row, value, killed = LAST[-1] + 1 + number, session.values(1), time.perf_counter()
        mark = session.view.mark("crash")
        session.peer.start()
        session.database.execute(f"INSERT INTO bench.crash VALUES ({row}, {value}, 'after a kill')")
        shown = wait(lambda: _probe_shows(session, row, value, mark), PATIENCE, 0.01, "a change after a kill")  # noqa: B023  # it ends before the next turn
        recoveries.append(shown - killed)
    time.sleep(max(0.0, began + session.seconds * 2 - time.perf_counter()))
    changes = _written(session, pipes, running)
    session.written_last("crash")
    found: Figures = {
        "recovery": statistics.median(recoveries),
        "crash_changes": changes,
        "lost": session.different("crash"),
    }
    if isinstance(session.view, Streams):
        found["repeated"] = session.view.repeated("crash")
    return found


def _probe_shows(session: Session, row: int, value: int, mark: Any) -> bool:
    # As a supervisor would, after a second.
    if not session.peer.running:
        time.sleep(1)
        session.peer.start()
    if isinstance(session.view, Streams):
        return any(change.id == row for change in session.view.entries("crash", mark))
    return session.view.value("crash", row) >= value


#: In this order: crashes are last, and memory is that after some minutes of even work.
WORKS = {work.__name__: work for work in (latency, burst, quiet, idle, backlog, writers, cost, lag, crash)}
OURS_ONLY = ("quiet",)


def run(peer: Peer, seconds: float, works: list[str], report: Callable[[str], None]) -> dict[str, Any]:
    """All works of a peer: its figures, series and failures."""
    figures: Figures = {}
    failures: list[str] = []
    with Session(peer, Pipeline(), seconds) as session:
        versions = session.servers.versions
        try:
            session.make_tables()
            session.first_start()
        except Failed as error:
            failures.append(str(error))
            works = []
        for work in (
            works if isinstance(peer, Gearsync) else [work for work in works if work not in OURS_ONLY]
        ):
            began = time.perf_counter()
            try:
                found = WORKS[work](session)
                figures.update(found)
                report(
                    f"{peer.title}: {work} in {time.perf_counter() - began:.0f} s: "
                    + ", ".join(f"{name} {value:,.2f}" for name, value in found.items())
                )
            except (Failed, OSError, EOFError, LookupError, ValueError) as error:
                failures.append(f"{work}: {error}")
                session.children.end()
            if not peer.running:
                peer.start()
    for failure in failures:
        report(f"{peer.title} failed: {failure}")
    return {
        "title": peer.title,
        "version": peer.version(),
        "servers": versions,
        "figures": figures,
        "series": session.series,
        "failures": failures,
    }
