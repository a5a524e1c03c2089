# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources of an inventory: whose settings a worker has, and what is refused before a host is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.gearsync.mysql_redis.plugins.filter.sources import (
    source_problems,
    source_workers,
    sources_using,
    worker_instances,
)

ROLE = Path(__file__).parents[3] / "roles/worker"


def table(name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"table": name, "columns": ["id"], "write": [{"type": "hash", "key": key}], **more}


OWN: dict[str, Any] = {
    "source": "main",
    "tables": [],
    "redis": {"host": "127.0.0.1", "port": 6379, "db": 0},
    "mysql": {"unix_socket": "/run/own.sock"},
    "mysql_servers": [],
    "job_servers": ["127.0.0.1:4730"],
    "metrics_listen": "127.0.0.1:9788",
    "drainers": 1,
}
ORDERS = {"gearsync_source": "orders", "gearsync_tables": [table("shop.item", "item:{id}")]}
USERS = {"gearsync_source": "users", "gearsync_tables": [table("app.user", "user:{id}")]}


def inventory(**hosts: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """hostvars and groups: hosts whose name begins with w are workers, all others database servers."""
    names = list(hosts)
    groups = {
        "gearsync_mysql": [name for name in names if not name.startswith("w")],
        "gearsync_workers": [name for name in names if name.startswith("w")],
    }
    return hosts, groups


def instances(
    hostvars: dict[str, Any], groups: dict[str, Any], **own: Any
) -> dict[str, list[dict[str, Any]]]:
    return {
        host: worker_instances(
            {**OWN, **own}, hostvars, groups, host, hostvars[host].get("gearsync_worker_sources", ())
        )
        for host in groups["gearsync_workers"]
    }


def problems(hostvars: dict[str, Any], groups: dict[str, Any]) -> list[str]:
    return source_problems(instances(hostvars, groups), hostvars, groups)


def test_the_only_source_of_an_inventory_has_the_settings_of_the_workers_host() -> None:
    hostvars, groups = inventory(db1={}, w1={})
    own = {"tables": [table("shop.item", "item:{id}")], "source": "main"}
    assert instances(hostvars, groups, **own) == {"w1": [{**OWN, **own, "shared_job_servers": False}]}


def test_the_variables_of_the_only_source_may_stand_at_its_hosts_or_at_the_workers() -> None:
    hostvars, groups = inventory(
        db1={**ORDERS, "gearsync_shards": 8}, w1={"gearsync_redis": {"host": "cache9"}, "worker_drainers": 5}
    )
    ((one,),) = instances(hostvars, groups, redis={"host": "cache9"}, drainers=5).values()
    assert (one["source"], one["tables"]) == ("orders", ORDERS["gearsync_tables"])
    assert (one["redis"], one["drainers"]) == ({"host": "cache9"}, 5)


def test_each_source_has_the_settings_of_its_own_hosts() -> None:
    redis = {"host": "cache2", "port": 6379}
    hostvars, groups = inventory(
        db1={**ORDERS, "gearsync_worker_mysql": {"host": "db1", "password": "a"}, "worker_drainers": 3},
        db2={**USERS, "gearsync_redis": redis},
        w1={},
    )
    orders, users = instances(hostvars, groups)["w1"]
    assert (orders["source"], orders["tables"], orders["mysql"]["host"], orders["drainers"]) == (
        "orders",
        ORDERS["gearsync_tables"],
        "db1",
        3,
    )
    assert orders["redis"] == OWN["redis"]
    # The host's own socket is no way to another source.
    assert (users["source"], users["redis"], users["mysql"], users["drainers"]) == ("users", redis, {}, 1)


def test_sources_share_job_servers_that_have_one_address_for_both() -> None:
    def shares(orders: list[str], users: list[str], *served: str) -> list[bool]:
        hostvars, groups = inventory(
            db1={**ORDERS, "gearsync_job_servers": orders},
            db2={**USERS, "gearsync_job_servers": users},
            w1={"gearsync_worker_sources": list(served)},
        )
        return [one["shared_job_servers"] for one in instances(hostvars, groups)["w1"]]

    assert shares(["jobs1:4730"], ["jobs2:4730", "jobs1:4730"]) == [True, True]
    assert shares(["jobs1:4730"], ["jobs2:4730"]) == [False, False]
    assert shares(["127.0.0.1:4730"], ["127.0.0.1:4730"]) == [True, True]
    # Another server on each host.
    assert shares(["127.0.0.1:4730"], ["127.0.0.1:4730"], "orders") == [False]
    assert shares(["jobs1:4730"], ["jobs1:4730"], "orders") == [True]


def test_the_account_of_a_source_is_made_on_its_own_servers_alone() -> None:
    hostvars, groups = inventory(db1=ORDERS, db2={**ORDERS}, db3=USERS, w1={})
    assert [each["mysql_servers"] for each in instances(hostvars, groups)["w1"]] == [["db1", "db2"], ["db3"]]


def test_sources_on_one_host_show_their_metrics_on_ports_of_their_own() -> None:
    hostvars, groups = inventory(db1=ORDERS, db2=USERS, w1={}, w2={"gearsync_worker_sources": ["users"]})
    each = instances(hostvars, groups)
    assert [one["metrics_listen"] for one in each["w1"]] == ["127.0.0.1:9788", "127.0.0.1:9789"]
    assert [one["metrics_listen"] for one in each["w2"]] == ["127.0.0.1:9788"]


def test_a_worker_knows_all_members_of_its_source() -> None:
    account = {"host": "192.0.2.1", "user": "gearsync", "password": "p"}
    hostvars, groups = inventory(
        db1={**ORDERS, "ansible_host": "192.0.2.1", "gearsync_worker_mysql": account},
        db2={**ORDERS, "ansible_host": "192.0.2.2", "gearsync_worker_mysql": account},
        w1={},
    )
    ((one,),) = instances(hostvars, groups).values()
    members = [{"host": "192.0.2.1", "port": 3306}, {"host": "192.0.2.2", "port": 3306}]
    assert one["mysql"] == {"user": "gearsync", "password": "p", "members": members}


def test_an_address_that_is_none_of_the_members_is_left_as_it_is() -> None:
    account = {"host": "proxy.example.com", "password": "p"}
    more = {"gearsync_worker_mysql": account}
    hostvars, groups = inventory(db1={**ORDERS, **more}, db2={**ORDERS, **more}, w1={})
    ((one,),) = instances(hostvars, groups).values()
    assert one["mysql"] == account


def test_a_host_serves_the_sources_that_it_names() -> None:
    hostvars, groups = inventory(db1=ORDERS, db2=USERS, w1={"gearsync_worker_sources": ["users"]}, w2={})
    assert [one["source"] for one in instances(hostvars, groups)["w1"]] == ["users"]
    assert source_workers(groups["gearsync_workers"], hostvars, "orders") == ["w2"]


def test_a_source_without_a_worker_is_refused() -> None:
    found = problems(*inventory(db1=ORDERS, db2=USERS, w1={"gearsync_worker_sources": ["orders"]}))
    assert len(found) == 1
    assert found[0].startswith("no worker serves the source users of db2")


def test_a_worker_that_knows_one_member_only_is_refused() -> None:
    found = problems(*inventory(db1=ORDERS, db2={**ORDERS}, w1={}))
    assert len(found) == 1
    assert "reaches MySQL by a socket, but the source has replicas" in found[0]


def test_a_name_that_is_no_source_is_refused() -> None:
    found = problems(*inventory(db1=ORDERS, w1={"gearsync_worker_sources": ["order", "orders"]}))
    assert len(found) == 1
    assert "names the source order, which is the gearsync_source of no host" in found[0]


def test_databases_that_share_a_name_and_differ_are_refused() -> None:
    account = {"gearsync_worker_mysql": {"password": "p"}}
    found = problems(
        *inventory(db1={"gearsync_tables": [], **account}, db2={"gearsync_tables": [1], **account}, w1={})
    )
    assert len(found) == 1
    assert "gearsync_tables differs between db1, db2, which are the source main" in found[0]


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        ("item:{id}", "item:{id}", True),
        ("item:{id}", "user:{id}", False),
    ],
)
def test_sources_with_equal_keys_in_one_redis_database_are_refused(
    one: str, other: str, refused: bool
) -> None:
    orders = {"gearsync_source": "orders", "gearsync_tables": [table("shop.item", one)]}
    users = {"gearsync_source": "users", "gearsync_tables": [table("shop.item", other)]}
    found = problems(*inventory(db1=orders, db2=users, w1={}))
    assert [("write to one Redis database" in each) for each in found] == [True] * refused


