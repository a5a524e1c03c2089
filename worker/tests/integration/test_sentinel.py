"""The whole worker, verify and resync with a Redis that Sentinel finds, and that is another one after a failover."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from conftest import Database, Redis, Server, Worker, free_port, until
from test_operate import Commands, sync_table

TABLE: dict[str, Any] = {"table": "shop.item", "delivery": "durable", "columns": ["id", "name"], "write": [{"type": "hash", "key": "item:{id}"}]}
PROGRAM = shutil.which("redis-server") or "valkey-server"


class Replica(Server):
    """A replica, and its client."""

    def __init__(self, directory: pathlib.Path, master: Redis) -> None:
        directory.mkdir()
        port = free_port()
        self.client = redis.Redis(port=port)
        super().__init__([PROGRAM, "--port", str(port), "--dir", str(directory), "--replicaof", f"127.0.0.1 {master.port}"], port)
        until(lambda: self.client.info("replication").get("master_link_status"), "up")


@pytest.fixture
def replica(redis_server: Redis, tmp_path: pathlib.Path) -> Iterator[Replica]:
    """A replica of the fixture's Redis, in step with it."""
    server = Replica(tmp_path / "replica", redis_server)
    yield server
    server.client.close()
    server.stop()


@pytest.fixture
def settings(redis_server: Redis, replica: Replica, tmp_path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """How to find the master by a Sentinel that knows both."""
    port, path = free_port(), tmp_path / "sentinel.conf"
    path.write_text(
        f"port {port}\ndir {tmp_path}\nsentinel monitor shop 127.0.0.1 {redis_server.port} 1\n"
        "sentinel down-after-milliseconds shop 500\nsentinel failover-timeout shop 5000\n")
    server = Server([PROGRAM, str(path), "--sentinel"], port)
    with redis.Redis(port=port, decode_responses=True) as client:
        until(lambda: len(client.sentinel_slaves("shop")), 1)
    yield {"sentinels": [f"127.0.0.1:{port}"], "sentinel_master": "shop"}
    server.stop()


@pytest.fixture
def commands(database: Database, settings: dict[str, Any], start_worker: Callable[..., Worker], tmp_path: pathlib.Path) -> Commands:
    """A synced table, a worker, and the command line."""
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    sync_table(database, **TABLE)
    config = {
        "job_servers": [f"127.0.0.1:{free_port()}"], "redis": settings, "mysql": {"user": "root", "unix_socket": database.socket},
        "worker": {"lease": 2.0, "io_timeout": 2.0, "reconnect_max": 0.5}, "tables": [TABLE],
    }
    start_worker(config)
    return Commands(config, tmp_path)


def test_worker_verify_and_resync_follow_a_failover(commands: Commands, database: Database, redis_server: Redis, replica: Replica) -> None:
    database.execute("INSERT INTO shop.item SELECT seq, 'before' FROM (" + " UNION ALL ".join(f"SELECT {n} AS seq" for n in range(1, 301)) + ") AS numbers")
    until(lambda: database.waiting, 0)
    assert commands.verify()[0] == 0
    assert redis_server.client.exists("item:300") == 1
    # What the old one alone has is lost in any failover; here it has nothing alone.
    assert redis_server.client.wait(1, 10_000) == 1

    redis_server.stop()
    database.execute("UPDATE shop.item SET name = 'meanwhile' WHERE id <= 100", "DELETE FROM shop.item WHERE id > 250")
    until(lambda: replica.client.role()[0], b"master", seconds=60)
    until(lambda: database.waiting, 0, seconds=60)
    assert replica.client.hget("item:100", "name") == b"meanwhile"
    assert replica.client.exists("item:251") == 0
    assert commands.verify()[0] == 0

    replica.client.flushall()
    assert commands.verify()[0] == 1
    assert commands.run("resync")[0] == 0
    assert commands.verify()[0] == 0


def test_a_change_stays_in_the_outbox_until_as_many_replicas_as_are_asked_for_have_it(
    database: Database, redis_server: Redis, replica: Replica, start_worker: Callable[..., Worker]
) -> None:
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    sync_table(database, **TABLE)
    worker = start_worker({
        "job_servers": [f"127.0.0.1:{free_port()}"], "redis": {"port": redis_server.port, "replicas": 1, "replicas_timeout": 0.2},
        "mysql": {"user": "root", "unix_socket": database.socket}, "worker": {"lease": 2.0, "io_timeout": 2.0, "reconnect_max": 0.2}, "tables": [TABLE],
    })
    database.execute("INSERT INTO shop.item VALUES (1, 'one')")
    until(lambda: database.waiting, 0)
    assert replica.client.hget("item:1", "name") == b"one"

    replica.stop()
    database.execute("INSERT INTO shop.item VALUES (2, 'two')")
    until(lambda: "0 of 1 replicas had the batch after 0.2 s" in worker.log.read_text())
    assert redis_server.client.hget("item:2", "name") == b"two"
    assert database.waiting == 1
    replica.start()
    until(lambda: database.waiting, 0)
    assert replica.client.hget("item:2", "name") == b"two"
