# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync status` and the exporter, beside a worker that works on real servers."""

from __future__ import annotations

import os
import pathlib
import select
import signal
import socket

from harness.commands import Commands
from harness.observed import TABLE, Pipeline
from harness.waiting import until


def test_changes_their_lag_and_who_applied_them_are_seen(pipeline: Pipeline) -> None:
    # No lease may run out where this machine stands still.
    pipeline.config["worker"]["lease"] = 60.0
    pipeline.start()
    exporter = pipeline.exporter
    until(lambda: [exporter.value("gearsync_lease_held", shard=shard) for shard in ("1", "2")], [1.0, 1.0])
    # A sleep in the statement is part of the lag: it counts from the statement's beginning.
    pipeline.database.execute(
        "INSERT INTO shop.item SELECT 1, SLEEP(0.3)", "INSERT INTO shop.item VALUES (2, 'b'), (3, 'c')"
    )
    until(lambda: exporter.value("gearsync_changes_applied_total", table="shop.item"), 3.0)
    until(lambda: exporter.value("gearsync_lag_seconds_count", table="shop.item"), 3.0)
    assert (exporter.value("gearsync_lag_seconds_bucket", table="shop.item", le="0.25") or 0) <= 2.0
    until(lambda: (exporter.value("gearsync_lag_seconds_sum", table="shop.item") or 0) >= 0.3)
    until(lambda: exporter.value("gearsync_outbox_rows", table="shop.item"), 0.0)
    until(lambda: exporter.value("gearsync_triggers_current", table="shop.item"), 1.0)
    until(lambda: exporter.value("gearsync_live_workers"), 1.0)
    until(lambda: exporter.get("/readyz")[0], 200)
    until(lambda: exporter.value("gearsync_redis_commands_total", delivery="durable"), 3.0)
    until(lambda: exporter.get("/healthz")[0], 200)
    until(lambda: exporter.get("/")[0], 404)

    until(lambda: [pipeline.status()[1][name] for name in ("ok", "mistakes")], [True, []])
    until(lambda: pipeline.status()[1]["activity"].get("shop.item", {}).get("rate", 0) > 0)
    until(lambda: pipeline.commands.run("status")[0], 0)
    text = pipeline.commands.done("status")
    assert "shop.item" in text
    assert "in order" in text


def test_counters_go_on_when_a_process_is_killed_and_count_nothing_twice(pipeline: Pipeline) -> None:
    # What was applied is in the outbox still when the next process begins.
    pipeline.config["worker"]["keep"] = 600.0
    worker = pipeline.start()
    until(lambda: pipeline.exporter.get("/readyz")[0], 200)
    pipeline.database.execute("INSERT INTO shop.item VALUES (1, 'a')")
    until(lambda: pipeline.exporter.value("gearsync_changes_applied_total", table="shop.item"), 1.0)
    os.kill(*worker.children, signal.SIGKILL)
    until(lambda: pipeline.exporter.value("gearsync_process_restarts_total"), 1.0)
    pipeline.database.expire_leases()
    pipeline.database.execute("INSERT INTO shop.item VALUES (2, 'b')")
    until(lambda: pipeline.redis.client.exists("item:2"), 1)
    until(lambda: (pipeline.exporter.value("gearsync_changes_applied_total", table="shop.item") or 0) >= 2.0)
    assert pipeline.exporter.value("gearsync_changes_applied_total", table="shop.item") == 2.0
    assert pipeline.exporter.value("gearsync_process_restarts_total") == 1.0


def test_clients_that_are_silent_take_no_descriptor_from_the_supervisor(pipeline: Pipeline) -> None:
    worker = pipeline.start()
    until(lambda: pipeline.exporter.get("/readyz")[0], 200)
    silent = [socket.create_connection(("127.0.0.1", pipeline.exporter.port)) for _client in range(200)]
    try:
        until(lambda: len(select.select(silent, [], [], 0)[0]) >= 150)
        assert len(os.listdir(f"/proc/{worker.process.pid}/fd")) < 100
        pipeline.database.execute("INSERT INTO shop.item VALUES (1, 'a')")
        until(lambda: pipeline.redis.client.exists("item:1"), 1)
    finally:
        for client in silent:
            client.close()
    until(lambda: pipeline.exporter.get("/readyz")[0], 200)


def test_a_stop_does_not_wait_for_the_exporter(pipeline: Pipeline) -> None:
    # An exporter that does not stop would be waited for longer than this test waits.
    pipeline.config["worker"]["shutdown_timeout"] = 600.0
    worker = pipeline.start()
    until(lambda: pipeline.exporter.get("/readyz")[0], 200)
    assert worker.terminate() == 0