@pytest.mark.parametrize(
    ("redis", "workers", "refused"),
    [
        ({"host": "cache1"}, ("orders", "users"), True),
        # Another server on each host.
        ({"host": "127.0.0.1"}, ("orders", "users"), False),
        ({"unix_socket": "/run/redis.sock"}, ("orders", "users"), False),
        ({"sentinels": ["s1", "s2"], "sentinel_master": "m"}, ("orders", "users"), True),
        ({"cluster": ["c1:6379"]}, ("orders", "users"), True),
    ],
)
def test_redis_is_the_same_on_two_hosts_when_its_address_is_not_the_hosts_own(
    redis: dict[str, Any], workers: tuple[str, str], refused: bool
) -> None:
    hostvars, groups = inventory(
        db1={**ORDERS, "gearsync_redis": redis},
        db2={**USERS, "gearsync_tables": ORDERS["gearsync_tables"], "gearsync_redis": redis},
        w1={"gearsync_worker_sources": [workers[0]]},
        w2={"gearsync_worker_sources": [workers[1]]},
    )
    assert bool(problems(hostvars, groups)) is refused


def test_two_sources_whose_workers_reach_one_database_are_refused() -> None:
    mysql = {"gearsync_worker_mysql": {"host": "db1", "password": "p"}}
    found = problems(*inventory(db1={**ORDERS, **mysql}, db2={**USERS, **mysql}, w1={}))
    assert len(found) == 1
    assert "two databases, but their workers reach one, db1:3306" in found[0]


