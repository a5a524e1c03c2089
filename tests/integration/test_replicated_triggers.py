# SPDX-License-Identifier: GPL-3.0-or-later
"""What a replica does with the triggers, by the format of the primary's binary log: the table in
docs/operations.md.
"""

import pytest
from harness.database import server_program
from harness.gearmand import Gearmand
from harness.replication import Pair
from harness.waiting import until

IS_MYSQL = server_program()[0] == "mysql"
TABLE = {
    "table": "shop.item",
    "events": ["insert", "update", "delete"],
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}
# Two rows each, and one.
STATEMENTS = (
    "INSERT INTO shop.item (name) VALUES ('a'), ('b')",
    "UPDATE shop.item SET name = CONCAT(name, 'c')",
    "DELETE FROM shop.item ORDER BY id DESC LIMIT 1",
)


@pytest.fixture
def job_servers():
    with Gearmand() as first, Gearmand() as second:
        yield first, second


def prepare(pair, delivery, job_server):
    pair.primary.add_functions(job_server)
    pair.primary.execute(
        "CREATE DATABASE shop",
        "CREATE TABLE shop.item (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40))",
    )
    pair.primary.modules.ok("sync_table", **TABLE, delivery=delivery)
    pair.require_equal()


def write(pair):
    """Write on the primary, and require that the replica has the same afterwards."""
    for statement in STATEMENTS:
        pair.primary.execute(statement)
    pair.require_equal()
    assert pair.replica.execute("SELECT * FROM shop.item") == pair.primary.execute("SELECT * FROM shop.item")


def outbox(server):
    return server.execute("SELECT id, shard, table_name, operation, payload FROM gearsync.outbox ORDER BY id")


def functions(job_server):
    """The functions that jobs wait for."""
    return [line.split("\t")[0] for line in job_server.admin("status").splitlines() if line]


@pytest.mark.parametrize("log_format", ["ROW", "MIXED", "STATEMENT"])
def test_durable_triggers(job_servers, log_format):
    on_primary, on_replica = job_servers
    with Pair(f"--binlog-format={log_format}") as pair:
        prepare(pair, "durable", on_primary)
        for is_registered in (False, True):
            if is_registered:
                pair.replica.add_functions(on_replica)
            write(pair)
            changes = outbox(pair.primary)
            assert len(changes) == (11 if is_registered else 5)
            # Each change once, with the primary's id, whoever has written it there.
            assert outbox(pair.replica) == changes
            assert functions(on_primary)
            is_woken = is_registered and log_format == "STATEMENT"
            assert bool(functions(on_replica)) == is_woken


@pytest.mark.parametrize("log_format", ["ROW", "MIXED", "STATEMENT"])
def test_direct_triggers(job_servers, log_format):
    on_primary, on_replica = job_servers
    with Pair(f"--binlog-format={log_format}") as pair:
        prepare(pair, "direct", on_primary)
        for is_registered in (False, True):
            if is_registered:
                pair.replica.add_functions(on_replica)
            write(pair)
            sent = on_primary.jobs()
            assert len(sent) == (6 if is_registered else 5)
            is_sent_again = is_registered and log_format == "STATEMENT"
            assert on_replica.jobs() == (sent if is_sent_again else [])


@pytest.mark.skipif(IS_MYSQL, reason="MySQL never executes triggers for rows of the binary log")
@pytest.mark.parametrize("run_triggers", ["NO", "YES", "LOGGING", "ENFORCE"])
def test_a_mariadb_that_executes_triggers_for_rows(job_servers, run_triggers):
    on_primary, on_replica = job_servers
    with Pair() as pair:
        prepare(pair, "direct", on_primary)
        pair.replica.add_functions(on_replica)
        pair.replica.stop_replication()
        pair.replica.execute(f"SET GLOBAL slave_run_triggers_for_rbr = {run_triggers}")
        pair.replica.start_replication()
        write(pair)
        sent = on_primary.jobs()
        # YES and LOGGING leave out the tables that have triggers on the primary.
        assert on_replica.jobs() == (sent if run_triggers == "ENFORCE" else [])


@pytest.mark.skipif(IS_MYSQL, reason="MySQL never executes triggers for rows of the binary log")
def test_a_mariadb_that_is_made_to_execute_durable_triggers_stops(job_servers):
    on_primary, _on_replica = job_servers
    with Pair() as pair:
        prepare(pair, "durable", on_primary)
        pair.replica.stop_replication()
        pair.replica.execute("SET GLOBAL slave_run_triggers_for_rbr = ENFORCE")
        pair.replica.start_replication()
        for statement in STATEMENTS:
            pair.primary.execute(statement)
        # The change and the primary's row of the outbox come in one transaction's rows.
        until(lambda: pair.replica.channels()[0]["last_sql_errno"], 1442)