def test_a_column_or_an_index_that_is_added_needs_nothing(pipeline: Pipeline) -> None:
    pipeline.start()
    until(lambda: pipeline.status()[0], 0)
    pipeline.database.execute(
        "INSERT INTO shop.item VALUES (1, 'a')",
        "ALTER TABLE shop.item ADD COLUMN more INT NOT NULL DEFAULT 7, ADD KEY (name)",
    )
    pipeline.database.execute(
        "INSERT INTO shop.item VALUES (2, 'b', 8)", "UPDATE shop.item SET name = 'c' WHERE id = 1"
    )
    until(lambda: pipeline.database.waiting, 0)
    assert [pipeline.redis.client.hget(key, "name") for key in ("item:1", "item:2")] == [b"c", b"b"]
    until(lambda: [pipeline.status()[1][name] for name in ("ok", "mistakes", "hints")], [True, [], []])
    assert pipeline.commands.verify()[0] == 0


def trigger_problems(pipeline: Pipeline) -> None:
    """Make each problem of a table's triggers, see it reported, and sync the table again."""
    for problem, *statements in (
        ("triggers missing: gearsync_ad_item", "DROP TRIGGER shop.gearsync_ad_item"),
        (
            "triggers not as deployed: gearsync_ai_item",
            "DROP TRIGGER shop.gearsync_ai_item",
            "CREATE TRIGGER shop.gearsync_ai_item AFTER INSERT ON shop.item FOR EACH ROW SET @x = 1",
        ),
        (
            "triggers made for other column types: name",
            "ALTER TABLE shop.item MODIFY name LONGTEXT",
        ),
    ):
        pipeline.database.execute(*statements)
        until(
            lambda problem=problem: pipeline.status()[1]["mistakes"],
            [f"shop.item: {problem}; run site.yml, then verify"],
        )
        pipeline.database.sync_table(**TABLE)


def test_a_problem_is_reported_while_it_lasts(pipeline: Pipeline) -> None:
    code, found = pipeline.status()
    assert code == 1
    assert found["mistakes"] == ["no worker process is running: start gearsync-worker on a worker host"]

    pipeline.start()
    until(lambda: pipeline.status()[0], 0)
    trigger_problems(pipeline)
    until(lambda: pipeline.status()[0], 0)

    pipeline.redis.stop()
    until(lambda: pipeline.exporter.get("/readyz")[0], 503)
    until(lambda: "redis" in pipeline.exporter.get("/readyz")[1])
    until(lambda: pipeline.exporter.value("gearsync_redis_up"), 0.0)
    pipeline.database.execute("INSERT INTO shop.item VALUES (1, 'a')")
    until(lambda: pipeline.exporter.value("gearsync_outbox_rows", table="shop.item"), 1.0)
    until(lambda: (pipeline.exporter.value("gearsync_outbox_oldest_age_seconds", table="shop.item") or 0) > 0)
    pipeline.redis.start()
    until(lambda: pipeline.exporter.get("/readyz")[0], 200)
    until(lambda: pipeline.exporter.value("gearsync_outbox_rows", table="shop.item"), 0.0)

    pipeline.database.kill()
    until(lambda: pipeline.exporter.value("gearsync_mysql_up"), 0.0)
    assert pipeline.exporter.value("gearsync_outbox_rows", table="shop.item") is None
    assert pipeline.exporter.get("/readyz")[0] == 503
    until(lambda: pipeline.exporter.get("/healthz")[0], 200)
    code, found = pipeline.status()
    assert code == 1
    assert found["database"] is None
    pipeline.database.start()
    until(lambda: pipeline.exporter.get("/readyz")[0], 200)


def test_the_result_of_a_verification_is_kept(pipeline: Pipeline) -> None:
    pipeline.start()
    pipeline.database.execute("INSERT INTO shop.item VALUES (1, 'a'), (2, 'b')")
    until(lambda: pipeline.redis.client.exists("item:1", "item:2"), 2)
    pipeline.redis.client.delete("item:1")
    assert pipeline.commands.run("verify")[0] == 1
    until(
        lambda: pipeline.exporter.value("gearsync_verify_differences", table="shop.item", kind="missing"), 1.0
    )
    until(lambda: any("found 1 differences" in problem for problem in pipeline.status()[1]["mistakes"]))
    pipeline.commands.done("verify", "--repair")
    until(
        lambda: pipeline.exporter.value("gearsync_verify_differences", table="shop.item", kind="missing"), 0.0
    )
    until(lambda: pipeline.status()[0], 0)
    # A table that is not synced any more has no result.
    pipeline.database.sync_table(table="shop.item", state="absent")
    until(
        lambda: pipeline.exporter.value("gearsync_verify_differences", table="shop.item", kind="missing"),
        None,
    )


