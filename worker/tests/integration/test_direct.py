# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker with a real job server and a real Redis, which are both killed."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from harness.gearman_protocol import JOB_CREATED, WORK_COMPLETE, WORK_DATA
from harness.gearmand import Gearmand
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, unused_port, worker_config

USER_LIST = {
    "table": "test.user_list",
    "delivery": "direct",
    "events": ["insert", "update"],
    "columns": ["name", "password"],
    "write": [{"type": "string", "key": "{column}"}],
}
TABLES = [
    {
        "table": "shop.item",
        "delivery": "direct",
        "function": "shop",
        "columns": ["id", "name", "price"],
        "write": [
            {"type": "hash", "key": "item:{id}"},
            {"type": "json", "key": "doc:{id}", "ttl": 3600},
            {"type": "set", "key": "by-name:{name}", "member": "{id}"},
            {"type": "zset", "key": "by-price", "member": "{id}", "score": "{price}"},
            {"type": "list", "key": "log", "value": "{id}", "max": 2},
            {"type": "stream", "key": "changes", "maxlen": 1000},
            {"type": "string", "key": "price:{id}", "value": "{price}"},
        ],
    },
]


def config(
    gearmand: Gearmand, redis_server: RedisServer, tables: list[dict[str, Any]] = TABLES, **worker: Any
) -> dict[str, Any]:
    return worker_config(redis_server.port, tables, job_server=gearmand.address, **worker)


def change(table: str, event: str, **rows: Any) -> bytes:
    return json.dumps({"$gearsync": 1, "table": table, "event": event, **rows}).encode()


@pytest.fixture
def worker(gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker]) -> Worker:
    return start_worker(config(gearmand, redis_server))


def test_reverse_sends_its_input_as_data_and_completes_with_the_reversed_text(
    worker: Worker, gearmand: Gearmand
) -> None:
    assert gearmand.do("reverse", "hello wörld!".encode()) == [
        (JOB_CREATED, b""),
        (WORK_DATA, "hello wörld!".encode()),
        (WORK_COMPLETE, "!dlröw olleh".encode()),
    ]
    assert gearmand.do("reverse", b"\xff\x00ab")[-1] == (WORK_COMPLETE, b"ba\x00\xff")


def test_the_articles_flat_payload_becomes_one_string_per_member(
    worker: Worker, gearmand: Gearmand, redis_server: RedisServer
) -> None:
    gearmand.submit("syncToRedis", b'{"name":"hello","password":"world"}')
    until(lambda: redis_server.client.mget("name", "password"), [b"hello", b"world"])


def test_a_row_is_written_in_every_shape_and_a_delete_takes_it_away(
    worker: Worker, gearmand: Gearmand, redis_server: RedisServer
) -> None:
    gearmand.submit("shop", change("shop.item", "insert", new={"id": 7, "name": "Zoë", "price": 1.5}))
    r = redis_server.client
    until(lambda: r.get("price:7"), b"1.5")
    assert r.hgetall("item:7") == {b"id": b"7", b"name": "Zoë".encode(), b"price": b"1.5"}
    assert json.loads(r.get("doc:7")) == {"id": 7, "name": "Zoë", "price": 1.5}
    assert 0 < r.ttl("doc:7") <= 3600
    assert r.smembers("by-name:Zoë") == {b"7"}
    assert r.zrange("by-price", 0, -1, withscores=True) == [(b"7", 1.5)]
    assert r.lrange("log", 0, -1) == [b"7"]

    old = {"id": 7, "name": "Zoë", "price": 1.5}
    gearmand.submit("shop", change("shop.item", "update", old=old, new={"id": 8, "name": None, "price": 2}))
    until(lambda: r.get("price:8"), b"2")
    assert r.hgetall("item:8") == {b"id": b"8", b"price": b"2"}
    assert r.exists("item:7", "doc:7", "by-name:Zoë", "price:7") == 0
    assert r.zrange("by-price", 0, -1) == [b"8"]

    gearmand.submit("shop", change("shop.item", "delete", old={"id": 8, "name": None, "price": 2}))
    until(lambda: r.exists("item:8", "doc:8", "by-price", "price:8"), 0)
    assert [fields[b"event"] for _, fields in r.xrange("changes")] == [b"insert", b"update", b"delete"]


