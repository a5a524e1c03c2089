# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers are drained: the one that is writable, and none of several."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from harness.commands import Commands
from harness.failover import TABLE, Pair
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config


def test_of_two_writable_members_none_is_drained_and_the_former_one_is_drained_when_it_is_alone_again(
    pair: Pair, worker: Worker, redis_server: RedisServer, commands: Commands
) -> None:
    r = redis_server.client
    pair.switch()
    pair.primary.execute("INSERT INTO shop.item VALUES (1, 1, 'one')")
    until(lambda: r.exists("item:1"))
    pair.replica.execute(f"STOP {'REPLICA' if pair.replica.engine == 'mysql' else 'SLAVE'}")
    pair.replica.set_writable(True)
    worker.says("action=split_brain")
    pair.primary.execute("INSERT INTO shop.item VALUES (2, 1, 'two')")
    status = json.loads(commands.run("status", "--json")[1].splitlines()[0])
    assert status["mysql"]["is_split"]
    assert status["mysql"]["members"] == dict.fromkeys((each.address for each in pair.members), "writable")
    assert "are writable at once" in status["mistakes"][0]
    for command in ("verify", "resync", "selftest", "barrier"):
        code, output = commands.run(command, *["--timeout=1"] * (command == "barrier"))
        assert code != 0
        assert "are writable at once" in output
    assert r.exists("item:2") == 0
    pair.replica.set_writable(False)
    until(lambda: r.exists("item:2"))
    assert worker.said.count("action=split_brain") == 1


def test_a_server_that_is_read_only_is_not_written_to_also_when_the_account_may(
    database: OutboxDatabase, redis_server: RedisServer, start_worker: Callable[..., Worker], tmp_path: Path
) -> None:
    config = worker_config(redis_server.port, [TABLE], database.account)
    database.execute("SET GLOBAL read_only=ON")
    try:
        worker = start_worker(config)
        worker.says("is read-only")
        assert "is read-only" in Commands(config, tmp_path).run("verify")[1]
        assert database.execute("SELECT * FROM gearsync.worker") == []
        database.execute("SET GLOBAL read_only=OFF")
        worker.says("action=mysql_back")
        database.execute("SET GLOBAL read_only=ON")
        worker.says("action=mysql_lost", times=2)
        # Its lease is not renewed any more.
        before = database.execute("SELECT * FROM gearsync.worker")
        time.sleep(2.0)
        assert database.execute("SELECT * FROM gearsync.worker") == before
    finally:
        database.execute("SET GLOBAL read_only=OFF")
