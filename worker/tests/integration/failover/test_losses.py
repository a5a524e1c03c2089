# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failover or a restored backup has lost: it is reported, and nothing of the new primary is taken for
it.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.outbox.lease import Leases
from gearsync.servers.mysql import Database
from harness.commands import Commands
from harness.failover import TABLE, Application, Pair, Stream, differences, entries
from harness.ledger import Observer
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config


def lost_tables(commands: Commands) -> dict[str, Any]:
    return json.loads(commands.run("status", "--json")[1].splitlines()[0])["lost"]


def repaired(pair: Pair, commands: Commands, redis_server: RedisServer) -> None:
    """After verify both sides are equal, and no loss is reported any more."""
    assert "shop.item: Redis has" in commands.run("status")[1]
    commands.verify("--repair", "--prune", "--max-prune", "100%")
    assert commands.verify()[0] == 0
    assert differences(pair.primary, redis_server.client) == {}
    assert lost_tables(commands) == {}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_what_a_failover_loses_is_reported_and_nothing_of_the_new_primary_is_lost(
    pair: Pair, worker: Worker, redis_server: RedisServer, commands: Commands, number: int
) -> None:
    r = redis_server.client
    with Application(pair) as application, Observer(r, application.ids):
        application.go_on()
        pair.fail_over(lost=0.5, number=number)
        application.go_on()
        worker.says("action=primary_changed")
    pair.wait_until_drained()
    stream = Stream(pair.primary, r)
    # Its ids of the outbox are those of other changes by now.
    assert stream.lost
    assert (stream.missing, stream.repeated) == (set(), set())
    worker.says("action=lost_upstream")
    lost = lost_tables(commands)["shop.item"]
    # What it has applied, and not yet deleted.
    assert lost["changes"] > 0
    # Only rows that have lost a change differ.
    rows = {str(row) for row, _version in stream.lost}
    different = {
        place.partition(":")[2] for place in differences(pair.primary, r) if place.startswith("item:")
    }
    assert different <= rows
    repaired(pair, commands, redis_server)


def test_a_worker_that_was_away_during_the_failover_reports_what_was_lost(
    pair: Pair, worker: Worker, redis_server: RedisServer, commands: Commands
) -> None:
    with Application(pair) as application:
        application.go_on()
        pair.replica.stop_receiving()
        received = set(application.acknowledged)
        application.go_on()
        # Redis has one of those that will be lost.
        until(lambda: bool(entries(redis_server.client).keys() & (application.acknowledged - received)))
        worker.kill()
        pair.fail_over()
        application.go_on()
    worker.start()
    worker.says("action=lost_upstream")
    pair.wait_until_drained()
    stream = Stream(pair.primary, redis_server.client)
    assert stream.lost
    assert (stream.missing, stream.repeated) == (set(), set())
    repaired(pair, commands, redis_server)


def test_a_loss_of_what_was_deleted_long_ago_is_reported(
    pair: Pair,
    redis_server: RedisServer,
    commands: Commands,
    config: dict[str, Any],
    start_worker: Callable[..., Worker],
) -> None:
    worker = start_worker({**config, "worker": {**config["worker"], "remember": 0.0}})
    worker.says("action=lease_taken", times=2)
    pair.replica.stop_receiving()
    pair.primary.execute("INSERT INTO shop.item VALUES (1, 1, 'one')")
    pair.wait_until_drained()
    # Nothing of it is in the outbox or in the fences any more; only the leases are renewed.
    kept = [f"gearsync:main:fence:{shard}" for shard in (1, 2)]
    until(lambda: not [name for key in kept for name in redis_server.client.hkeys(key) if name[:1] == b"b"])
    time.sleep(1.5)
    pair.fail_over()
    worker.says("action=lost_upstream")
    assert lost_tables(commands)["shop.item"]["changes"] == 0
    repaired(pair, commands, redis_server)


def test_what_the_new_primary_still_has_to_delete_is_not_applied_again(
    pair: Pair, worker: Worker, redis_server: RedisServer
) -> None:
    r = redis_server.client
    pair.primary.execute("INSERT INTO shop.item VALUES (1, 1, 'one')")
    pair.wait()
    pair.replica.stop_receiving()
    # Its deletion, and what comes then, is on the old primary alone.
    pair.wait_until_drained()
    pair.primary.execute("UPDATE shop.item SET version = 2 WHERE id = 1")
    until(lambda: r.hget("item:1", "version"), b"2")
    pair.wait_until_drained()
    with Observer(r, [1]):
        pair.fail_over()
        assert pair.primary.waiting == 1
        pair.primary.execute("INSERT INTO shop.item VALUES (2, 1, 'two')")
        until(lambda: r.exists("item:2"))
        pair.wait_until_drained()
    assert r.lrange("log", 0, -1) == [b"1:1", b"1:2", b"2:1"]


