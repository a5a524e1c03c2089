# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile SQL of an account without any right, while others write: no write fails, loses its job or waits.

GEARSYNC_TEST_STORM is the number of seconds.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator

import pymysql
import pytest
from gman_calls import BOUND
from harness.gearmand import Gearmand
from harness.waiting import until
from udf_servers import HOST, Database, Session

SECONDS = float(os.environ.get("GEARSYNC_TEST_STORM", "4"))
WRITERS, ATTACKERS = 4, 6
NAMES = [
    *("connect_timeout_ms", "io_timeout_ms", "job_timeout_ms", "breaker_retry_ms", "probe_wait_ms"),
    *("pool_max_idle", "pool_idle_ms", "wake_interval_ms", "background_errors", "locked", "nonsense"),
    *("tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_min_version"),
]
VALUES = (
    "'on'", "'off'", "'default'", "'null'", "0", "1", "999999999", "-1", "1e3", "NULL", "''", "x'00ff'",
    "'/dev/ptmx'", "'/dev/zero'", "'/etc/passwd'", "REPEAT('x', 1000000)",
)  # fmt: skip
#: {n} is a random number, {port} that of another service.
STATEMENTS = (
    "SELECT gman_servers_set('127.0.0.1:{port}')",
    "SELECT gman_servers_set('127.0.0.1:{port}', 'f{n}')",
    "SELECT gman_servers_set('{n}.invalid,b.invalid', 'f{n}')",
    "SELECT gman_servers_set('')",
    "SELECT gman_servers_set(REPEAT('127.0.0.1:1,', {n}))",
    "PREPARE s FROM 'SELECT gman_configure(?, ?), gman_servers_set(?)'",
    "SELECT gman_do('nobody', {n})",
    # The job server keeps it: with 20 MB half an hour takes 24 GiB and more.
    "SELECT gman_do('nobody', REPEAT('x', 2000000))",
    "SELECT gman_do_low(REPEAT('f', {n}), x'00', REPEAT('u', 1000000))",
    "SELECT gman_do_high_background('other', {n}, 'u{n}') FROM information_schema.COLUMNS LIMIT 300",
    "SELECT gman_sum('nobody', ORDINAL_POSITION) FROM information_schema.COLUMNS",
    "SELECT gman_sum('nobody', 1) FROM information_schema.COLUMNS GROUP BY TABLE_NAME WITH ROLLUP",
    "SELECT BENCHMARK(20000, gman_wake('other', {n}))",
    "SELECT BENCHMARK(20, LENGTH(gman_stats()))",
    "SELECT LENGTH(udf_json_object(REPEAT('a', 10000000) AS a, REPEAT('[', 1000000) AS json_b))",
    "SELECT json_members(REPEAT('n', 1000000), x'ff', 'b', json_members('c', {n}))",
)


class Attackers:
    """Threads of the account `guest`, whose statements another one kills."""

    def __init__(self, database: Database, port: int) -> None:
        self.database, self.port = database, port
        self.done = [0] * ATTACKERS
        self._ids: dict[int, int] = {}
        self._stop = threading.Event()
        targets = [(self._attack, (number,)) for number in range(ATTACKERS)] + [(self._kill, ())]
        self._threads = [threading.Thread(target=target, args=args) for target, args in targets]

    def __enter__(self) -> Attackers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(BOUND * 4)
        assert not any(thread.is_alive() for thread in self._threads), "a statement goes on"

    def _login(self) -> pymysql.connections.Connection:
        return self.database.connect(user="guest")

    def _attack(self, number: int) -> None:
        choice = random.Random(number)
        while not self._stop.is_set():
            # Until it is killed.
            with contextlib.suppress(pymysql.MySQLError, OSError), self._login() as connection:
                self._ids[number] = connection.thread_id()
                while not self._stop.is_set():
                    self.done[number] += 1
                    with contextlib.suppress(pymysql.MySQLError), connection.cursor() as cursor:
                        cursor.execute(self._statement(choice))
                    connection.ping(reconnect=False)

    def _statement(self, choice: random.Random) -> str:
        if choice.random() < 0.3:
            return f"SELECT gman_configure('{choice.choice(NAMES)}', {choice.choice(VALUES)})"
        return choice.choice(STATEMENTS).format(n=choice.randrange(400), port=self.port)

    def _kill(self) -> None:
        """An account may kill its own connections. The waits among their statements have no other end."""
        for what in itertools.cycle(("QUERY", "QUERY", "CONNECTION")):
            with contextlib.suppress(pymysql.MySQLError, OSError), self._login() as connection:
                for one in list(self._ids.values()):
                    with contextlib.suppress(pymysql.MySQLError), connection.cursor() as cursor:
                        cursor.execute(f"KILL {what} {one}")
            if self._stop.is_set() and not any(thread.is_alive() for thread in self._threads[:-1]):
                return
            time.sleep(0.1)


