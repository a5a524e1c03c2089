# SPDX-License-Identifier: GPL-3.0-or-later
"""What may happen beside a drain without stopping or corrupting it: late packets, a Redis that steps
back, open transactions, paused processes.
"""

from __future__ import annotations

import pathlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gearsync.declare.configuration import RedisSettings
from gearsync.servers.redis import ServerTarget
from gearsync.servers.redis_errors import Unavailable
from harness.commands import Commands
from harness.gearmand import Gearmand
from harness.late_proxy import LateProxy
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import SOURCES, Worker, worker_config

ITEM: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "set", "key": "name:{name}", "member": "{id}"},
        {"type": "zset", "key": "all", "member": "{id}", "score": "{id}"},
        {"type": "list", "key": "log", "value": "{name}"},
        {"type": "stream", "key": "changes"},
    ],
}


@pytest.fixture
def item(database: OutboxDatabase) -> OutboxDatabase:
    """A synced table of few rows."""
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    database.sync_table(**ITEM)
    return database


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[LateProxy]:
    proxy = LateProxy(redis_server.port)
    yield proxy
    proxy.close()


def applied(database: OutboxDatabase) -> None:
    until(lambda: database.waiting, 0)


def test_a_batch_that_arrives_late_changes_nothing(
    item: OutboxDatabase, redis_server: RedisServer, proxy: LateProxy, start_worker: Callable[..., Worker]
) -> None:
    r = redis_server.client
    worker = start_worker(worker_config(proxy.port, [ITEM], item.account, io_timeout=1.0))
    item.execute("INSERT INTO shop.item VALUES (1, 'a'), (2, 'b')")
    applied(item)
    proxy.hold()
    item.execute(
        "UPDATE shop.item SET name = 'c' WHERE id = 1", "UPDATE shop.item SET name = 'd' WHERE id = 2"
    )
    # The worker has sent them, and given up the answer.
    worker.says("action=redis_lost ")
    assert proxy.held
    proxy.pass_on()
    applied(item)
    item.execute("UPDATE shop.item SET name = 'e' WHERE id = 1", "DELETE FROM shop.item WHERE id = 2")
    applied(item)
    proxy.deliver()
    until(lambda: proxy.held, 0)
    # It has arrived when the same server answers a later command.
    item.execute("INSERT INTO shop.item VALUES (3, 'f')")
    applied(item)
    assert r.hgetall("item:1") == {b"id": b"1", b"name": b"e"}
    assert not r.exists("item:2")
    assert {key: r.smembers(key) for key in r.keys("name:*")} == {b"name:e": {b"1"}, b"name:f": {b"3"}}
    assert r.zrange("all", 0, -1) == [b"1", b"3"]
    # The newest entry of a deleted row is removed.
    assert r.lrange("log", 0, -1) == [b"a", b"b", b"c", b"e", b"f"]
    assert [fields[b"event"] for _id, fields in r.xrange("changes")] == [
        b"insert",
        b"insert",
        b"update",
        b"update",
        b"update",
        b"delete",
        b"insert",
    ]