def test_a_restored_backup_is_reported(
    start_worker: Callable[..., Worker], database: OutboxDatabase, redis_server: RedisServer, tmp_path: Path
) -> None:
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, version INT, name VARCHAR(40))")
    database.sync_table(**TABLE)
    config = worker_config(redis_server.port, [TABLE], database.account)
    redis_server.client.hset("gearsync:main:fence:1", mapping={"epoch": 7, "number": 5})
    worker = start_worker(config)
    database.execute("INSERT INTO shop.item VALUES (1, 1, 'one'), (2, 1, 'two'), (3, 1, 'three')")
    worker.says("action=lost_upstream")
    until(lambda: database.waiting, 0)
    commands = Commands(config, tmp_path)
    assert set(lost_tables(commands)) == {"shop.item"}
    assert commands.verify()[0] == 0
    assert lost_tables(commands) == {}


#: A table whose entries are appended once for each change, and dead where a value is no number.
LOGS: dict[str, Any] = {
    "table": "shop.log",
    "columns": ["id", "score"],
    "write": [
        {"type": "list", "key": "log", "value": "{id}"},
        {"type": "zset", "key": "scores", "member": "{id}", "score": "{score}"},
    ],
}


def put_logs(database: OutboxDatabase, first: int, scores: list[Any], clock: int) -> None:
    """Put an insert for each score into the outbox, by a server whose clock is ahead by ``clock`` seconds."""
    database.execute(
        f"SET timestamp = UNIX_TIMESTAMP() + {clock}",
        *[
            "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (0, 'shop.log', "
            f"""'insert', '{json.dumps({"new": {"id": first + number, "score": score}})}')"""
            for number, score in enumerate(scores)
        ],
    )


@pytest.mark.parametrize("clock", [60, -60])
@pytest.mark.parametrize("way", ["applied", "in part"])
def test_reused_ids_are_other_changes_whatever_the_new_primarys_clock(
    start_worker: Callable[..., Worker],
    database: OutboxDatabase,
    redis_server: RedisServer,
    way: str,
    clock: int,
) -> None:
    r = redis_server.client
    config = worker_config(redis_server.port, [LOGS], database.account, keep=3600.0)
    worker = start_worker(config)
    put_logs(database, 1, [1], 0)
    until(lambda: r.llen("log"), 1)
    if way == "in part":
        # The append is done, and the rest waits for the right.
        r.execute_command("ACL", "SETUSER", "default", "-zadd")
    put_logs(database, 2, [2, "none"], 0)
    # A batch ends at the first change that must wait.
    applied = 3 if way == "applied" else 2
    until(lambda: r.llen("log"), applied)
    worker.kill()
    r.execute_command("ACL", "SETUSER", "default", "+zadd")
    # Another primary, which has the first one alone, and gives the ids of the others to changes of its own.
    database.expire_leases()
    database.execute(
        "DELETE FROM gearsync.outbox WHERE id > 1", "ALTER TABLE gearsync.outbox AUTO_INCREMENT = 2"
    )
    put_logs(database, 11, [11, 12, 13], clock)
    start_worker(config)
    until(lambda: r.zscore("scores", 13), 13)
    assert r.lrange("log", 0, -1) == [b"%d" % number for number in (*range(1, applied + 1), 11, 12, 13)]
    assert r.zrange("scores", 0, -1)[-3:] == [b"11", b"12", b"13"]
    assert database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_a_lease_that_a_failover_gave_back_is_free_at_once(
    database: OutboxDatabase, redis_server: RedisServer
) -> None:
    session = Database(MySQLSettings(**database.account), 60.0)
    leases = Leases(session, 3600.0)
    leases.add([1, 2])
    leases.refresh()
    before = dict(leases.held)
    # Another process has taken it over, and its take-over is lost.
    leases.lost(1)
    leases.refresh()
    assert leases.held == {**before, 1: before[1] + 1}
    session.close()
