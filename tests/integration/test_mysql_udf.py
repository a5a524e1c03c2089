# SPDX-License-Identifier: GPL-3.0-or-later
import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pymysql
import pytest
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, JSON_LIBRARY, mysql_config
from harness.tls import Certificates
from harness.writers import Writers

# A function that returns which build of the library is loaded, and what a library without it looks like.
SOURCE = """
#include <mysql.h>
#include <string.h>
#if defined(MARIADB_VERSION_ID)
typedef my_bool answer;
#else
#include <stdbool.h>
typedef bool answer;
#endif
#define FUNCTION(name) \\
    answer name##_init(UDF_INIT *i, UDF_ARGS *a, char *m) { (void)i; (void)a; (void)m; return 0; } \\
    void name##_deinit(UDF_INIT *i) { (void)i; } \\
    long long name(UDF_INIT *i, UDF_ARGS *a, unsigned char *n, unsigned char *e) { \\
        (void)i; (void)a; (void)n; (void)e; return BUILD; }
FUNCTION(build_number)
#ifdef EXTRA
FUNCTION(extra_number)
#endif
"""
BUILD_NUMBER = {"name": "build_number", "returns": "integer"}
EXTRA_NUMBER = {"name": "extra_number", "returns": "integer"}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compile a build of the numbered library."""
    directory = tmp_path_factory.mktemp("numbered")
    include = subprocess.run(
        [mysql_config(), "--include"], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()

    def compiled(number, extra=False):
        target = directory / f"numbered{number}{'x' if extra else ''}.so"
        if not target.exists():
            subprocess.run(
                [
                    "gcc",
                    "-shared",
                    "-fPIC",
                    f"-DBUILD={number}",
                    *(["-DEXTRA"] if extra else []),
                    *include,
                    "-x",
                    "c",
                    "-",
                    "-o",
                    str(target),
                ],
                input=SOURCE,
                text=True,
                check=True,
            )
        return str(target)

    return compiled


@pytest.fixture
def registered(database):
    """Ask the server which functions of a library it has."""

    def look(soname="numbered.so"):
        rows = database.execute(f"SELECT name, ret, type FROM mysql.func WHERE dl = '{soname}' ORDER BY name")
        file = database.plugin_dir / soname
        return rows, file.read_bytes() if file.exists() else None

    return look


@pytest.fixture(autouse=True)
def clean(modules, schema, database):
    yield
    for soname in ("numbered.so", JSON_LIBRARY):
        modules.ok("mysql_udf", soname=soname, state="absent", force=True, remove_file=True)
    assert [name for name in os.listdir(database.plugin_dir) if name.startswith(".")] == []


def test_life_of_a_library(database, modules, registered, build):
    arguments = {"soname": "numbered.so", "functions": [BUILD_NUMBER]}
    result = modules.converge("mysql_udf", registered, **arguments, src=build(1))
    assert result["path"] == str(database.plugin_dir / "numbered.so")
    assert result["functions"] == ["build_number"]
    assert not result["reloaded"]
    assert database.execute("SELECT build_number()") == [(1,)]

    result = modules.converge("mysql_udf", registered, **arguments, src=build(2))
    assert result["reloaded"]
    assert database.execute("SELECT build_number()") == [(2,)]

    database.restart()
    assert database.execute("SELECT build_number()") == [(2,)]
    assert not modules.ok("mysql_udf", **arguments, src=build(2))["changed"]
    # Installed by hand, without src.
    assert not modules.ok("mysql_udf", **arguments)["changed"]

    modules.converge("mysql_udf", registered, soname="numbered.so", state="absent")
    assert (database.plugin_dir / "numbered.so").exists()
    modules.converge("mysql_udf", registered, soname="numbered.so", state="absent", remove_file=True)


def test_the_projects_libraries(database, modules, libraries, registered):
    modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, state="absent", force=True, remove_file=True)
    result = modules.converge(
        "mysql_udf",
        lambda: registered(GEARMAN_LIBRARY),
        soname=GEARMAN_LIBRARY,
        src=str(libraries / GEARMAN_LIBRARY),
        functions=GEARMAN_FUNCTIONS,
    )
    assert result["functions"] == sorted(function["name"] for function in GEARMAN_FUNCTIONS)
    assert ("gman_sum", 2, "aggregate") in registered(GEARMAN_LIBRARY)[0]
    names = ["json_object", "json_array", "json_members", "json_values", "lib_mysqludf_json_info"]
    functions = [{"name": name, "native": "skip"} for name in names] + [
        {"name": f"udf_{name}"} for name in names[:4]
    ]
    result = modules.converge(
        "mysql_udf",
        lambda: registered(JSON_LIBRARY),
        soname=JSON_LIBRARY,
        src=str(libraries / JSON_LIBRARY),
        functions=functions,
    )
    assert result["native"] == ["json_array", "json_object"]
    assert database.execute("SELECT udf_json_object(1 AS a)")[0][0] in (b'{"a":1}', '{"a":1}')


def test_a_native_function_of_that_name(modules, libraries, registered):
    functions = [{"name": "json_members"}, {"name": "JSON_OBJECT"}]
    message = modules.refused(
        "mysql_udf", soname=JSON_LIBRARY, src=str(libraries / JSON_LIBRARY), functions=functions
    )
    assert "JSON_OBJECT" in message
    assert "native: skip" in message
    assert registered(JSON_LIBRARY) == ([], None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"soname": "../numbered.so"}, ["../numbered.so", "path"]),
        ({"soname": "/tmp/numbered.so"}, ["path"]),
        ({"soname": ""}, ["soname"]),
        ({"soname": "absent.so"}, ["absent.so", "src"]),
        ({"src": "/nonexistent/numbered.so"}, ["/nonexistent/numbered.so", "does not exist"]),
        ({"src": "/tmp"}, ["/tmp", "no file"]),
        ({"functions": [BUILD_NUMBER, {"name": "BUILD_number"}]}, ["twice"]),
        ({"functions": [{"name": "drop table"}]}, ["'drop table'"]),
    ],
)
def test_errors_name_the_culprit(modules, registered, build, arguments, words):
    modules.ok("mysql_udf", soname="numbered.so", src=build(1), functions=[BUILD_NUMBER])
    before = registered()
    for check in (True, False):
        message = modules.refused(
            "mysql_udf", check=check, **{"soname": "numbered.so", "functions": [BUILD_NUMBER], **arguments}
        )
        for word in words:
            assert word in message
        assert registered() == before


def test_a_library_that_does_not_load_is_taken_back(database, modules, registered, build, tmp_path):
    modules.ok("mysql_udf", soname="numbered.so", src=build(1), functions=[BUILD_NUMBER])
    before = registered()
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    message = modules.refused("mysql_udf", soname="numbered.so", src=str(broken), functions=[BUILD_NUMBER])
    assert "numbered.so" in message
    assert "put back" in message
    assert registered() == before
    assert database.execute("SELECT build_number()") == [(1,)]
    # One that lacks a function that is wanted.
    message = modules.refused(
        "mysql_udf", soname="numbered.so", src=build(2), functions=[BUILD_NUMBER, EXTRA_NUMBER]
    )
    assert "extra_number" in message
    assert registered() == before
    assert database.execute("SELECT build_number()") == [(1,)]


def test_functions_that_nobody_asks_for_any_more(database, modules, registered, build):
    modules.ok(
        "mysql_udf", soname="numbered.so", src=build(1, extra=True), functions=[BUILD_NUMBER, EXTRA_NUMBER]
    )
    modules.ok("mysql_udf", soname="numbered.so", src=build(2, extra=True), functions=[BUILD_NUMBER])
    assert database.execute("SELECT build_number(), extra_number()") == [(2, 2)]
    result = modules.ok("mysql_udf", soname="numbered.so", src=build(3), functions=[BUILD_NUMBER])
    assert "extra_number" in str(result["warnings"])
    assert result["functions"] == ["build_number"]
    assert [row[0] for row in registered()[0]] == ["build_number"]
    assert database.execute("SELECT build_number()") == [(3,)]


def test_what_an_interrupted_run_left_is_completed(database, modules, build):
    arguments = {"soname": "numbered.so", "functions": [BUILD_NUMBER, EXTRA_NUMBER]}
    modules.ok("mysql_udf", **arguments, src=build(1, extra=True))
    # Interrupted after one function was dropped, with the new file still beside the old one.
    (database.plugin_dir / ".numbered.so.new").write_bytes(b"half a file")
    database.execute("DROP FUNCTION build_number")
    assert modules.ok("mysql_udf", **arguments, src=build(2, extra=True))["changed"]
    assert database.execute("SELECT build_number(), extra_number()") == [(2, 2)]
    # Interrupted after all were dropped and the file was renamed.
    database.execute("DROP FUNCTION build_number", "DROP FUNCTION extra_number")
    shutil.copy(build(3, extra=True), database.plugin_dir / "numbered.so")
    assert modules.ok("mysql_udf", **arguments, src=build(3, extra=True))["changed"]
    assert database.execute("SELECT build_number(), extra_number()") == [(3, 3)]
    assert not modules.ok("mysql_udf", **arguments, src=build(3, extra=True))["changed"]


def test_a_function_of_the_wrong_kind_is_repaired(database, modules, registered, build):
    modules.ok(
        "mysql_udf",
        soname="numbered.so",
        src=build(1),
        functions=[{"name": "build_number", "returns": "string"}],
    )
    modules.converge("mysql_udf", registered, soname="numbered.so", functions=[BUILD_NUMBER])
    assert database.execute("SELECT build_number()") == [(1,)]


def test_a_function_that_could_not_be_loaded_at_start_up(database, modules, build):
    """mysql.func names it, and the server does not have it."""
    arguments = {"soname": "numbered.so", "functions": [BUILD_NUMBER]}
    modules.ok("mysql_udf", **arguments, src=build(1))
    database.stop()
    (database.plugin_dir / "numbered.so").unlink()
    database.start()
    with pytest.raises(pymysql.MySQLError):
        database.execute("SELECT build_number()")
    assert modules.ok("mysql_udf", **arguments, src=build(1))["changed"]
    assert database.execute("SELECT build_number()") == [(1,)]
    assert not modules.ok("mysql_udf", **arguments, src=build(1))["changed"]


def test_a_library_that_was_exchanged_by_hand_is_loaded(database, modules, build):
    arguments = {"soname": "numbered.so", "functions": [BUILD_NUMBER]}
    modules.ok("mysql_udf", **arguments, src=build(1))
    new = database.plugin_dir / "beside"
    shutil.copy(build(2), new)
    new.rename(database.plugin_dir / "numbered.so")
    assert database.execute("SELECT build_number()") == [(1,)]
    assert modules.ok("mysql_udf", **arguments)["reloaded"]
    assert database.execute("SELECT build_number()") == [(2,)]
    assert not modules.ok("mysql_udf", **arguments)["changed"]


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


def test_a_function_that_cannot_be_replaced_is_put_back(modules, registered, build):
    modules.ok(
        "mysql_udf",
        soname="numbered.so",
        src=build(1),
        functions=[{"name": "build_number", "returns": "string"}],
    )
    before = registered()
    message = modules.refused("mysql_udf", soname="numbered.so", functions=[BUILD_NUMBER, EXTRA_NUMBER])
    assert "extra_number" in message
    assert registered() == before


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


@pytest.fixture
def another_build(modules, libraries, tmp_path):
    """Exchange the Gearman library for another build of it."""
    number = iter(range(100))

    def exchange():
        # An ELF file may carry anything behind its end.
        longer = tmp_path / GEARMAN_LIBRARY
        longer.write_bytes((libraries / GEARMAN_LIBRARY).read_bytes() + b"build %d" % next(number))
        return modules.run("mysql_udf", soname=GEARMAN_LIBRARY, src=str(longer), functions=GEARMAN_FUNCTIONS)

    return exchange


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