def test_a_redis_that_fails_over_to_a_replica_without_the_last_changes_gets_them_again(
    item: OutboxDatabase, redis_server: RedisServer, proxy: LateProxy, start_worker: Callable[..., Worker]
) -> None:
    replica = RedisServer()
    try:
        redis_server.client.config_set("repl-diskless-sync-delay", 0)
        replica.client.replicaof("127.0.0.1", redis_server.port)
        worker = start_worker(worker_config(proxy.port, [ITEM], item.account, keep=3600.0))
        item.execute("INSERT INTO shop.item VALUES (1, 'a'), (2, 'b')")
        until(lambda: replica.client.exists("item:1", "item:2"), 2)
        replica.client.replicaof("NO", "ONE")
        # In batches of their own, in both shards.
        item.execute("UPDATE shop.item SET name = 'c' WHERE id = 1")
        until(lambda: redis_server.client.hget("item:1", "name"), b"c")
        item.execute("DELETE FROM shop.item WHERE id = 2")
        until(lambda: redis_server.client.exists("item:2"), 0)
        for number in range(3, 10):
            item.execute(f"INSERT INTO shop.item VALUES ({number}, 'n{number}')")
            until(lambda key=number: redis_server.client.exists(f"item:{key}"), 1)
        proxy.switch(replica.port)
        # By itself, without another change.
        r = replica.client
        until(lambda: r.exists("item:9"), 1)
        worker.says("action=redis_stepped_back")
        item.execute("INSERT INTO shop.item VALUES (10, 'n10')")
        until(lambda: r.exists("item:10"), 1)
        assert r.hget("item:1", "name") == b"c"
        assert not r.exists("item:2")
        assert r.zrange("all", 0, -1) == [b"%d" % number for number in (1, *range(3, 11))]
        assert r.lrange("log", 0, -1) == [b"a", b"c", *(b"n%d" % number for number in range(3, 11))]
        assert [fields[b"event"] for _id, fields in r.xrange("changes")] == [
            b"insert",
            b"insert",
            b"update",
            b"delete",
            *[b"insert"] * 8,
        ]
        assert "action=redis_lost_data" not in worker.said
    finally:
        replica.remove()


@pytest.mark.parametrize("way", ["open", "prepared"])
def test_a_transaction_that_does_not_end_delays_only_its_own_changes(
    item: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker], way: str
) -> None:
    r = redis_server.client
    begin, end = (("START TRANSACTION",), "COMMIT") if way == "open" else (("XA START 'x'",), "XA COMMIT 'x'")
    worker = start_worker(worker_config(redis_server.port, [ITEM], item.account))
    item.execute("INSERT INTO shop.item VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')")
    with item.connect() as writer, writer.cursor() as cursor:
        for statement in (
            *begin,
            "INSERT INTO shop.item VALUES (100, 'open')",
            *(("XA END 'x'", "XA PREPARE 'x'") if way == "prepared" else ()),
        ):
            cursor.execute(statement)
        for number in range(5, 40):
            item.execute(f"INSERT INTO shop.item VALUES ({number}, 'x')")
        until(lambda: r.exists(*[f"item:{number}" for number in range(1, 40)]), 39)
        # They are also deleted while it is open.
        until(lambda: item.waiting, 0)
        assert not r.exists("item:100")
        cursor.execute(end)
    until(lambda: r.exists("item:100"), 1)
    assert "action=mysql_lost" not in worker.said


