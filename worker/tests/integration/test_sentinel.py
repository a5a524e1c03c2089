"""The whole worker, verify and resync with a Redis that Sentinel finds, and that is another one after a failover."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.ports import free_port
from harness.process import Process
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

TABLE: dict[str, Any] = {"table": "shop.item", "delivery": "durable", "columns": ["id", "name"], "write": [{"type": "hash", "key": "item:{id}"}]}
#: Milliseconds after which Sentinel takes the master for dead: an hour, and soon.
NEVER, SOON = 3_600_000, 500


class Sentinel(Process):
    """A Sentinel that knows a master, and finds its replica."""

    def __init__(self, directory: pathlib.Path, master: RedisServer) -> None:
        self.master, self.port = master, free_port()
        file = directory / "sentinel.conf"
        file.write_text(
            f"port {self.port}\ndir {directory}\nsentinel monitor shop 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds shop {NEVER}\nsentinel failover-timeout shop 5000\n")
        super().__init__("sentinel", [master.command[0], file, "--sentinel"], directory / "sentinel.log")
        self.client = redis.Redis(port=self.port, decode_responses=True, socket_timeout=60)
        until(self._knows_the_replica)

    def _knows_the_replica(self) -> bool:
        try:
            return len(self.client.sentinel_slaves("shop")) == 1
        except redis.RedisError:
            return False

    def stop_master(self) -> None:
        self._stopped = time.monotonic()
        self.master.stop()

    def fail_over(self, replica: RedisServer) -> None:
        """Wait until the replica has the place of the stopped master."""
        limit = 0

        def done() -> bool:
            nonlocal limit
            silent = int((time.monotonic() - self._stopped) * 1000)
            # A replica that has been without its master for ten times the limit is not taken, and Sentinel does nothing for half a minute
            # after it stood still: the limit grows with the time.
            if not limit or silent > 4 * limit:
                limit = max(SOON, silent // 2)
                self._take_for_dead_after(limit)
            return bool(replica.client.role()[0] == b"master")

        until(done)
        # The new master may be as slow as it is.
        self._take_for_dead_after(NEVER)
        until(lambda: self._knows_as_master(replica))

    def _take_for_dead_after(self, milliseconds: int) -> None:
        self.client.execute_command("SENTINEL", "SET", "shop", "down-after-milliseconds", milliseconds)

    def _knows_as_master(self, server: RedisServer) -> bool:
        master = self.client.sentinel_master("shop")
        return bool(master["port"] == server.port and not master["is_sdown"] and not master["is_odown"])

    def remove(self) -> None:
        """End it."""
        self.client.close()
        self.kill()


@pytest.fixture
def master() -> Iterator[RedisServer]:
    """A Redis of this test alone: a failover changes what it is."""
    server = RedisServer()
    yield server
    server.remove()


@pytest.fixture
def replica(master: RedisServer) -> Iterator[RedisServer]:
    """A replica of the master, in step with it."""
    server = RedisServer("--replicaof", f"127.0.0.1 {master.port}")
    until(lambda: server.client.info("replication").get("master_link_status"), "up")
    yield server
    server.remove()


@pytest.fixture
def sentinel(master: RedisServer, replica: RedisServer, tmp_path: pathlib.Path) -> Iterator[Sentinel]:
    server = Sentinel(tmp_path, master)
    yield server
    server.remove()


@pytest.fixture
def synced(database: OutboxDatabase) -> OutboxDatabase:
    """The database with a table and its triggers."""
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    database.sync_table(**TABLE)
    return database


def test_worker_verify_and_resync_follow_a_failover(
    synced: OutboxDatabase, replica: RedisServer, sentinel: Sentinel, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    database, master = synced, sentinel.master
    config = worker_config({"sentinels": [f"127.0.0.1:{sentinel.port}"], "sentinel_master": "shop"}, [TABLE], database.account)
    commands = Commands(config, tmp_path)
    start_worker(config)
    database.execute("INSERT INTO shop.item SELECT seq, 'before' FROM (" + " UNION ALL ".join(f"SELECT {n} AS seq" for n in range(1, 301)) + ") AS numbers")
    until(lambda: database.waiting, 0)
    assert commands.verify()[0] == 0
    assert master.client.exists("item:300") == 1
    # What the old one alone has is lost in any failover; here it has nothing alone.
    until(lambda: master.client.wait(1, 10_000), 1)

    sentinel.stop_master()
    database.execute("UPDATE shop.item SET name = 'meanwhile' WHERE id <= 100", "DELETE FROM shop.item WHERE id > 250")
    sentinel.fail_over(replica)
    until(lambda: database.waiting, 0)
    assert replica.client.hget("item:100", "name") == b"meanwhile"
    assert replica.client.exists("item:251") == 0
    assert commands.verify()[0] == 0

    replica.client.flushall()
    assert commands.verify()[0] == 1
    commands.done("resync")
    assert commands.verify()[0] == 0


def test_a_change_stays_in_the_outbox_until_as_many_replicas_as_are_asked_for_have_it(
    synced: OutboxDatabase, master: RedisServer, replica: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    database = synced
    worker = start_worker(worker_config({"port": master.port, "replicas": 1, "replicas_timeout": 0.2}, [TABLE], database.account))
    database.execute("INSERT INTO shop.item VALUES (1, 'one')")
    until(lambda: database.waiting, 0)
    assert replica.client.hget("item:1", "name") == b"one"

    replica.stop()
    database.execute("INSERT INTO shop.item VALUES (2, 'two')")
    worker.says("0 of 1 replicas had the batch after 0.2 s")
    until(lambda: master.client.hget("item:2", "name"), b"two")
    assert database.waiting == 1
    replica.start()
    until(lambda: database.waiting, 0)
    assert replica.client.hget("item:2", "name") == b"two"