def test_jobs_of_a_table_that_was_direct_before_put_no_older_value_over_a_newer_one(
    gearmand: Gearmand,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
) -> None:
    r = redis_server.client
    tables = [{**table, "delivery": "durable"} for table in TABLES]
    worker = start_worker({**config(gearmand, redis_server, tables), "mysql": database.account})
    # Until the triggers are replaced there is nothing newer.
    gearmand.submit("shop", change("shop.item", "insert", new={"id": 7, "name": "x", "price": 1}))
    until(lambda: r.hget("item:7", "name"), b"x")
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40), price INT) ENGINE=InnoDB")
    database.sync_table(**tables[0])
    database.execute("INSERT INTO shop.item VALUES (7, 'newest', 1), (8, 'newest', 1)")
    until(lambda: r.hget("item:8", "name"), b"newest")
    until(lambda: database.waiting, 0)
    gearmand.submit(
        "shop",
        change("shop.item", "insert", new={"id": 7, "name": "older", "price": 1}),
        change("shop.item", "delete", old={"id": 8, "name": "newest", "price": 1}),
        change("shop.item", "insert", new={"id": 9, "name": "gone", "price": 1}),
        change("shop.item", "delete", old={"name": "none", "price": 1}),
    )
    until(lambda: gearmand.queue("shop")[0], 0)
    until(lambda: database.waiting, 0)
    assert r.hmget("item:7", "name") + r.hmget("item:8", "name") == [b"newest", b"newest"]
    assert r.exists("item:9", "by-name:gone", "by-name:older") == 0
    # An append to a list replaces no value.
    assert r.lrange("log", 0, -1) == [b"7", b"9"]
    assert "action=late_job" in worker.said
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_a_flat_payload_is_written_as_the_one_table_of_its_function_declares(
    gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(config(gearmand, redis_server, [USER_LIST]))
    gearmand.submit(
        "syncToRedis", b'{"name":"troy","secret":"not declared"}', b'{"name":"hello","password":"world"}'
    )
    until(lambda: redis_server.client.mget("name", "password"), [b"hello", b"world"])
    assert redis_server.client.exists("secret") == 0
    worker.says("'secret'")


def test_an_invalid_payload_is_logged_with_its_handle_and_delays_nothing(
    worker: Worker, gearmand: Gearmand, redis_server: RedisServer
) -> None:
    payloads = [
        b"not json",
        b"[1]",
        b"",
        b"\xff",
        b'{"$gearsync": 2}',
        b'{"a": {"b": 1}}',
        b"[" * 100_000,
        change("no.such", "insert", new={}),
        change("shop.item", "insert", new={"id": 1}),
    ]
    for number, payload in enumerate(payloads):
        # Each in a batch of its own.
        (handle,) = gearmand.submit("syncToRedis", payload)
        gearmand.submit("syncToRedis", b'{"alive":"%d"}' % number)
        until(lambda number=number: redis_server.client.get("alive"), b"%d" % number)
        until(lambda: gearmand.queue("syncToRedis")[:2], (0, 0))
        assert handle.decode() in worker.said, payload
    assert worker.said.count("action=malformed") == len(payloads)


def test_a_key_of_another_type_does_not_delay_the_others(
    worker: Worker, gearmand: Gearmand, redis_server: RedisServer
) -> None:
    redis_server.client.set("item:1", "not a hash")
    gearmand.submit(
        "shop",
        *[change("shop.item", "insert", new={"id": number, "name": "x", "price": 1}) for number in (1, 2)],
    )
    until(lambda: redis_server.client.hget("item:2", "name"), b"x")
    assert redis_server.client.smembers("by-name:x") == {b"1", b"2"}
    worker.says("action=refused")
    assert "WRONGTYPE" in worker.said


def test_later_jobs_of_a_batch_win(
    gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    first = start_worker(config(gearmand, redis_server))
    until(lambda: gearmand.queue("syncToRedis")[2], 1)
    first.kill()
    until(lambda: gearmand.queue("syncToRedis")[2], 0)
    gearmand.submit("syncToRedis", *[b'{"name":"%d"}' % number for number in range(5000)])
    first.start()
    until(lambda: gearmand.queue("syncToRedis")[0], 0)
    assert redis_server.client.get("name") == b"4999"


def test_nothing_is_lost_while_redis_is_down(
    worker: Worker, gearmand: Gearmand, redis_server: RedisServer
) -> None:
    gearmand.submit("syncToRedis", b'{"before":"1"}')
    until(lambda: redis_server.client.get("before"), b"1")
    redis_server.stop()
    gearmand.submit("syncToRedis", *[b'{"key%d":"%d"}' % (number, number) for number in range(500)])
    worker.says("action=redis_lost")
    # None of them may be completed, or a lost Redis would be a lost change.
    assert gearmand.queue("syncToRedis")[0] == 500
    redis_server.start()
    until(redis_server.client.dbsize, 501)
    until(lambda: gearmand.queue("syncToRedis")[0], 0)


def test_the_worker_reconnects_to_a_killed_job_server(
    worker: Worker, gearmand: Gearmand, redis_server: RedisServer
) -> None:
    until(lambda: gearmand.queue("syncToRedis")[2], 1)
    gearmand.stop()
    worker.says("action=job_server_lost")
    # Time for a few attempts; none is not a failure.
    time.sleep(0.5)
    gearmand.start()
    gearmand.submit("syncToRedis", b'{"name":"again"}')
    until(lambda: redis_server.client.get("name"), b"again")
    # One message for each change of state, however many attempts there were.
    assert worker.said.count("action=job_server_lost") == 1


def test_a_job_server_that_is_down_does_not_delay_the_other(
    gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    settings = config(gearmand, redis_server)
    settings["job_servers"].insert(0, f"127.0.0.1:{unused_port()}")
    start_worker(settings)
    gearmand.submit("syncToRedis", b'{"name":"served"}')
    until(lambda: redis_server.client.get("name"), b"served")


def test_jobs_in_hand_of_a_killed_worker_are_applied_by_the_next(
    gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(config(gearmand, redis_server))
    until(lambda: gearmand.queue("syncToRedis")[2], 1)
    for round_number in range(3):
        gearmand.submit(
            "syncToRedis", *[b'{"k%d-%d":"v"}' % (round_number, number) for number in range(3000)]
        )
        worker.kill()
        worker.start()
    until(lambda: gearmand.queue("syncToRedis")[0], 0)
    assert redis_server.client.dbsize() == 9000


def test_sigterm_finishes_the_batch_and_exits_with_0(
    worker: Worker, gearmand: Gearmand, redis_server: RedisServer
) -> None:
    until(lambda: gearmand.queue("syncToRedis")[2], 1)
    gearmand.submit("syncToRedis", *[b'{"k%d":"v"}' % number for number in range(5000)])
    assert worker.terminate() == 0
    until(lambda: gearmand.queue("syncToRedis")[1], 0)
    # A completed job is in Redis, any other is still queued.
    assert redis_server.client.dbsize() + gearmand.queue("syncToRedis")[0] >= 5000
    assert "action=stopped" in worker.said


def test_sigterm_while_redis_is_down_gives_the_jobs_back(
    gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(config(gearmand, redis_server, shutdown_timeout=1.0))
    until(lambda: gearmand.queue("syncToRedis")[2], 1)
    redis_server.stop()
    gearmand.submit("syncToRedis", b'{"name":"kept"}')
    until(lambda: gearmand.queue("syncToRedis")[1], 1)
    assert worker.terminate() == 0
    until(lambda: gearmand.queue("syncToRedis"), (1, 0, 0))
    redis_server.start()
    worker.start()
    until(lambda: redis_server.client.get("name"), b"kept")


def test_several_processes_share_the_work_and_a_dead_one_is_replaced(
    gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(config(gearmand, redis_server, processes=2))
    until(lambda: gearmand.queue("syncToRedis")[2], 2)
    killed, kept = worker.children
    os.kill(killed, signal.SIGKILL)
    worker.says("action=process_died")
    until(lambda: gearmand.queue("syncToRedis")[2], 1)
    until(lambda: gearmand.queue("syncToRedis")[2], 2)
    assert killed not in worker.children
    assert kept in worker.children


def test_without_direct_tables_the_drain_takes_the_jobs_too(
    gearmand: Gearmand,
    redis_server: RedisServer,
    database: OutboxDatabase,
    start_worker: Callable[..., Worker],
) -> None:
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(100)) ENGINE=InnoDB")
    durable = {**TABLES[0], "delivery": "durable", "columns": ["id", "name"], "write": TABLES[0]["write"][:1]}
    database.sync_table(**durable)
    worker = start_worker(worker_config(redis_server.port, [durable], database.account, gearmand.address))
    until(lambda: gearmand.queue("syncToRedis")[2], 1)
    assert len(worker.children) == 1
    assert gearmand.do("reverse", b"abc")[-1] == (WORK_COMPLETE, b"cba")
    database.execute("INSERT INTO shop.item VALUES (1, 'now')")
    gearmand.submit("shop", change("shop.item", "update", new={"id": "1", "name": "late"}))
    gearmand.submit("syncToRedis", b'{"name":"by hand"}')
    until(lambda: redis_server.client.get("name"), b"by hand")
    until(lambda: redis_server.client.hget("item:1", "name"), b"now")
    redis_server.stop()
    gearmand.submit("syncToRedis", b'{"name":"held"}')
    until(lambda: gearmand.queue("syncToRedis")[1], 1)
    redis_server.start()
    until(lambda: redis_server.client.get("name"), b"held")
    assert worker.terminate() == 0
    assert "action=stopped" in worker.said


def test_systemd_is_notified_of_ready_then_alive_then_stopping(
    gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(180)
        worker = start_worker(
            config(gearmand, redis_server), {"NOTIFY_SOCKET": str(tmp_path / "notify")}, program=True
        )
        assert systemd.recv(100) == b"READY=1"
        assert systemd.recv(100) == b"WATCHDOG=1"
        assert worker.terminate() == 0
        while (word := systemd.recv(100)) == b"WATCHDOG=1":
            pass
        assert word == b"STOPPING=1"


def test_the_worker_starts_and_waits_when_no_server_is_there(
    gearmand: Gearmand, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    gearmand.stop()
    redis_server.stop()
    worker = start_worker(config(gearmand, redis_server))
    worker.says("action=job_server_lost")
    redis_server.start()
    gearmand.start()
    gearmand.submit("syncToRedis", b'{"name":"patience"}')
    until(lambda: redis_server.client.get("name"), b"patience")


def test_a_large_payload_arrives_whole(worker: Worker, gearmand: Gearmand, redis_server: RedisServer) -> None:
    gearmand.submit("syncToRedis", json.dumps({"name": "ö" * 4_000_000}).encode())
    until(lambda: redis_server.client.strlen("name"), 8_000_000)
