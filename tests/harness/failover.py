# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and a replica that take each other's place while applications write, and what Redis must have
of it: nothing here is shared with the worker or with `gearsync verify`.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from typing import Any, Protocol

import pymysql

from harness import replication
from harness.database import initial_data
from harness.waiting import until

#: As on a primary that loses nothing that it has acknowledged.
DURABLE = ["--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1", "--read-only=ON"]
#: Who the worker and the application are: without the rights by which root writes to a read-only server.
RIGHTS = {
    "gearsync": [
        "SELECT, INSERT, UPDATE, DELETE, EXECUTE ON gearsync.*",
        "SELECT ON shop.item",
    ],
    "app": ["SELECT, INSERT, UPDATE, DELETE ON shop.*"],
    "replica": ["REPLICATION SLAVE ON *.*"],
}


def accounts() -> list[str]:
    """The statements that make the accounts."""
    return [
        statement
        for name, rights in RIGHTS.items()
        for statement in (f"CREATE USER {name}@'%'", *[f"GRANT {right} TO {name}@'%'" for right in rights])
    ]


#: Rows of each writer.
KEYS = 8
TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "version", "name"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "set", "key": "name:{name}", "member": "{id}"},
        {"type": "zset", "key": "all", "member": "{id}", "score": "{version}"},
        {"type": "list", "key": "log", "value": "{id}:{version}"},
        {"type": "stream", "key": "changes"},
    ],
}


class Member(replication.Member):
    """One of the two servers."""

    def __init__(self, number: int) -> None:
        """``number``: its server_id."""
        super().__init__(number, *DURABLE)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def follow(self, primary: replication.Member, channel: str = "") -> None:
        """Replicate from another server, and take no writes of others."""
        if self.engine == "mysql":
            self.execute("SET GLOBAL super_read_only=ON")
        else:
            # What a former primary has written itself it has not got as a replica.
            if position := self.gtids:
                self.execute(f"SET GLOBAL gtid_slave_pos='{position}'")
            self.execute("SET GLOBAL read_only=ON")
        super().follow(primary, channel)

    def become_copy(self, primary: Member) -> None:
        """Lose all data, and get another server's; MariaDB only."""
        if self.running:
            self.stop(signal.SIGKILL)
        data = self.directory / "data"
        shutil.rmtree(data)
        subprocess.run(
            ["cp", "--archive", "--reflink=auto", "--sparse=always", initial_data(), data], check=True
        )
        self.start()
        login = ["--no-defaults", "--user=root"]
        dump = ["mariadb-dump", *login, f"--socket={primary.socket}", "--single-transaction", "--routines"]
        dump += ["--master-data=1", "--gtid", "--databases", "shop", "gearsync"]
        load = ["mariadb", *login, f"--socket={self.socket}", "--init-command=SET sql_log_bin=0"]
        content = subprocess.run(dump, check=True, capture_output=True).stdout
        subprocess.run(load, check=True, input=content)
        self.execute("SET sql_log_bin=0", *accounts())
        self.follow(primary)

    def stop_receiving(self) -> None:
        """From now on it lags."""
        self.execute(f"STOP {'REPLICA' if self.engine == 'mysql' else 'SLAVE'} IO_THREAD")

    def promote(self) -> float:
        """Become the primary. Returns when it was writable, by the monotonic clock."""
        # What was received is applied first.
        until(self._has_applied)
        self.forget_source()
        self.set_writable(True)
        return time.monotonic()

    def set_writable(self, writable: bool) -> None:
        self.execute(f"SET GLOBAL read_only={'OFF' if writable else 'ON'}")

    def _has_applied(self) -> bool:
        (channel,) = self.channels()
        error = channel["last_sql_error"]
        assert not error, error
        return "has read all relay log" in channel["replica_sql_running_state"]


class Pair:
    """Two members; ``primary`` is the one that takes writes."""

    def __init__(self) -> None:
        self.members = [Member(1), Member(2)]
        self.primary, self.replica = self.members

    def __enter__(self) -> Pair:
        first, second = self.members
        first.reset()
        first.set_writable(True)
        first.execute(
            "CREATE TABLE shop.item (id INT PRIMARY KEY, version INT, name VARCHAR(40)) ENGINE=InnoDB",
            "CREATE TABLE shop.history (id INT, version INT, event VARCHAR(6), PRIMARY KEY (id, version)) "
            "ENGINE=InnoDB",
        )
        first.execute(*accounts())
        first.sync_table(**TABLE)
        second.follow(first)
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        for member in self.members:
            if member.running:
                member.signal(signal.SIGCONT)
            member.remove()

    @property
    def account(self) -> dict[str, Any]:
        """A worker's configuration's `mysql`."""
        return {
            "user": "gearsync",
            "members": [{"host": "127.0.0.1", "port": self.members[0].port}, self.members[1].address],
        }

    def wait(self) -> None:
        """Wait until the replica has what the primary has."""
        until(lambda: self.replica.gtids == self.primary.gtids)

    def wait_until_close(self) -> None:
        """Wait until the replica is not far behind, while the primary is written to."""
        ((late,),) = self.replica.execute(f"SELECT MASTER_GTID_WAIT('{self.primary.gtids}', 60)")
        assert late == 0, self.replica.execute("SHOW SLAVE STATUS")

    def wait_until_drained(self) -> None:
        """Wait until nothing is left in the primary's outbox."""
        until(lambda: self.primary.waiting, 0)

    def switch(self) -> float:
        """As an orchestrator does it: nothing is lost. Returns when the new primary was writable."""
        self.primary.set_writable(False)
        self.wait()
        moment = self.replica.promote()
        self.primary, self.replica = self.replica, self.primary
        self.replica.follow(self.primary)
        return moment

    def fail_over(self, lost: float = 0.0, number: int = signal.SIGKILL) -> float:
        """The primary is killed, or frozen; what it commits in its last ``lost`` seconds is nowhere else."""
        if lost:
            self.replica.stop_receiving()
            time.sleep(lost)
        self.primary.forget()
        self.primary.signal(number)
        if number == signal.SIGKILL:
            self.primary.wait()
        moment = self.replica.promote()
        self.primary, self.replica = self.replica, self.primary
        return moment


