# SPDX-License-Identifier: GPL-3.0-or-later
"""A component that is down or dies must neither fail a write nor need anybody's help afterwards."""

from __future__ import annotations

from harness.hosts import Host
from harness.waiting import until

THOUSAND_UPDATES = "".join(
    f"UPDATE user_list SET name = 'n{number}', password = 'p{number}';" for number in range(1000)
)


def test_a_thousand_updates_succeed_while_the_job_server_is_down(host: Host) -> None:
    host.run("systemctl stop gearmand")
    try:
        host.sql(THOUSAND_UPDATES)
        assert host.sql("SELECT name, password FROM user_list LIMIT 1;") == "n999\tp999"
    finally:
        host.run("systemctl start gearmand")

    # The breaker closes again by itself, and the worker finds its way back.
    def synced() -> str:
        host.sql("UPDATE user_list SET name = 'x'; UPDATE user_list SET name = 'back';")
        return host.redis("get", "name")

    until(synced, "back")


def test_jobs_queued_while_the_worker_was_down_are_applied_when_it_returns(host: Host) -> None:
    host.run(f"systemctl stop {host.worker}")
    host.sql("UPDATE user_list SET name = 'queued', password = 'meanwhile';")
    host.run(f"systemctl start {host.worker}")
    until(lambda: (host.redis("get", "name"), host.redis("get", "password")), ("queued", "meanwhile"))


def test_a_killed_worker_comes_back_by_itself(host: Host) -> None:
    before = host.run(f"systemctl show --property MainPID --value {host.worker}")
    host.run(f"systemctl kill --signal=KILL {host.worker}")
    until(
        lambda: (
            host.is_active(host.worker)
            and host.run(f"systemctl show --property MainPID --value {host.worker}") not in ("0", before)
        )
    )
    host.sql("UPDATE user_list SET name = 'killed'; UPDATE user_list SET name = 'revived';")
    until(lambda: host.redis("get", "name"), "revived")


def test_a_killed_job_server_comes_back_by_itself(host: Host) -> None:
    host.run("systemctl kill --signal=KILL gearmand")
    until(lambda: host.is_active("gearmand"))

    def synced() -> str:
        host.sql("UPDATE user_list SET name = 'x'; UPDATE user_list SET name = 'reborn';")
        return host.redis("get", "name")

    until(synced, "reborn")


def test_changes_made_while_redis_was_down_arrive_when_it_is_back(host: Host) -> None:
    unit = host.run(
        "for u in redis-server redis valkey-server valkey; do systemctl is-active --quiet $u && echo $u && "
        "break; done"
    )
    host.run(f"systemctl stop {unit}")
    try:
        host.sql("UPDATE user_list SET name = 'while redis', password = 'was away';")
    finally:
        host.run(f"systemctl start {unit}")
    until(lambda: (host.redis("get", "name"), host.redis("get", "password")), ("while redis", "was away"))


def test_a_malformed_payload_stops_nothing(host: Host) -> None:
    for payload in (
        "not json",
        "[1, 2]",
        "__import__('os').system('touch /tmp/evaluated')",
        '{"$gearsync": 1, "table": "no.such", "event": "insert"}',
    ):
        quoted = payload.replace("'", "''")
        assert host.sql(f"SELECT gman_do_background('syncToRedis', '{quoted}');").startswith("H:")
    host.sql("UPDATE user_list SET name = 'x'; UPDATE user_list SET name = 'still alive';")
    until(lambda: host.redis("get", "name"), "still alive")
    host.run("test ! -e /tmp/evaluated")
    assert "H:" in host.run(f"journalctl --unit {host.worker} --since -60min | grep -i malformed")