class Writer(threading.Thread):
    """Updates a row of its own."""

    def __init__(self, database: Database, own: int) -> None:
        super().__init__()
        self.database, self.own = database, own
        self.writes, self.worst = 0, 0.0
        self.error: BaseException | None = None
        self.stop = threading.Event()

    def run(self) -> None:
        try:
            session = Session(self.database)
            session.all("USE test")
            while not self.stop.is_set():
                began = time.monotonic()
                session.all(f"UPDATE accounts SET balance = balance + 1 WHERE id = {self.own}")
                self.worst = max(self.worst, time.monotonic() - began)
                self.writes += 1
            session.connection.close()
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            self.error = error


@contextlib.contextmanager
def writing(database: Database) -> Iterator[list[Writer]]:
    writers = [Writer(database, own) for own in range(1, WRITERS + 1)]
    for one in writers:
        one.start()
    try:
        yield writers
    finally:
        for one in writers:
            one.stop.set()
        for one in writers:
            one.join()


@pytest.mark.timeout(SECONDS + 900)
def test_no_write_notices_a_storm_of_hostile_sql(
    sql: Session, database: Database, own_gearmand: Gearmand
) -> None:
    sql.all("DROP USER IF EXISTS guest@localhost; CREATE USER guest@localhost")
    sql.all("CREATE TABLE accounts (id int PRIMARY KEY, balance int) ENGINE=InnoDB")
    sql.all(f"INSERT INTO accounts SELECT seq, 0 FROM numbers WHERE seq <= {WRITERS}")
    # A write whose job is not accepted fails; one that waits for a timeout takes a minute.
    sql.all(
        "CREATE TRIGGER accounts_au AFTER UPDATE ON accounts FOR EACH ROW BEGIN "
        "SET @w = gman_wake('balance', NEW.id); "
        "SET @h = gman_do_background('balance', NEW.balance, NEW.id); END"
    )
    sql.all("SELECT gman_servers_set(%s)", own_gearmand.address)
    for name, value in (("background_errors", "error"), ("job_timeout_ms", 86_400_000), ("locked", "on")):
        sql.all("SELECT gman_configure(%s, %s)", name, value)
    before = json.loads(str(sql.one("SELECT gman_stats()")))
    with socket.create_server((HOST, 0)) as other:
        with writing(database) as writers, Attackers(database, other.getsockname()[1]) as attackers:
            until(lambda: all(attackers.done))
            time.sleep(SECONDS)
        other.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            raise AssertionError(f"the server connected to another service: {other.accept()}")
    assert [one.error for one in writers if one.error] == []
    assert all(one.writes for one in writers)
    assert max(one.worst for one in writers) < BOUND
    after = json.loads(str(sql.one("SELECT gman_stats()")))
    assert (after["settings"], after["server_lists"]) == (before["settings"], before["server_lists"])
    assert after["servers"][0]["breaker_openings"] == 0
    assert database.alive()
    print(f"{sum(attackers.done)} hostile statements, {sum(one.writes for one in writers)} writes")
    sql.all("DROP USER guest@localhost")
    # The library is unloaded, and so unlocked, with the last session that has used it.
    until(lambda: sql.one("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND <> 'Daemon'"), 1)
