# SPDX-License-Identifier: GPL-3.0-or-later
"""What those who write to a table with direct delivery notice of its triggers."""

import pytest
from harness.direct import DECLARATION
from harness.waiting import until

pytestmark = pytest.mark.usefixtures("gearman")


@pytest.mark.usefixtures("table")
def test_a_lock_that_cannot_be_had_changes_nothing(database, modules, triggers):
    holder = database.connect()
    holder.begin()
    with holder.cursor() as cursor:
        cursor.execute("INSERT INTO shop.t (name) VALUES ('x')")
    result = modules.run("sync_table", **DECLARATION, lock_wait_timeout=1)
    assert result["failed"]
    assert holder.thread_id() in result["blocked_by"]
    assert triggers() == []
    holder.rollback()
    holder.close()


@pytest.mark.usefixtures("table")
def test_no_write_fails_when_the_job_server_is_down(database, modules, job_server):
    """What such a write costs is measured by bench/outage.py."""
    modules.ok("sync_table", **DECLARATION)
    database.execute("INSERT INTO shop.t (name) VALUES ('x')")

    job_server.stop()
    try:
        with database.connect() as connection, connection.cursor() as cursor:
            for number in range(200):
                assert cursor.execute(f"UPDATE shop.t SET name = 'n{number}'") == 1
    finally:
        job_server.start()
    assert database.execute("SELECT name FROM shop.t") == [("n199",)]
    # The functions use the server again, so that no other test meets its open breaker.
    until(lambda: database.execute("SELECT gman_do_background('again', '')")[0][0])
    job_server.jobs("again")


def test_no_write_fails_when_the_change_is_too_large(database, schema, modules, payloads):
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, name LONGBLOB)")
    modules.ok("sync_table", **DECLARATION)
    # In hexadecimal longer than max_allowed_packet lets a function return.
    size = int(database.execute("SELECT @@max_allowed_packet * 5 DIV 8")[0][0])
    database.execute(f"INSERT INTO shop.t VALUES (1, REPEAT('x', {size}))")
    assert database.execute("SELECT LENGTH(name) FROM shop.t") == [(size,)]
    assert payloads() == []


@pytest.mark.usefixtures("table")
def test_no_write_fails_when_the_functions_are_gone(database, modules, gearman):
    modules.ok("sync_table", **DECLARATION)
    modules.ok("mysql_udf", soname="libgearman_mysql_udf.so", state="absent", force=True)
    database.execute(
        "INSERT INTO shop.t (name) VALUES ('x')", "UPDATE shop.t SET name = 'y'", "DELETE FROM shop.t"
    )


@pytest.mark.usefixtures("table")
def test_the_writers_session_is_left_as_it_was(database, modules):
    modules.ok("sync_table", **DECLARATION)
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET @gearsync = 'mine'")
        cursor.execute("INSERT INTO shop.t (name) VALUES ('x')")
        cursor.execute("SELECT ROW_COUNT(), LAST_INSERT_ID(), @@warning_count")
        assert cursor.fetchone() == (1, 1, 0)
        cursor.execute(
            "SELECT COUNT(*) FROM performance_schema.user_variables_by_thread WHERE VARIABLE_NAME <> "
            "'gearsync'"
        )
        assert cursor.fetchone() == (0,)
    connection.close()


@pytest.mark.usefixtures("table")
def test_a_definer_with_only_the_rights_that_it_needs(database, modules, triggers, payloads):
    database.execute(
        "DROP USER IF EXISTS keeper@localhost",
        "CREATE USER keeper@localhost ACCOUNT LOCK",
        "GRANT TRIGGER, SELECT ON shop.t TO keeper@localhost",
    )
    modules.converge("sync_table", triggers, **DECLARATION, definer="keeper@localhost")
    database.execute("INSERT INTO shop.t (name) VALUES ('x')")
    assert len(payloads()) == 1
    assert {row[5] for row in triggers()} == {"keeper@localhost"}