class Primary(Protocol):
    """A server that applications write to."""

    def connect(self, *, user: str, **options: Any) -> Any: ...

    def execute(self, statement: str, /) -> Any: ...


class Switching(Protocol):
    """Servers of which one is the primary."""

    @property
    def primary(self) -> Primary: ...


class Application:
    """Threads that write to the primary, whichever that is. Each row has one writer, and a version that only
    rises; what is committed has a row in `shop.history` in the same transaction.
    """

    def __init__(self, pair: Switching, writers: int = 3) -> None:
        self.pair, self.number = pair, writers
        self.ids = [1000 * writer + key for writer in range(writers) for key in range(KEYS)]
        self.counts = [0] * writers
        #: What was committed by the server's word: (row, version).
        self.acknowledged: set[tuple[int, int]] = set()
        self._versions = itertools.count(1)
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Application:
        self._stop.clear()
        self._threads = [
            threading.Thread(target=self._run, args=(writer,), daemon=True) for writer in range(self.number)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads), "a writer has not ended"

    def _run(self, writer: int) -> None:
        chance = random.Random(writer)
        while not self._stop.is_set():
            primary = self.pair.primary
            with (
                contextlib.suppress(pymysql.MySQLError, OSError),
                primary.connect(user="app", autocommit=False, read_timeout=1) as connection,
            ):
                while not self._stop.is_set() and self.pair.primary is primary:
                    self._write(connection, 1000 * writer + chance.randrange(KEYS), chance)
                    self.counts[writer] += 1
                    time.sleep(0.005)
            time.sleep(0.02)

    def _write(self, connection: Any, row: int, chance: random.Random) -> None:
        version = next(self._versions)
        with connection.cursor() as cursor:
            cursor.execute("SELECT version FROM shop.item WHERE id = %s", (row,))
            known = cursor.fetchall()
            event = "insert" if not known else "delete" if chance.random() < 0.3 else "update"
            cursor.execute(
                {
                    "insert": f"INSERT INTO shop.item VALUES ({row}, {version}, 'n{version % 7}')",
                    "update": f"UPDATE shop.item SET version = {version}, name = 'n{version % 7}' WHERE "
                    f"id = {row}",
                    "delete": f"DELETE FROM shop.item WHERE id = {row}",
                }[event]
            )
            cursor.execute("INSERT INTO shop.history VALUES (%s, %s, %s)", (row, version, event))
        connection.commit()
        self.acknowledged.add((row, version))

    def go_on(self) -> None:
        """Wait until each thread has done a write that began after this call."""
        wanted = [count + 2 for count in self.counts]
        until(lambda: all(count >= least for count, least in zip(self.counts, wanted)))


def differences(primary: Primary, redis: Any) -> dict[str, Any]:
    """The keys of rows that are not as the primary has them: (wanted, what is there)."""
    rows = primary.execute("SELECT id, version, name FROM shop.item")
    wanted: dict[str, Any] = {"all": {str(row): version for row, version, _name in rows}}
    for row, version, name in rows:
        wanted[f"item:{row}"] = {"id": str(row), "version": str(version), "name": name}
        wanted.setdefault(f"name:{name}", set()).add(str(row))
    actual: dict[str, Any] = {
        "all": {member.decode(): int(score) for member, score in redis.zrange("all", 0, -1, withscores=True)}
    }
    for key in redis.keys("item:*"):
        actual[key.decode()] = {name.decode(): value.decode() for name, value in redis.hgetall(key).items()}
    for key in redis.keys("name:*"):
        actual[key.decode()] = {member.decode() for member in redis.smembers(key)}
    return {
        place: (wanted.get(place), actual.get(place))
        for place in wanted.keys() | actual.keys()
        if wanted.get(place) != actual.get(place)
    }


def entries(redis: Any) -> Counter[tuple[int, int]]:
    """How often the stream has each change that is not a deletion: (row, version)."""
    return Counter(
        (int(fields[b"id"]), int(fields[b"version"]))
        for _id, fields in redis.xrange("changes")
        if fields[b"event"] != b"delete"
    )


class Stream:
    """The stream's entries, beside what the primary has committed."""

    def __init__(self, primary: Primary, redis: Any) -> None:
        written = entries(redis)
        committed = {
            (row, version)
            for row, version, event in primary.execute("SELECT id, version, event FROM shop.history")
            if event != "delete"
        }
        #: Committed changes without an entry, entries of changes that the primary does not have, and entries
        #: that are there twice.
        self.committed = len(committed)
        self.missing = committed - written.keys()
        self.lost = written.keys() - committed
        self.repeated = {change for change, number in written.items() if number > 1}
