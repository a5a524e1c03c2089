# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync read-back`: whether Redis holds one row, given as a trigger would send it."""

from __future__ import annotations

import io
import json
import pathlib
from types import SimpleNamespace
from typing import Any

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.redis_server import RedisServer
from harness.worker import worker_config

TRANSFORM = """
def slug(row, table):
    if row["name"] == "left out":
        return None
    return {**row, "slug": row["name"].lower()}
"""
ITEM = {
    "table": "shop.item",
    "columns": ["id", "name"],
    "transform": "read_back_hooks:slug",
    "computed": ["slug"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "set", "key": "slugs:{slug}", "member": "{id}"},
        {"type": "string", "key": "slug:{id}", "value": "{slug}", "ttl": 60},
        {"type": "list", "key": "log", "value": "{id}"},
    ],
}


@pytest.fixture
def read_back(
    database: OutboxDatabase,
    redis_server: RedisServer,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """Ask about a row of a direct table's job, or with ``durable`` as it is in the outbox."""
    (tmp_path / "read_back_hooks.py").write_text(TRANSFORM)
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    database.sync_table(**ITEM)
    commands = Commands(
        worker_config(redis_server.port, [ITEM], database.account, python_path=str(tmp_path)), tmp_path
    )

    def ask(name: str, durable: bool = False) -> tuple[int, str]:
        given = json.dumps(
            {
                "$gearsync": 1,
                "table": "shop.item",
                "event": "update",
                "new": {"id": 1, "name": name},
                "old": {},
            }
        )
        if durable:
            database.execute(f"REPLACE INTO shop.item VALUES (1, '{name}')")
            ((content, row_sql),) = database.execute(
                "SELECT content, row_sql FROM gearsync.synced_table JOIN gearsync.numbered_declaration "
                "USING (table_name, number)"
            )
            ((payload,),) = database.execute(f"SELECT {row_sql} FROM shop.item AS gearsync_row")
            given = json.dumps({"table": "shop.item", "declaration": content, "payload": payload})
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(given.encode())))
        return commands.run("read-back")

    return ask


@pytest.mark.parametrize("durable", [False, True])
def test_what_the_transform_makes_of_a_row_is_compared(
    read_back: Any, redis_server: RedisServer, durable: bool
) -> None:
    r = redis_server.client
    r.hset("item:1", mapping={"id": "1", "name": "One", "slug": "one"})
    r.sadd("slugs:one", "1")
    r.set("slug:1", "one", ex=60)
    assert read_back("One", durable) == (0, "3 keys and members\n")
    r.srem("slugs:one", "1")
    r.persist("slug:1")
    status, output = read_back("One", durable)
    assert (
        status,
        "write[1] (set slugs:{slug}) is missing" in output,
        "write[2] (string slug:{id}) is stale" in output,
    ) == (1, True, True)
    # A row's values belong in no log.
    assert "One" not in output
    assert "one" not in output


def test_a_row_that_the_transform_leaves_out_has_nothing_to_compare(read_back: Any) -> None:
    assert read_back("left out") == (0, "the transform leaves the row out\n")


def test_what_cannot_be_compared_is_no_answer(
    read_back: Any, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server.client.set("item:1", "no hash")
    assert "write[0] (hash item:{id}) is wrong_type" in read_back("One")[1]
    redis_server.stop()
    assert read_back("One")[0] == 2
    redis_server.start()