def test_a_sample_and_a_failure_are_kept_beside_the_result_of_the_whole(pipeline: Pipeline) -> None:
    worker = pipeline.start()
    pipeline.database.execute("INSERT INTO shop.item VALUES (1, 'a'), (2, 'b')")
    until(lambda: pipeline.redis.client.exists("item:1", "item:2"), 2)
    until(
        lambda: pipeline.exporter.value("gearsync_verify_last_run_timestamp_seconds", table="shop.item"), 0.0
    )
    pipeline.redis.client.delete("item:1")
    assert pipeline.commands.run("verify")[0] == 1
    pipeline.commands.done("verify", "--sample", "0.0001")
    until(
        lambda: pipeline.exporter.value("gearsync_verify_differences", table="shop.item", kind="missing"), 1.0
    )
    worker.terminate()
    pipeline.database.put(("insert", {"new": {"id": 3, "name": "c"}}), shard=1)
    assert pipeline.commands.run("verify", "--settle", "0.1")[0] == 2
    result = pipeline.in_database()["verifications"]["shop.item"]
    assert (result["rows"], result["different"]["missing"]) == (2, 1)
    assert "waiting in the outbox" in result["error"]


def test_triggers_of_another_declaration_than_the_configurations_are_reported(
    pipeline: Pipeline, tmp_path: pathlib.Path
) -> None:
    pipeline.database.execute("ALTER TABLE shop.item ADD COLUMN more INT")
    changed = {**TABLE, "columns": ["id", "name", "more"]}
    never = {**TABLE, "table": "shop.never", "write": [{"type": "hash", "key": "never:{id}"}]}
    pipeline.config["tables"] = [changed, never]
    pipeline.commands = Commands(pipeline.config, tmp_path)
    pipeline.start()
    until(
        lambda: pipeline.status()[1]["mistakes"],
        [
            "shop.never is declared and has no triggers yet: run site.yml",
            "shop.item: triggers made from another declaration: more; run site.yml, then verify",
        ],
    )
    until(lambda: pipeline.exporter.value("gearsync_triggers_current", table="shop.item"), 0.0)
    until(lambda: pipeline.exporter.value("gearsync_triggers_current", table="shop.never"), 0.0)
    pipeline.database.sync_table(**changed)
    until(
        lambda: pipeline.status()[1]["mistakes"],
        ["shop.never is declared and has no triggers yet: run site.yml"],
    )


def test_direct_delivery_alone_needs_no_schema(pipeline: Pipeline) -> None:
    pipeline.database.execute(
        "DROP DATABASE gearsync",
        "DROP USER IF EXISTS 'limited'@'localhost'",
        "CREATE USER 'limited'@'localhost' IDENTIFIED BY 'secret'",
    )
    pipeline.config["mysql"] = {**pipeline.database.account, "user": "limited", "password": "secret"}
    pipeline.config["worker"]["drainers"] = 0
    pipeline.config["tables"] = [{**TABLE, "delivery": "direct"}]
    pipeline.start()
    until(lambda: pipeline.exporter.get("/readyz")[0], 200)
    until(lambda: pipeline.exporter.value("gearsync_mysql_up"), 1.0)
    pipeline.database.execute("DROP USER 'limited'@'localhost'")


def test_a_backlog_of_one_shard_hides_no_other_table(pipeline: Pipeline) -> None:
    pipeline.database.put(*[("insert", "{}")] * 25_000, shard=1)
    pipeline.database.put(("insert", "{}"), shard=2, table="shop.other")
    found = pipeline.in_database()
    assert found["truncated"] is True
    assert found["waiting"]["shop.item"]["rows"] == 19_999
    assert found["waiting"]["shop.other"]["rows"] == 1


def test_an_account_without_rights_on_triggers_sees_their_checksums(
    pipeline: Pipeline, tmp_path: pathlib.Path
) -> None:
    pipeline.start()
    pipeline.database.execute(
        "DROP USER IF EXISTS 'limited'@'localhost'",
        "CREATE USER 'limited'@'localhost' IDENTIFIED BY 'secret'",
        "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON gearsync.* TO 'limited'@'localhost'",
        "GRANT SELECT ON shop.item TO 'limited'@'localhost'",
    )
    pipeline.commands = Commands(
        {**pipeline.config, "mysql": {**pipeline.database.account, "user": "limited", "password": "secret"}},
        tmp_path,
    )
    until(lambda: pipeline.status()[1]["mistakes"], [])
    assert pipeline.in_database()["triggers"] == {"shop.item": None}
    assert "secret" not in pipeline.commands.run("status", "--json")[1]
    pipeline.database.execute("DROP USER 'limited'@'localhost'")
