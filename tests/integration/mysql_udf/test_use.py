# SPDX-License-Identifier: GPL-3.0-or-later
"""Libraries that are in use while the module changes them: by triggers, transactions and writers, and with
settings of their own.
"""

import contextlib
import json
from pathlib import Path

from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY
from harness.numbered_library import BUILD_NUMBER
from harness.tls import Certificates
from harness.writers import Writers


def test_triggers_keep_their_functions(database, modules, registered, build):
    modules.ok("mysql_udf", soname="numbered.so", src=build(1), functions=[BUILD_NUMBER])
    database.execute(
        "CREATE TABLE shop.t (id INT)",
        "CREATE TRIGGER shop.calls AFTER INSERT ON shop.t FOR EACH ROW SET @a = build_number()",
    )
    before = registered()
    message = modules.refused("mysql_udf", soname="numbered.so", state="absent")
    assert "shop.calls on table t" in message
    assert registered() == before
    assert modules.ok("mysql_udf", soname="numbered.so", state="absent", force=True)["changed"]


def test_a_trigger_that_was_read_without_its_function_gets_it(database, modules, build):
    modules.ok("mysql_udf", soname="numbered.so", src=build(1), functions=[BUILD_NUMBER])
    database.execute(
        "CREATE TABLE shop.t (id INT)",
        "CREATE TABLE shop.seen (build INT)",
        "CREATE TRIGGER shop.calls AFTER INSERT ON shop.t FOR EACH ROW BEGIN DECLARE CONTINUE HANDLER FOR "
        "SQLEXCEPTION BEGIN END;"
        " INSERT INTO shop.seen VALUES (build_number()); END",
    )
    modules.ok("mysql_udf", soname="numbered.so", state="absent", force=True)
    database.execute("FLUSH TABLES", "INSERT INTO shop.t VALUES (1)")
    modules.ok("mysql_udf", soname="numbered.so", functions=[BUILD_NUMBER])
    database.execute("INSERT INTO shop.t VALUES (2)")
    assert database.execute("SELECT build FROM shop.seen") == [(1,)]


@contextlib.contextmanager
def write_left_open(database):
    """The connection of a transaction that has fired a trigger which calls build_number."""
    database.execute(
        "CREATE TABLE shop.t (id INT)",
        "CREATE TRIGGER shop.calls AFTER INSERT ON shop.t FOR EACH ROW SET @a = build_number()",
    )
    holder = database.connect()
    holder.begin()
    with holder.cursor() as cursor:
        cursor.execute("INSERT INTO shop.t VALUES (1)")
    try:
        yield holder
    finally:
        holder.rollback()
        holder.close()


def test_an_open_transaction_is_named_and_nothing_is_changed(database, modules, registered, build):
    modules.ok("mysql_udf", soname="numbered.so", src=build(1), functions=[BUILD_NUMBER])
    before = registered()
    with write_left_open(database) as holder:
        result = modules.run(
            "mysql_udf", soname="numbered.so", src=build(2), functions=[BUILD_NUMBER], lock_wait_timeout=1
        )
        assert result["failed"]
        assert "shop.t" in result["msg"]
        assert holder.thread_id() in result["blocked_by"]
        assert registered() == before
    assert modules.ok("mysql_udf", soname="numbered.so", src=build(2), functions=[BUILD_NUMBER])["reloaded"]


def test_a_function_is_not_replaced_under_an_open_transaction(database, modules, registered, build):
    """Its trigger would meet the moment without the function."""
    modules.ok(
        "mysql_udf",
        soname="numbered.so",
        src=build(1),
        functions=[{"name": "build_number", "returns": "string"}],
    )
    before = registered()
    with write_left_open(database):
        result = modules.run("mysql_udf", soname="numbered.so", functions=[BUILD_NUMBER], lock_wait_timeout=1)
        assert result["failed"]
        assert "shop.t" in result["msg"]
        assert registered() == before
    result = modules.ok("mysql_udf", soname="numbered.so", functions=[BUILD_NUMBER])
    assert result["queries"][0] == "LOCK TABLES `shop`.`t` WRITE"
    assert "UNLOCK TABLES" in result["queries"]
    assert not result["reloaded"]


def test_no_write_meets_a_missing_function_while_the_library_is_exchanged(database, modules, build):
    """A trigger as in the article, without a handler: any error of its function would fail the write."""
    libraries = [build(number) for number in range(10)]
    modules.ok("mysql_udf", soname="numbered.so", src=libraries[0], functions=[BUILD_NUMBER])
    database.execute(
        "CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY)",
        "CREATE TABLE shop.seen (id INT, build INT)",
        "CREATE TRIGGER shop.calls AFTER INSERT ON shop.t FOR EACH ROW INSERT INTO shop.seen VALUES "
        "(NEW.id, build_number())",
    )

    def write(cursor, _writer, _number):
        cursor.execute("INSERT INTO shop.t VALUES ()")

    with Writers(database, 4, write) as writers:
        for library in libraries[1:]:
            writers.go_on()
            assert modules.ok(
                "mysql_udf",
                soname="numbered.so",
                src=library,
                functions=[BUILD_NUMBER],
                lock_wait_timeout=300,
            )["reloaded"]
        writers.go_on()
    assert writers.errors == []
    assert database.execute(
        "SELECT COUNT(*) FROM shop.t LEFT JOIN shop.seen USING (id) WHERE seen.build IS NULL"
    ) == [(0,)]
    assert database.execute("SELECT DISTINCT build FROM shop.seen ORDER BY build") == [
        (number,) for number in range(10)
    ]


def stats(database):
    return json.loads(database.execute("SELECT gman_stats()")[0][0])


def test_job_servers_and_settings_survive_an_exchange(database, modules, gearman, another_build):
    defaults = stats(database)["settings"]
    database.execute(
        "SELECT gman_configure('io_timeout_ms', '777')", "SELECT gman_configure('background_errors', 'error')"
    )
    assert another_build()["reloaded"]
    assert stats(database)["settings"] == {**defaults, "io_timeout_ms": 777, "background_errors": "error"}
    assert not modules.ok("gearman_servers", servers=[gearman.address])["changed"]
    database.execute(
        "SELECT gman_configure('io_timeout_ms', 'default')",
        "SELECT gman_configure('background_errors', 'default')",
    )


def test_tls_survives_an_exchange_or_there_are_no_job_servers(
    database, modules, gearman, another_build, tmp_path
):
    authority = Path(Certificates(tmp_path).path("ca.pem"))
    database.execute(f"SELECT gman_configure('tls_ca', '{authority}')", "SELECT gman_configure('tls', 'on')")
    assert another_build()["reloaded"]
    assert (stats(database)["settings"]["tls"], stats(database)["server_lists"]) == (
        "on",
        {"": gearman.address},
    )
    authority.unlink()
    result = another_build()
    assert result["failed"]
    assert "tls" in result["msg"]
    assert "job server" in result["msg"]
    assert stats(database)["server_lists"] == {}
    assert sorted(
        row[0] for row in database.execute(f"SELECT name FROM mysql.func WHERE dl = '{GEARMAN_LIBRARY}'")
    ) == sorted(function["name"] for function in GEARMAN_FUNCTIONS)
    database.execute("SELECT gman_configure('tls_ca', 'default')", "SELECT gman_configure('tls', 'off')")
