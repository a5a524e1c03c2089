# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbooks that operators run every day: verify and resync, and the web server that they watch."""

from __future__ import annotations

import pathlib

import pytest
import yaml
from harness.hosts import Host, Playbooks, names, recap
from harness.places import ROOT
from harness.waiting import until


def test_verify_passes_on_equal_sides_and_changes_nothing(playbooks: Playbooks) -> None:
    status, output = playbooks.run("playbooks/verify.yml")
    assert status == 0, output
    assert output.count("shop.customer: equal") == len(names())
    assert all(host["changed"] == 0 for host in recap(output).values()), output


@pytest.mark.long
def test_verify_names_what_differs_and_mends_it_when_told(playbooks: Playbooks) -> None:
    first = Host(names()[0])
    first.sql(
        "INSERT INTO customer (id, name) VALUES (40, 'forty') ON DUPLICATE KEY UPDATE name = 'forty';",
        database="shop",
    )
    until(lambda: first.redis("hget", "customer:40", "name"), "forty")
    first.redis("del", "customer:40")
    first.redis("hset", "customer:41", "name", "nobody")
    verify = ("playbooks/verify.yml", "--limit", first.name)
    status, output = playbooks.run(*verify)
    assert status != 0
    assert recap(output)[first.name]["failed"] == 1, output
    assert "missing: 1" in output
    assert "orphaned: 1" in output
    assert "gearsync_verify_repair=true" in output
    assert first.redis("exists", "customer:40") == "0"

    status, output = playbooks.run(
        *verify, "--check", "--extra-vars", "gearsync_verify_repair=true gearsync_verify_prune=true"
    )
    assert first.redis("exists", "customer:40") == "0", output
    status, output = playbooks.run(
        *verify, "--extra-vars", "gearsync_verify_repair=true gearsync_verify_prune=true"
    )
    assert status == 0, output
    assert recap(output)[first.name]["changed"] == 1, output
    assert (first.redis("hget", "customer:40", "name"), first.redis("exists", "customer:41")) == (
        "forty",
        "0",
    )


def test_resync_brings_a_table_back(playbooks: Playbooks) -> None:
    first = Host(names()[0])
    first.sql(
        "INSERT INTO customer (id, name) VALUES (42, 'fortytwo') ON DUPLICATE KEY UPDATE name = 'fortytwo';",
        database="shop",
    )
    until(lambda: first.redis("hget", "customer:42", "name"), "fortytwo")
    first.redis("del", "customer:42")
    status, output = playbooks.run("playbooks/resync.yml", "--limit", first.name, "--check")
    assert status == 0, output
    assert "would be loaded" in output
    assert first.redis("exists", "customer:42") == "0"
    status, output = playbooks.run(
        "playbooks/resync.yml",
        "--limit",
        first.name,
        "--extra-vars",
        '{"gearsync_resync_tables": ["shop.customer"], "gearsync_resync_where": "id = 42"}',
    )
    assert status == 0, output
    assert first.redis("hget", "customer:42", "name") == "fortytwo"


def test_the_worker_shows_metrics_and_health_on_loopback_alone(host: Host) -> None:
    def get(path: str) -> str:
        return host.run(
            "/opt/gearsync/venv/bin/python -",
            stdin="import urllib.request as r; "
            f"print(r.urlopen('http://127.0.0.1:9788{path}').read().decode())",
        )

    assert '"ok":true' in get("/healthz")
    assert '"ok":true' in get("/readyz")
    metrics = get("/metrics")
    assert f'gearsync_triggers_current{{source="{host.source}",table="shop.customer"}} 1.0' in metrics
    assert "gearsync_udf_wakes_total" in metrics
    # 127.0.0.1:9788 as the kernel writes it, and nothing else at that port.
    assert "0100007F:263C 00000000:0000 0A" in host.run("cat /proc/net/tcp")
    assert host.run("cat /proc/net/tcp /proc/net/tcp6").count(":263C 0000") == 1
    assert host.run("/opt/gearsync/venv/bin/gearsync status").count("\n") > 5


@pytest.mark.long
def test_the_status_tells_of_a_trigger_that_is_gone(playbooks: Playbooks) -> None:
    hosts = [Host(name) for name in names()]
    for host in hosts:
        host.sql("DROP TRIGGER gearsync_ad_customer;", database="shop")
        assert "triggers missing: gearsync_ad_customer" in host.run(
            "/opt/gearsync/venv/bin/gearsync status", ok=False
        )
    status, output = playbooks.run("site.yml", "--tags", "sync_triggers")
    assert status == 0, output
    for host in hosts:
        host.run("/opt/gearsync/venv/bin/gearsync status")


def test_a_table_is_taken_out_of_the_sync_without_leaving_a_change_behind(
    playbooks: Playbooks, tmp_path: pathlib.Path
) -> None:
    host = Host(names()[0])
    host.sql("CREATE TABLE retired (id INT AUTO_INCREMENT PRIMARY KEY) ENGINE=InnoDB;", database="shop")
    declared = yaml.safe_load((ROOT / "molecule/inventory/group_vars/scenario.yml").read_text())[
        "shop_tables"
    ]
    added = {"table": "shop.retired", "columns": ["id"], "write": [{"type": "hash", "key": "retired:{id}"}]}
    extended = tmp_path / "extended.yml"
    extended.write_text(yaml.safe_dump({"gearsync_tables": [*declared, added]}))
    run = ["site.yml", "--limit", host.name, "--tags", "worker,sync_triggers"]
    status, output = playbooks.run(*run, "--extra-vars", f"@{extended}")
    assert status == 0, output
    try:
        # Somebody writes all the time, until after the last trigger is gone.
        writer = "while :; do echo 'INSERT INTO retired () VALUES ();'; sleep 0.01; done | mysql shop"
        host.run(f'nohup sh -c "{writer}" >/dev/null 2>&1 & echo $! >/run/writer.pid')
        until(lambda: host.redis("exists", "retired:100"), "1")
        status, output = playbooks.run(*run)
        assert status == 0, output
    finally:
        host.run("pkill -P $(cat /run/writer.pid); kill $(cat /run/writer.pid)", ok=False)
    assert host.sql("SELECT COUNT(*) FROM gearsync.outbox WHERE table_name = 'shop.retired';") == "0"
    assert (
        host.sql("SELECT COUNT(*) FROM information_schema.triggers WHERE event_object_table = 'retired';")
        == "0"
    )
    assert int(host.sql("SELECT COUNT(*) FROM retired;", database="shop")) > 100
    host.run("/opt/gearsync/venv/bin/gearsync status")
    host.sql("DROP TABLE retired;", database="shop")
    host.redis(
        "eval", "for _, key in ipairs(redis.call('KEYS', 'retired:*')) do redis.call('UNLINK', key) end", "0"
    )