def test_sources_with_databases_of_their_own_may_have_equal_keys() -> None:
    orders = {**ORDERS, "gearsync_redis": {"host": "cache1", "db": 0}}
    users = {**ORDERS, "gearsync_source": "users", "gearsync_redis": {"host": "cache1", "db": 1}}
    assert problems(*inventory(db1=orders, db2=users, w1={})) == []


def test_direct_tables_of_two_sources_need_functions_of_their_own_on_one_job_server() -> None:
    def source(name: str, **more: Any) -> dict[str, Any]:
        tables = [table(f"{name}.t", f"{name}:{{id}}", delivery="direct", **more)]
        return {"gearsync_source": name, "gearsync_tables": tables}

    found = problems(*inventory(db1=source("orders"), db2=source("users"), w1={}))
    assert len(found) == 1
    assert "by the function syncToRedis on the job server 127.0.0.1:4730" in found[0]
    assert (
        problems(*inventory(db1=source("orders"), db2=source("users", function="usersToRedis"), w1={})) == []
    )


def test_the_settings_that_are_found_for_a_source_are_those_that_its_tasks_get() -> None:
    find, each = (
        yaml.safe_load((ROLE / f"tasks/{name}.yml").read_text())
        for name in ("find_sources", "each_found_source")
    )
    names = list(find[0]["vars"]["own"])
    assert find[0]["vars"]["own"] == {name: f"{{{{ worker_{name} }}}}" for name in names}
    assert each[0]["vars"] == {f"worker_{name}": f"{{{{ __worker_instance.{name} }}}}" for name in names}
    assert {f"worker_{name}" for name in names} <= set(
        yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    )


def managed(host: str, **more: Any) -> dict[str, Any]:
    return {"gearsync_mysql_access": "network", "gearsync_mysql_login_host": host, **more}


def test_workers_reach_a_database_without_ssh_where_the_modules_do() -> None:
    mine = {"gearsync_worker_mysql": {"user": "gearsync", "password": "a"}, "ansible_host": "192.0.2.9"}
    hostvars, groups = inventory(db1={**ORDERS, **managed("db.example", **mine)}, db2=USERS, w1={})
    ((orders, _users),) = instances(hostvars, groups).values()
    assert orders["mysql"] == {"host": "db.example", "port": 3306, "user": "gearsync", "password": "a"}
    # A proxy for example.
    hostvars["db1"]["gearsync_worker_mysql"] = {"host": "proxy", "user": "gearsync"}
    ((orders, _users),) = instances(hostvars, groups).values()
    assert orders["mysql"] == {"host": "proxy", "user": "gearsync"}


