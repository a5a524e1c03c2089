# SPDX-License-Identifier: GPL-3.0-or-later
"""What servers return of their part in replication, made by hand, and what the filter makes of it."""

from __future__ import annotations

from typing import Any

from ansible_collections.gearsync.mysql_redis.plugins.filter.source_members import FilterModule  # type: ignore[import-untyped]

decide = FilterModule().filters()["source_members"]
Info = dict[str, Any]


def server(number: int, **facts: Any) -> Info:
    """What a MySQL that takes writes and does not replicate returns; as MariaDB with server_uuid=None."""
    return {
        "hostname": f"host{number}",
        "port": 3306,
        "server_id": number,
        "server_uuid": f"uuid-{number}",
        "read_only": False,
        "accepts_writes": True,
        "channels": [],
        "replicas": [],
        "dump_threads": [],
        "galera": None,
        "group_replication": None,
        **facts,
    }


def channel_from(source: Info, **facts: Any) -> Info:
    return {
        "name": "",
        "source_host": "10.0.0.1",
        "source_port": source["port"],
        "source_server_id": source["server_id"],
        "source_uuid": source["server_uuid"],
        "io_running": "Yes",
        "io_error_number": 0,
        "io_error": "",
        "sql_running": "Yes",
        "sql_error_number": 0,
        "sql_error": "",
        "seconds_behind": 0,
        **facts,
    }


def follow(replica: Info, source: Info, **facts: Any) -> None:
    """Have one server replicate from another, and be read-only."""
    replica["channels"].append(channel_from(source, **facts))
    replica.update(read_only=True, accepts_writes=False)
    if facts.get("io_running", "Yes") == "Yes":
        register(replica, source)


def register(replica: Info, source: Info) -> None:
    """As a replica whose connection is there."""
    source["replicas"].append(
        {
            "server_id": replica["server_id"],
            "server_uuid": replica["server_uuid"],
            "host": replica["hostname"],
            "port": replica["port"],
        }
    )
    source["dump_threads"].append({"user": "replica", "address": f"10.0.0.{replica['server_id']}"})


def problems(infos: dict[str, Any], **options: bool) -> list[str]:
    """The problems, with which no primary is named."""
    decision = decide(infos, **options)
    assert (decision["primary"] is None) == bool(decision["problems"])
    assert (decision["replicas"] == []) or not decision["problems"]
    return list(decision["problems"])
