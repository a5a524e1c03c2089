# SPDX-License-Identifier: GPL-3.0-or-later
"""Passwords that are changed while a worker works, as docs/operations.md has it."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any

from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

FIRST, SECOND = "first-Pass.word1", "second-Pass.word2"
TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}


def test_new_passwords_of_mysql_and_of_a_user_of_redis_lose_no_change(
    database: OutboxDatabase,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> None:
    database.execute(
        "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB",
        "DROP USER IF EXISTS rotated@localhost",
        f"CREATE USER rotated@localhost IDENTIFIED BY '{FIRST}'",
        "GRANT ALL ON *.* TO rotated@localhost",
    )
    database.sync_table(**TABLE)
    set_user = functools.partial(redis_server.client.execute_command, "ACL", "SETUSER", "worker")
    set_user("on", f">{FIRST}", "~*", "+@all")

    def config(password: str) -> dict[str, Any]:
        mysql = {"user": "rotated", "password": password, "unix_socket": database.socket}
        redis = {"port": redis_server.port, "username": "worker", "password": password}
        return worker_config(redis, [TABLE], mysql, lease=5.0)

    def write(first: int) -> None:
        for number in range(first, first + 200):
            database.execute(f"INSERT INTO shop.item VALUES ({number}, 'name')")

    former = start_worker(config(FIRST))
    write(1)
    until(lambda: redis_server.client.exists("item:200"))
    # Both are good for Redis until the former is taken away; MariaDB has one for an account.
    set_user(f">{SECOND}")
    database.execute(f"ALTER USER rotated@localhost IDENTIFIED BY '{SECOND}'")
    write(201)
    sessions = database.execute("SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'rotated'")
    database.execute(*(f"KILL {number}" for (number,) in sessions))
    former.says("action=mysql_lost")
    write(401)
    former.terminate()
    start_worker(config(SECOND))
    set_user(f"<{FIRST}")
    write(601)
    until(lambda: database.waiting, 0)
    assert Commands(config(SECOND), tmp_path).verify()[0] == 0
    database.execute("DROP USER rotated@localhost")
