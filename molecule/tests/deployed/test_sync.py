# SPDX-License-Identifier: GPL-3.0-or-later
"""Every write type of the declaration, from SQL to what redis-cli answers."""

from __future__ import annotations

import json

import pytest
from harness.hosts import Host
from harness.waiting import until


@pytest.fixture(autouse=True)
def empty_tables(host: Host) -> None:
    host.sql("DELETE FROM customer; DELETE FROM `order items`;", database="shop")
    until(lambda: host.redis("keys", "customer:*"), "")


def test_a_row_is_written_in_all_declared_shapes_and_removed_with_the_row(host: Host) -> None:
    host.sql(
        "SET time_zone = '+05:00'; INSERT INTO customer VALUES (18446744073709551615, 'Zoë 😀', 'Kraków', "
        "12345678901234.5000, 0.1, x'00ff10',"
        " '{\"tags\": [1, 2]}', '2026-01-02 08:04:05.678', 'not declared');",
        database="shop",
    )
    key = "customer:18446744073709551615"
    until(lambda: host.redis("hget", key, "name"), "Zoë 😀")
    assert host.redis("hget", key, "balance") == "12345678901234.5000"
    assert host.redis("hget", key, "ratio") == "0.1"
    # TIMESTAMP arrives in UTC whatever the session's zone was.
    assert host.redis("hget", key, "seen") == "2026-01-02 03:04:05.678"
    assert json.loads(host.redis("hget", key, "profile")) == {"tags": [1, 2]}
    assert host.redis("hexists", key, "internal_note") == "0"
    assert host.redis("strlen", "customer:doc:18446744073709551615") != "0"
    document = json.loads(host.redis("get", "customer:doc:18446744073709551615"))
    assert document["id"] == 18446744073709551615
    assert document["profile"] == {"tags": [1, 2]}
    assert host.redis("smembers", "customer:by-city:Kraków") == "18446744073709551615"
    assert host.redis("zscore", "customer:by-balance", "18446744073709551615") == "12345678901234.5"

    host.sql("UPDATE customer SET city = 'Gdańsk', avatar = NULL;", database="shop")
    until(lambda: host.redis("smembers", "customer:by-city:Gdańsk"), "18446744073709551615")
    assert host.redis("exists", "customer:by-city:Kraków") == "0"
    assert host.redis("hexists", key, "avatar") == "0"

    host.sql("DELETE FROM customer;", database="shop")
    until(lambda: host.redis("keys", "customer:*"), "")


def test_binary_values_arrive_byte_for_byte(host: Host) -> None:
    host.sql("INSERT INTO customer (id, name, avatar) VALUES (7, 'bytes', x'00ff10');", database="shop")
    until(lambda: host.redis("exists", "customer:7"), "1")
    assert host.redis("hstrlen", "customer:7", "avatar") == "3"


def test_names_that_need_quoting_are_synced(host: Host) -> None:
    host.sql("INSERT INTO `order items` VALUES (1, 2, 'XL');", database="shop")
    until(lambda: host.redis("hget", "order:1:2", "größe"), "XL")
    host.sql("UPDATE `order items` SET `line no` = 3;", database="shop")
    until(lambda: (host.redis("exists", "order:1:2"), host.redis("hget", "order:1:3", "größe")), ("0", "XL"))
    host.sql("DELETE FROM `order items`;", database="shop")
    until(lambda: host.redis("exists", "order:1:3"), "0")


def test_rows_that_were_there_before_are_loaded_and_verified(host: Host) -> None:
    host.sql("INSERT INTO customer (id, name) VALUES (1, 'one'), (2, 'two'), (3, 'three');", database="shop")
    gearsync = "/opt/gearsync/venv/bin/gearsync"
    assert "is in Redis" in host.run(f"{gearsync} barrier")
    host.redis("del", "customer:1")
    # A key with a time to live may be gone; what it holds must be right.
    host.redis("del", "customer:doc:3")
    host.redis("set", "customer:doc:2", "{}")
    host.redis("hset", "customer:99", "name", "nobody")
    assert "1 missing, 1 orphaned, 1 stale" in host.run(f"{gearsync} verify --table shop.customer", ok=False)
    host.run(f"{gearsync} verify --table shop.customer --repair --prune")
    assert host.redis("hget", "customer:1", "name") == "one"
    assert host.redis("exists", "customer:99") == "0"
    host.redis("flushdb")
    host.run(f"{gearsync} resync")
    assert "equal" in host.run(f"{gearsync} verify")
    assert '"ok":true' in host.sql(f"SELECT gman_do('gearsync.barrier', '{host.source}');")
    # Direct delivery has no resync: what the flush took comes back with the next write.
    host.sql("UPDATE user_list SET name = 'hello', password = 'world';")
    until(lambda: host.redis("get", "name"), "hello")


def test_a_rollback_leaves_nothing_and_a_stopped_worker_loses_nothing(host: Host) -> None:
    host.run(f"systemctl stop {host.worker}")
    host.sql(
        "START TRANSACTION; INSERT INTO customer (id, name) VALUES (5, 'phantom'); ROLLBACK;"
        "INSERT INTO customer (id, name) VALUES (6, 'real');",
        database="shop",
    )
    host.run(f"systemctl start {host.worker}")
    until(lambda: host.redis("hget", "customer:6", "name"), "real")
    assert host.redis("exists", "customer:5") == "0"
