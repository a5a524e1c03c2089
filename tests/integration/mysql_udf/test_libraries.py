# SPDX-License-Identifier: GPL-3.0-or-later
"""A library and its functions: their life, errors, and what is repaired."""

import shutil

import pymysql
import pytest
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, JSON_LIBRARY
from harness.numbered_library import BUILD_NUMBER, EXTRA_NUMBER


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
