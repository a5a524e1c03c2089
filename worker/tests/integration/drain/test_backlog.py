# SPDX-License-Identifier: GPL-3.0-or-later
"""Batches of a backlog: each is read while Redis executes the one before it, and none overtakes another."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional

import pytest
from gearsync.apply.fence import BATCH
from gearsync.servers.target import Script
from harness.gearmand import Gearmand
from harness.inner_drain import InnerDrain
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.shop import LOGS, insert

_CHANGES, _BATCH = 50, 10


@pytest.fixture
def inner(
    config: dict[str, Any],
    gearmand: Gearmand,
    database: OutboxDatabase,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[InnerDrain]:
    """A drain of small batches and of an account of its own, of which nothing is applied yet."""
    # As many batches as there are, however slow the machine is.
    monkeypatch.setattr("gearsync.apply.drain._BURST", 60.0)
    redis_server.client.execute_command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all")
    inner = InnerDrain(
        {
            **config,
            "tables": [LOGS],
            "redis": {"port": redis_server.port, "username": "worker", "password": "secret"},
            "worker": {**config["worker"], "batch": _BATCH},
        },
        gearmand,
        database,
    )
    database.put(insert(_CHANGES), table="shop.log")
    inner.until(lambda: database.waiting == 0)
    redis_server.client.delete("log", "names", "changes")
    yield inner
    inner.close()


def _once_while_redis_executes(
    inner: InnerDrain, monkeypatch: pytest.MonkeyPatch, after: Callable[[], None]
) -> list[int]:
    """Have ``after`` called once, when a batch was read ahead. Returns, as they come, the number of queries
    during each batch.
    """
    run, queries = inner.drain.target.run, list[int]()

    def watched(
        script: Script,
        calls: Sequence[tuple[int, Sequence[Any]]],
        meanwhile: Optional[Callable[[], None]] = None,
    ) -> list[Any]:
        before = len(inner.database.asked)

        def read_ahead() -> None:
            assert meanwhile is not None
            meanwhile()
            queries.append(len(inner.database.asked) - before)
            if len(queries) == 1:
                after()

        return run(script, calls, read_ahead if script is BATCH and meanwhile else None)

    monkeypatch.setattr(inner.drain.target, "run", watched)
    return queries


def _assert_each_once_in_order(redis_server: RedisServer) -> None:
    r = redis_server.client
    expected = [str(number).encode() for number in range(_CHANGES)]
    assert r.lrange("log", 0, -1) == expected
    assert [fields[b"id"] for _entry, fields in r.xrange("changes")] == expected


def _put_backlog(database: OutboxDatabase) -> None:
    database.put(*[insert(number) for number in range(_CHANGES)], table="shop.log")


def test_each_batch_is_read_while_redis_executes_the_one_before_it(
    inner: InnerDrain, database: OutboxDatabase, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = _once_while_redis_executes(inner, monkeypatch, lambda: None)
    _put_backlog(database)
    inner.until(lambda: database.waiting == 0)
    # The last look has shown that there are no more.
    assert queries == [1] * (_CHANGES // _BATCH)
    _assert_each_once_in_order(redis_server)


def test_what_was_read_ahead_does_not_overtake_a_batch_without_an_answer(
    inner: InnerDrain, database: OutboxDatabase, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_answer() -> None:
        connection: socket.socket = inner.drain.target._fenced._sock
        assert connection.recv(1 << 16)
        connection.shutdown(socket.SHUT_RDWR)

    queries = _once_while_redis_executes(inner, monkeypatch, lose_answer)
    _put_backlog(database)
    inner.until(lambda: database.waiting == 0)
    assert queries
    _assert_each_once_in_order(redis_server)


def test_what_was_read_ahead_does_not_overtake_a_batch_that_redis_refuses(
    inner: InnerDrain, database: OutboxDatabase, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    r = redis_server.client

    def allow() -> None:
        # The first batch is refused by now.
        r.execute_command("ACL", "SETUSER", "worker", "~*")

    queries = _once_while_redis_executes(inner, monkeypatch, allow)
    _put_backlog(database)
    r.execute_command("ACL", "SETUSER", "worker", "resetkeys", "~gearsync:*")
    inner.until(lambda: database.waiting == 0)
    assert queries
    _assert_each_once_in_order(redis_server)


def test_a_database_that_fails_while_redis_executes_has_nothing_lost_or_repeated(
    inner: InnerDrain, database: OutboxDatabase, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = inner.drain._reader.read
    failing = [True]

    def cut_off_once(*arguments: Any) -> Any:
        # The look before the first batch is the first one.
        if len(reads) == 1 and failing.pop():
            inner.database.interrupt()
        reads.append(arguments)
        return read(*arguments)

    reads: list[Any] = []
    _put_backlog(database)
    monkeypatch.setattr(inner.drain._reader, "read", cut_off_once)
    inner.until(lambda: database.waiting == 0)
    assert not failing
    assert inner.database.sessions == 2
    _assert_each_once_in_order(redis_server)