def test_a_frozen_process_delays_its_own_shards_only(
    item: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    def owners() -> int:
        return len(item.execute("SELECT DISTINCT owner FROM gearsync.lease WHERE owner IS NOT NULL"))

    config = worker_config(redis_server.port, [ITEM], item.account, lease=2.0)
    item.execute("INSERT INTO shop.item VALUES (1, 'a'), (2, 'b')")
    first = start_worker(config)
    until(owners, 1)
    second = start_worker(config)
    until(owners, 2)
    # In the middle of its work.
    for number in range(3, 30):
        item.execute(f"INSERT INTO shop.item VALUES ({number}, 'x')")
    first.pause()
    for number in range(30, 60):
        item.execute(f"INSERT INTO shop.item VALUES ({number}, 'x')")
    until(lambda: redis_server.client.exists(*[f"item:{number}" for number in range(1, 60)]), 59)
    assert "action=mysql_lost" not in second.said
    item.execute("UPDATE shop.item SET name = 'y'")
    until(lambda: redis_server.client.smembers("name:y"), {b"%d" % number for number in range(1, 60)})
    first.resume()
    item.execute("UPDATE shop.item SET name = 'z' WHERE id = 7")
    until(lambda: item.waiting, 0)
    assert redis_server.client.hget("item:7", "name") == b"z"
    assert redis_server.client.llen("log") == 59 + 59 + 1


def test_what_a_killed_worker_held_is_taken_at_once_by_the_next_one_on_its_host(
    item: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    config = worker_config(redis_server.port, [ITEM], item.account, lease=600.0)
    worker = start_worker(config)
    item.execute("INSERT INTO shop.item VALUES (1, 'a')")
    applied(item)
    worker.kill()
    start_worker(config)
    item.execute("INSERT INTO shop.item VALUES (2, 'b')")
    applied(item)
    assert redis_server.client.lrange("log", 0, -1) == [b"a", b"b"]
    # Nor does one of them have a share of the shards any more.
    until(lambda: len(item.execute("SELECT owner FROM gearsync.worker")), 1)


def test_idle_connections_that_redis_and_the_database_close_are_not_an_outage(
    item: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    # MySQL subtracts whole seconds: a session that looks four times a second is there with a time of 1.
    idle = (
        "SELECT id FROM information_schema.processlist WHERE time >= 3 AND command = 'Sleep' AND id <> "
        "CONNECTION_ID()"
    )
    r = redis_server.client
    worker = start_worker(worker_config(redis_server.port, [ITEM], item.account))
    for number in range(3):
        item.execute(f"INSERT INTO shop.item VALUES ({number}, 'x')")
        applied(item)
        r.config_set("timeout", 1)
        until(lambda: len(r.client_list()), 1)
        until(lambda: item.execute(idle))
        item.execute(*[f"KILL {number}" for (number,) in item.execute(idle)])
        r.config_set("timeout", 0)
    assert r.llen("log") == 3
    assert "_lost" not in worker.said.replace("job_server_lost", "")


@pytest.fixture
def silent_names(tmp_path: pathlib.Path) -> dict[str, str]:
    """An environment in which the name server does not answer for names with ``.silent``."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, time\nasked = socket.getaddrinfo\n"
        "def ask(host, *arguments, **options):\n"
        "    if '.silent' in str(host):\n        time.sleep(3600)\n"
        "    return asked(host, *arguments, **options)\nsocket.getaddrinfo = ask\n"
    )
    return {"PYTHONPATH": f"{tmp_path}:{SOURCES}"}


def test_a_name_server_that_does_not_answer_for_a_job_server_delays_nothing(
    item: OutboxDatabase,
    redis_server: RedisServer,
    gearmand: Gearmand,
    start_worker: Callable[..., Worker],
    silent_names: dict[str, str],
) -> None:
    config = worker_config(redis_server.port, [ITEM], item.account, job_server=gearmand.address)
    config["job_servers"].insert(0, "jobs.silent")
    start_worker(config, silent_names, program=True)
    item.execute("INSERT INTO shop.item VALUES (1, 'a')")
    applied(item)
    gearmand.submit("syncToRedis", b'{"name":"served"}')
    until(lambda: redis_server.client.get("name"), b"served")
    assert redis_server.client.hget("item:1", "name") == b"a"


def test_a_redis_whose_name_is_not_resolved_does_not_stop_the_process(
    item: OutboxDatabase,
    start_worker: Callable[..., Worker],
    silent_names: dict[str, str],
    tmp_path: pathlib.Path,
) -> None:
    config = worker_config({"host": "redis.silent"}, [ITEM], item.account)
    worker = start_worker(config, silent_names, program=True)
    item.execute("INSERT INTO shop.item VALUES (1, 'a')")
    worker.says("action=redis_lost")
    assert "no name server has answered for redis.silent" in worker.said
    # It reads the outbox and answers meanwhile.
    until(lambda: item.execute("SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL")[0][0] > 0)
    assert Commands(config, tmp_path).run("check-config")[0] == 0


class Silent:
    """A host that accepts connections and sends nothing."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.accepted.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self.accepted:
            each.close()


def test_each_sentinel_is_asked_once_before_the_attempt_is_over() -> None:
    silent = [Silent(), Silent(), Silent()]
    try:
        target = ServerTarget(
            RedisSettings(sentinels=[each.address for each in silent], sentinel_master="shop"), 0.6
        )
        with pytest.raises(Unavailable, match="shop"):
            target.ping()
        until(lambda: [len(each.accepted) for each in silent], [1, 1, 1])
        target.close()
    finally:
        for each in silent:
            each.close()
