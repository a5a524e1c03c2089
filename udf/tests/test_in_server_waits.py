# SPDX-License-Identifier: GPL-2.0-or-later
"""What ends the wait of a function before its own timeout, and what goes on meanwhile: each test's job server
never answers, and all timeouts of the library are longer than a test may take.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator

import pymysql
import pytest
from fake_server import FakeServer
from gman_calls import BOUND
from harness.database import server_program
from harness.waiting import until
from udf_servers import HOST, Database, OtherDatabase, Session, statements

DAY_MS = 86_400_000
#: A call of each function that waits, with what its job server does.
WAITS = {
    "submission": ("silent", "SELECT gman_do_background('f', 'x')"),
    "reading": ("deaf", "SELECT gman_do_background('f', REPEAT('x', 30000000))"),
    "result": ("good", "SELECT gman_do('f', 'x')"),
    "sum": ("good", "SELECT gman_sum('f', seq) FROM numbers WHERE seq <= 3"),
}


class Call:
    """A statement that waits in a connection of its own."""

    def __init__(self, database: Database | OtherDatabase, statement: str) -> None:
        self.session = Session(database)
        self.session.all("USE test")
        self.id = int(str(self.session.one("SELECT CONNECTION_ID()")))
        self.result: object = None
        self._thread = threading.Thread(target=self._run, args=(statement,))
        self._thread.start()

    def _run(self, statement: str) -> None:
        try:
            self.result = self.session.all(statement)
        except (pymysql.MySQLError, OSError) as error:
            self.result = error

    def end(self) -> None:
        """It ends soon: with an error, or with NULL where the server has nothing left to do for it."""
        self._thread.join(BOUND)
        assert not self._thread.is_alive(), "the statement goes on"
        with contextlib.suppress(pymysql.MySQLError, OSError):
            self.session.connection.close()
        assert isinstance(self.result, (pymysql.MySQLError, OSError)) or self.result == [(None,)]


@contextlib.contextmanager
def waiting(
    database: Database | OtherDatabase, sql: Session, mode: str, statement: str, *more: str
) -> Iterator[Call]:
    """A statement that waits for a job server of this mode; ``more``: further ones in the list."""
    with FakeServer(mode, host=HOST) as server:
        addresses = ",".join((server.address, *more))
        sql.all("SELECT gman_servers_set(%s), gman_configure('job_timeout_ms', %s)", addresses, DAY_MS)
        call = Call(database, statement)
        try:
            # A sum waits after the jobs of all its rows.
            wanted = 3 if "gman_sum" in statement else 1
            until(lambda: server.accepted > 0 if mode == "deaf" else len(server.jobs) >= wanted)
            yield call
        finally:
            server.stop()
            call.end()


def first_server(sql: Session) -> dict:
    return json.loads(str(sql.one("SELECT gman_stats()")))["servers"][0]


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("what", ["QUERY", "CONNECTION"])
def test_kill_ends_a_wait(database: Database, sql: Session, wait: str, what: str) -> None:
    with waiting(database, sql, *WAITS[wait]) as call:
        sql.all(f"KILL {what} {call.id}")
        call.end()
        # The client of a killed connection ends first, and the failure is counted last. The database server
        # may end a statement by itself between the last row of a sum and its wait.
        if wait != "sum":
            until(lambda: first_server(sql)["failures"]["killed"], 1)
        until(lambda: first_server(sql)["busy_connections"], 0)
        state = first_server(sql)
    # It proves nothing about the job server.
    assert (state["state"], state["breaker_openings"]) == ("closed", 0)
    assert state["failures"]["killed"] <= 1


def test_a_statements_time_limit_ends_a_wait(database: Database, sql: Session) -> None:
    statement = (
        "SET STATEMENT max_statement_time = 0.5 FOR SELECT gman_do('f', 'x')"
        if "MariaDB" in str(sql.one("SELECT VERSION()"))
        else "SELECT /*+ MAX_EXECUTION_TIME(500) */ gman_do('f', 'x')"
    )
    with waiting(database, sql, "good", statement) as call:
        call.end()


def test_a_killed_statement_tries_no_further_server(database: Database, sql: Session) -> None:
    mode, statement = WAITS["reading"]
    with FakeServer(host=HOST) as second, waiting(database, sql, mode, statement, second.address) as call:
        sql.all(f"KILL QUERY {call.id}")
        call.end()
        assert second.accepted == 0


@contextlib.contextmanager
def private(*options: str) -> Iterator[tuple[Database, Session]]:
    """A server that a test may stop, with patience for job servers."""
    with Database(*options) as server:
        server.execute("CREATE DATABASE test", "CREATE TABLE test.numbers (seq int PRIMARY KEY)")
        server.execute("INSERT INTO test.numbers VALUES (1), (2), (3)", *statements("install.sql"))
        sql = Session(server)
        sql.all("SELECT gman_configure('connect_timeout_ms', 60000), gman_configure('io_timeout_ms', 60000)")
        yield server, sql


@pytest.mark.parametrize("wait", WAITS)
def test_shutdown_ends_a_wait(wait: str) -> None:
    with private() as (server, sql), waiting(server, sql, *WAITS[wait]):
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < BOUND


@pytest.mark.parametrize("wait", WAITS)
def test_other_statements_go_on_in_a_thread_pool(wait: str) -> None:
    if server_program()[0] != "mariadb":
        pytest.skip("the community's MySQL has no thread pool")
    # One group, which begins no further thread for one that only seems to work.
    options = (
        "--thread-handling=pool-of-threads",
        "--thread-pool-size=1",
        "--thread-pool-stall-limit=600000",
    )
    with private(*options) as (server, sql), waiting(server, sql, *WAITS[wait]) as call:
        began = time.monotonic()
        assert sql.one("SELECT 1") == 1
        assert time.monotonic() - began < BOUND
        sql.all(f"KILL QUERY {call.id}")
        call.end()
