# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile SQL of an account without any right, and writers beside it."""

from __future__ import annotations

import contextlib
import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymysql

WRITERS, ATTACKERS = 4, 6
#: Seconds that the last statements may take.
_END = 120.0
#: What the writers need in the schema `test`. A write whose job is not accepted fails, with the setting
#: background_errors.
TABLE = (
    "CREATE TABLE test.accounts (id int PRIMARY KEY, balance int) ENGINE=InnoDB",
    f"INSERT INTO test.accounts VALUES {', '.join(f'({own}, 0)' for own in range(1, WRITERS + 1))}",
    """CREATE TRIGGER test.accounts_au AFTER UPDATE ON test.accounts FOR EACH ROW BEGIN
    SET @w = gman_wake('balance', NEW.id);
    SET @h = gman_do_background('balance', NEW.balance, NEW.id); END""",
)
_NAMES = [
    *("connect_timeout_ms", "io_timeout_ms", "job_timeout_ms", "breaker_retry_ms", "probe_wait_ms"),
    *("pool_max_idle", "pool_idle_ms", "wake_interval_ms", "background_errors", "locked", "nonsense"),
    *("tls", "tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_min_version"),
]
_VALUES = (
    "'on'", "'off'", "'default'", "'null'", "0", "1", "999999999", "-1", "1e3", "NULL", "''", "x'00ff'",
    "'/dev/ptmx'", "'/dev/zero'", "'/etc/passwd'", "REPEAT('x', 1000000)",
)  # fmt: skip
#: {n} is a random number, {port} that of another service.
_STATEMENTS = (
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

    def __init__(
        self, connect: Callable[..., Any], port: int, changed: Callable[[str], str] = lambda sql: sql
    ) -> None:
        """``connect`` opens a connection of a user; ``port`` is that of a service that the server must not
        talk to; ``changed`` makes of each statement the one that is executed.
        """
        self._connect, self._port, self._changed = connect, port, changed
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
            thread.join(_END)
        assert not any(thread.is_alive() for thread in self._threads), "a statement goes on"

    def _login(self) -> Any:
        return self._connect(user="guest")

    def _attack(self, number: int) -> None:
        choice = random.Random(number)
        while not self._stop.is_set():
            # Until it is killed.
            with contextlib.suppress(pymysql.MySQLError, OSError), self._login() as connection:
                self._ids[number] = connection.thread_id()
                while not self._stop.is_set():
                    self.done[number] += 1
                    with contextlib.suppress(pymysql.MySQLError), connection.cursor() as cursor:
                        cursor.execute(self._changed(self._statement(choice)))
                    connection.ping(reconnect=False)

    def _statement(self, choice: random.Random) -> str:
        if choice.random() < 0.3:
            return f"SELECT gman_configure('{choice.choice(_NAMES)}', {choice.choice(_VALUES)})"
        return choice.choice(_STATEMENTS).format(n=choice.randrange(400), port=self._port)

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

    def __init__(self, connect: Callable[..., Any], own: int) -> None:
        super().__init__()
        self._connect, self._own = connect, own
        #: Seconds of each write.
        self.took: list[float] = []
        self.error: BaseException | None = None
        self.stop = threading.Event()

    def run(self) -> None:
        try:
            with self._connect() as connection, connection.cursor() as cursor:
                while not self.stop.is_set():
                    began = time.monotonic()
                    cursor.execute(f"UPDATE test.accounts SET balance = balance + 1 WHERE id = {self._own}")
                    self.took.append(time.monotonic() - began)
        except BaseException as error:  # noqa: BLE001 - a thread's error must reach the test
            self.error = error


@contextlib.contextmanager
def writing(connect: Callable[..., Any]) -> Iterator[list[Writer]]:
    writers = [Writer(connect, own) for own in range(1, WRITERS + 1)]
    for one in writers:
        one.start()
    try:
        yield writers
    finally:
        for one in writers:
            one.stop.set()
        for one in writers:
            one.join()
