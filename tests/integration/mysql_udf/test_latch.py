# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries whose settings are locked, or that a statement keeps loaded."""

import contextlib
import json
import threading

import pymysql
import pytest
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY
from harness.numbered_library import BUILD_NUMBER
from harness.waiting import until
from harness.writers import Writers


def stats(database):
    return json.loads(database.execute("SELECT gman_stats()")[0][0])


@pytest.fixture
def locked(database, gearman, modules):
    """The functions, locked with a setting and a list of a function's own beside the common one."""
    database.execute(
        "SELECT gman_configure('io_timeout_ms', '777')",
        f"SELECT gman_servers_set('{gearman.address}', 'own')",
        "SELECT gman_configure('locked', 'on')",
    )
    yield stats(database)
    modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, state="absent", force=True)


@pytest.fixture
def unlock(modules):
    def run(**options):
        return modules.run(
            "mysql_udf", soname=GEARMAN_LIBRARY, functions=GEARMAN_FUNCTIONS, unlock=True, **options
        )

    return run


@contextlib.contextmanager
def statement_that_uses_a_function(database, gearman):
    """One that waits for a worker that does not come."""
    connection = database.connect()

    def wait():
        with contextlib.suppress(pymysql.MySQLError), connection.cursor() as cursor:
            cursor.execute("SELECT gman_do('nobody does this', 'x')")

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        until(lambda: gearman.queue("nobody does this")[0], 1)
        yield
    finally:
        database.execute(f"KILL QUERY {connection.thread_id()}")
        thread.join()
        connection.close()
        gearman.jobs("nobody does this")


def test_a_locked_library_is_locked_again_when_it_is_exchanged(database, another_build, locked):
    assert another_build()["reloaded"]
    after = stats(database)
    assert (after["settings"], after["server_lists"]) == (locked["settings"], locked["server_lists"])
    with pytest.raises(pymysql.MySQLError, match="locked"):
        database.execute("SELECT gman_configure('io_timeout_ms', '1')")


def test_unlock_loads_the_library_again_with_its_settings(database, gearman, unlock, locked):
    result = unlock(check=True)
    assert result["changed"]
    assert stats(database)["settings"] == locked["settings"]
    result = unlock()
    assert (result["changed"], result["reloaded"]) == (True, True)
    after = stats(database)
    assert after["settings"] == {**locked["settings"], "locked": "off"}
    assert after["server_lists"] == locked["server_lists"]
    database.execute("SELECT gman_configure('io_timeout_ms', '778')")
    assert not unlock()["changed"]


def test_a_library_without_a_latch_is_not_unlocked(modules, build):
    options = {"soname": "numbered.so", "functions": [BUILD_NUMBER], "unlock": True}
    assert not modules.ok("mysql_udf", src=build(1), **options)["reloaded"]
    assert not modules.ok("mysql_udf", **options)["changed"]


def test_no_write_fails_or_loses_its_job_while_settings_are_unlocked_and_locked(
    database, schema, gearman, unlock, locked
):
    database.execute(
        "CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY)",
        "CREATE TABLE shop.sent (id INT, handle VARCHAR(200) NOT NULL)",
        "CREATE TRIGGER shop.sends AFTER INSERT ON shop.t FOR EACH ROW INSERT INTO shop.sent VALUES "
        "(NEW.id, gman_do_background('f', NEW.id))",
    )

    def write(cursor, _writer, _number):
        cursor.execute("INSERT INTO shop.t VALUES ()")

    with Writers(database, 4, write) as writers:
        for value in range(1000, 1005):
            writers.go_on()
            assert unlock(lock_wait_timeout=300)["reloaded"]
            database.execute(
                f"SELECT gman_configure('wake_interval_ms', {value})", "SELECT gman_configure('locked', 'on')"
            )
        writers.go_on()
    assert writers.errors == []
    assert database.execute(
        "SELECT COUNT(*) FROM shop.t LEFT JOIN shop.sent USING (id) WHERE sent.handle IS NULL"
    ) == [(0,)]
    assert stats(database)["settings"]["wake_interval_ms"] == 1004


def test_a_library_that_stays_loaded_is_an_error(database, gearman, another_build, unlock, locked):
    """A statement uses a function of it: the server keeps what it has mapped."""
    with statement_that_uses_a_function(database, gearman):
        for result in (unlock(), another_build(), another_build()):
            assert result["failed"]
            assert "in use" in result["msg"]
        assert stats(database)["settings"] == locked["settings"]
    result = another_build()
    assert (result["changed"], result["reloaded"]) == (True, True)
    assert stats(database)["settings"] == locked["settings"]


def test_a_library_that_stayed_loaded_is_loaded_by_the_next_run(database, gearman, modules, another_build):
    with statement_that_uses_a_function(database, gearman):
        assert another_build()["failed"]
    result = modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, functions=GEARMAN_FUNCTIONS)
    # Of MySQL's nothing had been replaced.
    assert result["reloaded"] == (database.engine == "mariadb")
    assert not modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, functions=GEARMAN_FUNCTIONS)["changed"]