def test_the_members_of_a_source_without_ssh_have_their_own_addresses_and_ports() -> None:
    mine = {**ORDERS, "gearsync_worker_mysql": {"user": "gearsync"}}
    hostvars, groups = inventory(
        db1={**mine, **managed("db.example")},
        db2={**mine, **managed("db.example", gearsync_mysql_login_port=3307)},
        w1={},
    )
    ((orders,),) = instances(hostvars, groups).values()
    assert orders["mysql"] == {
        "user": "gearsync",
        "members": [{"host": "db.example", "port": 3306}, {"host": "db.example", "port": 3307}],
    }


@pytest.mark.parametrize(
    ("database", "worker", "sweep"),
    [
        (managed("db.example"), {}, 0.05),
        ({**managed("db.example"), "worker_sweep": 0.5}, {}, 0.5),
        (managed("db.example"), {"worker_sweep": 0.4}, 0.4),
        ({}, {}, 0.25),
    ],
)
def test_workers_look_more_often_where_nothing_wakes_them(
    database: dict[str, Any], worker: dict[str, Any], sweep: float
) -> None:
    hostvars, groups = inventory(db1={**ORDERS, **database}, db2=USERS, w1=worker)
    ((orders, users),) = instances(hostvars, groups, sweep=worker.get("worker_sweep", 0.25)).values()
    assert (orders["sweep"], users["sweep"]) == (sweep, worker.get("worker_sweep", 0.25))
    hostvars, groups = inventory(db1={**ORDERS, **database}, w1=worker)
    ((orders,),) = instances(hostvars, groups, sweep=worker.get("worker_sweep", 0.25)).values()
    assert orders["sweep"] == sweep


def test_members_that_are_reached_in_different_ways_are_refused() -> None:
    hostvars, groups = inventory(
        db1={**ORDERS, "gearsync_mysql_access": "host"}, db2={**ORDERS, **managed("db.example")}, w1={}
    )
    assert any(
        "gearsync_mysql_access differs between db1, db2" in each for each in problems(hostvars, groups)
    )
    hostvars["db2"] = ORDERS
    assert not any("gearsync_mysql_access" in each for each in problems(hostvars, groups))


@pytest.mark.parametrize(
    ("variables", "own", "needed"),
    [
        # The default: each host has its own servers.
        ({}, {}, []),
        ({"gearsync_job_servers": ["127.0.0.1:4730", "[::1]", "localhost"]}, {}, []),
        ({"gearsync_job_servers": ["127.0.0.1:4730", "jobs:4730"]}, {}, ["job_servers"]),
        ({"gearsync_job_servers": ["jobs"]}, {}, ["job_servers"]),
        ({"mysql_udf_job_servers": ["10.0.0.1:4730"]}, {}, ["job_servers"]),
        ({"worker_job_servers": ["10.0.0.1:4730"]}, {}, ["job_servers"]),
        ({"gearsync_redis": {"unix_socket": "/run/redis.sock"}}, {}, []),
        ({"gearsync_redis": {"port": 6380}}, {}, []),
        ({"gearsync_redis": {"host": "cache"}}, {}, ["redis"]),
        ({"worker_redis": {"sentinels": ["127.0.0.1:26379"], "sentinel_master": "m"}}, {}, ["redis"]),
        ({"gearsync_redis": {"cluster": ["127.0.0.1:7000"]}}, {}, ["redis"]),
        # Another name of the machine.
        ({"ansible_host": "10.0.0.9"}, {"ansible_host": "10.0.0.9"}, ["job_servers", "redis"]),
        ({"ansible_connection": "local"}, {"ansible_connection": "local"}, ["job_servers", "redis"]),
    ],
)
def test_a_source_may_use_the_servers_of_other_hosts_only_by_their_addresses(
    variables: dict[str, Any], own: dict[str, Any], needed: list[str]
) -> None:
    hostvars, groups = inventory(left={**ORDERS, **variables}, gone={**USERS, **own})
    settings = ("job_servers", "redis")
    assert [each for each in settings if sources_using(["orders"], hostvars, groups, "gone", each)] == needed


def test_a_source_may_use_the_servers_of_its_own_hosts_and_of_its_workers() -> None:
    hostvars, groups = inventory(left=ORDERS, w1={"gearsync_worker_sources": ["orders"]}, w2={}, w3={})
    hostvars["w3"]["gearsync_worker_sources"] = ["users"]
    for host, used in (("left", True), ("w1", True), ("w2", True), ("w3", False)):
        assert (sources_using(["orders"], hostvars, groups, host, "redis") == ["orders"]) is used
