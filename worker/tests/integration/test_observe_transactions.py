# SPDX-License-Identifier: GPL-3.0-or-later
"""Open transactions as the exporter and `gearsync status` show them."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
from harness.commands import Commands
from harness.observed import Pipeline
from harness.waiting import until


@pytest.fixture
def client(pipeline: Pipeline) -> Iterator[Any]:
    """A cursor whose transactions end only by themselves, or with the test."""
    pipeline.database.execute("CREATE TABLE shop.plain (id INT PRIMARY KEY) ENGINE=InnoDB")
    with pipeline.database.connect() as connection, connection.cursor() as cursor:
        yield cursor


def test_a_transaction_that_has_written_is_seen_while_it_is_open(pipeline: Pipeline, client: Any) -> None:
    pipeline.start()
    until(lambda: pipeline.exporter.value("gearsync_oldest_writer_seconds"), 0.0)
    assert pipeline.exporter.value("gearsync_prepared_transactions") == 0.0
    # trx_started is in the time of the server's host, which is neither that of a worker's session nor this
    # one's.
    client.execute("SET time_zone = '-08:00'")
    for statement in ("START TRANSACTION", "INSERT INTO shop.plain VALUES (1)"):
        client.execute(statement)
    # None of the worker's own lasts for so long.
    until(lambda: 3.0 <= (pipeline.exporter.value("gearsync_oldest_writer_seconds") or 0) < 1800.0)
    assert pipeline.exporter.value("gearsync_prepared_transactions") == 0.0
    assert pipeline.status()[1]["hints"] == []
    client.execute("COMMIT")
    until(lambda: (pipeline.exporter.value("gearsync_oldest_writer_seconds") or 0) < 3.0)


def test_a_snapshot_is_seen_while_it_is_open(pipeline: Pipeline, client: Any) -> None:
    pipeline.start()
    until(lambda: pipeline.exporter.value("gearsync_oldest_reader_seconds"), 0.0)
    client.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    until(lambda: 3.0 <= (pipeline.exporter.value("gearsync_oldest_reader_seconds") or 0) < 1800.0)
    assert (pipeline.exporter.value("gearsync_oldest_writer_seconds") or 0) < 3.0
    client.execute("COMMIT")
    until(lambda: (pipeline.exporter.value("gearsync_oldest_reader_seconds") or 0) < 3.0)


def test_a_prepared_transaction_whose_client_is_gone_is_seen_until_it_is_ended(pipeline: Pipeline) -> None:
    pipeline.database.execute("CREATE TABLE shop.plain (id INT PRIMARY KEY) ENGINE=InnoDB")
    pipeline.start()
    until(lambda: pipeline.exporter.value("gearsync_prepared_transactions"), 0.0)
    pipeline.database.execute(
        "XA START 'x'", "INSERT INTO shop.plain VALUES (1)", "XA END 'x'", "XA PREPARE 'x'"
    )
    try:
        until(lambda: pipeline.exporter.value("gearsync_prepared_transactions"), 1.0)
        until(lambda: (pipeline.exporter.value("gearsync_oldest_writer_seconds") or 0) >= 3.0)
    finally:
        pipeline.database.execute("XA ROLLBACK 'x'")
    until(lambda: pipeline.exporter.value("gearsync_prepared_transactions"), 0.0)


@pytest.mark.parametrize(
    "reason",
    [
        "the definer lacks PROCESS",
        "the definer is gone",
        "the procedure is absent",
        "the account may not call it",
    ],
)
def test_where_transactions_cannot_be_seen_their_metrics_are_absent_and_all_else_is_in_order(
    pipeline: Pipeline, tmp_path: pathlib.Path, reason: str
) -> None:
    database = pipeline.database
    ((_name, _mode, text, *_more),) = database.execute("SHOW CREATE PROCEDURE gearsync.transactions")
    assert "DEFINER=`root`@`localhost`" in text
    database.execute(
        "DROP USER IF EXISTS 'limited'@'localhost'",
        "CREATE USER 'limited'@'localhost' IDENTIFIED BY 'secret'",
        "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON gearsync.* TO 'limited'@'localhost'",
        "GRANT SELECT ON shop.item TO 'limited'@'localhost'",
    )
    if reason == "the account may not call it":
        database.execute(
            "REVOKE EXECUTE ON gearsync.* FROM 'limited'@'localhost'",
            "GRANT EXECUTE ON PROCEDURE gearsync.trigger_checksums TO 'limited'@'localhost'",
        )
    else:
        database.execute("DROP PROCEDURE gearsync.transactions")
    if "definer" in reason:
        definer = "unknown" if reason == "the definer is gone" else "limited"
        database.execute("USE gearsync", text.replace("`root`@", f"`{definer}`@"))
    pipeline.config["mysql"] = {**database.account, "user": "limited", "password": "secret"}
    pipeline.commands = Commands(pipeline.config, tmp_path)
    pipeline.start()
    until(lambda: pipeline.exporter.get("/readyz")[0], 200)
    until(lambda: pipeline.exporter.value("gearsync_outbox_rows", table="shop.item"), 0.0)
    assert [
        pipeline.exporter.value(f"gearsync_{name}")
        for name in ("oldest_writer_seconds", "oldest_reader_seconds", "prepared_transactions")
    ] == [None] * 3
    assert pipeline.exporter.value("gearsync_mysql_up") == 1.0
    until(lambda: [pipeline.status()[1][name] for name in ("ok", "mistakes", "hints")], [True, [], []])
    assert pipeline.in_database()["transactions"] is None
    database.execute("DROP USER 'limited'@'localhost'")
