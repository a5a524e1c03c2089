# SPDX-License-Identifier: GPL-2.0-or-later
"""Both libraries inside a real database server: a private mariadbd, or the one that UDF_TEST_SERVER names
(see udf_servers.py).
"""

from __future__ import annotations

import json
import re
import subprocess

import pymysql
import pytest
from harness.gearmand import Gearmand
from harness.ports import free_port
from harness.waiting import until
from pymysql.charset import charset_by_name
from sanitized import BUILD
from udf_servers import HOST, Database, Session, statements

CHARSET_BINARY = charset_by_name("binary").id


def test_articles_sql(sql: Session, gearmand: Gearmand) -> None:
    assert sql.one(f"SELECT gman_servers_set('{gearmand.address}')") == gearmand.address
    sql.all(
        "CREATE TABLE user_list (NAME varchar(20), PASSWORD varchar(20)); INSERT INTO user_list VALUES "
        "('troy', 'pwd')"
    )
    assert (
        sql.one("SELECT udf_json_object(name,password) as user from user_list")
        == '{"name":"troy","password":"pwd"}'
    )
    sql.all(
        """CREATE TRIGGER user_list_data_to_redis AFTER UPDATE ON user_list
             FOR EACH ROW BEGIN
               SET @ret=gman_do_background('syncToRedis',
                   udf_json_object(NEW.name as 'name', NEW.password as 'password'));
             END"""
    )
    before = gearmand.queue("syncToRedis")[0]
    sql.all("update user_list set name='hello', password='world'")
    assert str(sql.one("SELECT @ret")).startswith("H:")
    assert gearmand.queue("syncToRedis")[0] == before + 1
    assert sql.one("SELECT gman_do('reverse', 'hello world!')") == "!dlrow olleh"


def test_names_are_looked_up_by_the_systems_resolver(sql: Session, gearmand: Gearmand) -> None:
    """In the server, with the threads of glibc, and while the library is loaded and unloaded."""
    for name in ("localhost", "LOCALHOST."):
        address = f"{name}:{gearmand.port}"
        assert sql.one(f"SELECT gman_servers_set('{address}')") == address.lower()
        until(lambda: sql.one("SELECT gman_do_background('named', 'x')"))
    assert sql.one("SELECT gman_servers_set('no-such-name.invalid')") == "no-such-name.invalid:4730"
    assert sql.one("SELECT gman_do_background('named', 'x')") is None


def test_every_function(sql: Session, gearmand: Gearmand) -> None:
    sql.all("SELECT gman_servers_set(%s)", gearmand.address)
    results = sql.row(
        "SELECT gman_do('reverse', 'ab'), gman_do_high('chatty', ''), gman_do_low('echo', 42, 'u'), "
        "gman_do('fail', 'x')"
    )
    assert results == ("ba", "done", "42", None)
    handles = sql.row(
        "SELECT gman_do_background('f', 1), gman_do_high_background('f', NULL), gman_do_low_background('f', "
        "'x', REPEAT('k', 100))"
    )
    assert all(str(one).startswith("H:") for one in handles)
    assert len(set(handles)) == 3
    assert sql.one("SELECT LENGTH(gman_do('large', 5000000))") == 5000000
    assert sql.one("SELECT gman_sum('count', REPEAT('x', seq)) FROM numbers WHERE seq <= 1000") == 500500
    assert sql.all(
        "SELECT seq % 3 AS g, gman_sum('count', REPEAT('x', seq)) FROM numbers WHERE seq <= 9 GROUP BY g "
        "ORDER BY g"
    ) == [(0, 18), (1, 12), (2, 15)]
    assert sql.row("SELECT gman_sum('echo', 1), gman_sum('echo', 2) FROM numbers WHERE seq <= 4") == (4, 8)
    until(lambda: sql.one("SELECT gman_wake('drain', 'shard-1')"), 1)
    assert sql.one("SELECT gman_configure('io_timeout_ms', 300)") == "300"
    state = json.loads(str(sql.one("SELECT gman_stats()")))
    assert state["version"] == sql.one("SELECT gman_version()")
    assert state["settings"]["io_timeout_ms"] == 300
    assert state["servers"][0]["jobs_sent"] > 1000
    assert state["server_lists"] == {"": gearmand.address}
    assert sql.one("SELECT lib_mysqludf_json_info()") == "lib_mysqludf_json version 1.0.0"


def test_sums_with_rollup(sql: Session, gearmand: Gearmand) -> None:
    """The servers hand one state to all levels."""
    sql.all("SELECT gman_servers_set(%s)", gearmand.address)
    rows = "FROM numbers WHERE seq <= 7 GROUP BY"
    for groups in ("seq % 2 WITH ROLLUP", "seq % 2, seq % 3 WITH ROLLUP"):
        ours, servers = (
            sql.all(f"SELECT {one} {rows} {groups}") for one in ("gman_sum('echo', seq)", "SUM(seq)")
        )
        assert [int(row[0]) for row in ours] == [int(row[0]) for row in servers]
    assert [int(row[0]) for row in sql.all(f"SELECT gman_sum('echo', seq) {rows} seq % 2 ORDER BY 1")] == [
        12,
        16,
    ]
    assert sql.all(f"SELECT gman_sum('fail', seq) {rows} seq % 2 WITH ROLLUP") == [(None,), (None,), (None,)]


def test_texts_have_a_text_character_set(sql: Session, gearmand: Gearmand) -> None:
    sql.all("SELECT gman_servers_set(%s)", gearmand.address)
    texts = (
        "gman_do_background('f', 1), gman_do_high_background('f', 'x'), gman_do_low_background('f', x'00'), "
        "gman_stats(), gman_version(), gman_configure('pool_max_idle', 64), gman_servers_set('', 'f'), "
        "udf_json_object(1 AS a), udf_json_array(x'00'), json_members('a', 1), lib_mysqludf_json_info()"
    )
    with sql.connection.cursor() as cursor:
        cursor.execute(f"SELECT gman_do('reverse', 'ab'), {texts}")
        binary, *text = [field.charsetnr == CHARSET_BINARY for field in cursor._result.fields]
    assert binary  # what a worker answers
    # MariaDB has no interface for it.
    assert set(text) == {"MariaDB" in str(sql.one("SELECT VERSION()"))}


def test_prepared_statement_and_each_row_a_job(sql: Session, gearmand: Gearmand) -> None:
    sql.all("SELECT gman_servers_set(%s)", gearmand.address)
    sql.all("PREPARE s FROM 'SELECT gman_do(?, ?), udf_json_object(? AS q)'; SET @f = 'reverse', @w = 'abc'")
    for _ in range(3):
        assert sql.row("EXECUTE s USING @f, @w, @w") == ("cba", '{"q":"abc"}')
    assert (
        len(
            {
                row[0]
                for row in sql.all("SELECT gman_do_background('f', 'constant') FROM numbers WHERE seq <= 5")
            }
        )
        == 5
    )


@pytest.mark.parametrize(
    ("statement", "number", "says"),
    [
        (
            "SELECT gman_servers_set('127.0.0.1:99999')",
            1123,
            "'127.0.0.1:99999': the port must be 1 to 65535",
        ),
        (
            "SELECT gman_servers_set(CONCAT('bad host ', seq)) FROM numbers WHERE seq <= 2",
            1105,
            "gman_servers_set: 'bad host 1': a host name consists of",
        ),
        ("SELECT gman_servers_set(NULL)", 1105, "gman_servers_set: the server list is NULL"),
        ("SELECT gman_configure('nonsense', 1)", 1123, "unknown setting 'nonsense'"),
        (
            "SELECT gman_configure(CONCAT('io_timeout_ms'), seq) FROM (SELECT 0 AS seq) n",
            1105,
            "io_timeout_ms must be a number from 1 to 60000",
        ),
        ("SELECT gman_do('f')", 1123, "gman_do takes (function, workload[, unique])"),
        ("SELECT gman_do_background(1, 2)", 1123, "must be a string"),
        ("SELECT json_members('a')", 1123, "the last value is missing"),
        ("SELECT json_members(NULL, 1)", 1105, "the name in argument 1 is NULL"),
        ("SELECT udf_json_object(NOW())", 1123, "invalid member name 'NOW()': give it an alias"),
    ],
)
def test_errors_are_sql_errors(sql: Session, statement: str, number: int, says: str) -> None:
    with pytest.raises(pymysql.MySQLError) as error:
        sql.all(statement)
    assert error.value.args[0] == number
    assert says in error.value.args[1]
    assert sql.one("SELECT 1") == 1


def test_background_errors_setting_fails_the_write(sql: Session) -> None:
    sql.all("SELECT gman_servers_set(%s)", f"{HOST}:{free_port()}")
    # SET, because DO ignores errors.
    sql.all(
        "CREATE TABLE t (a int); CREATE TRIGGER t_ai AFTER INSERT ON t FOR EACH ROW SET @h = "
        "gman_do_background('f', NEW.a)"
    )
    sql.all("INSERT INTO t VALUES (1)")
    sql.all("SELECT gman_configure('background_errors', 'error')")
    with pytest.raises(pymysql.MySQLError, match=f"{HOST}:.*onnect"):
        sql.all("INSERT INTO t VALUES (2)")
    assert sql.all("SELECT a FROM t") == [(1,)]
    # The collection's triggers have a handler: even this setting does not make them fail a write.
    sql.all(
        """DROP TRIGGER t_ai; CREATE TRIGGER t_ai AFTER INSERT ON t FOR EACH ROW BEGIN
             DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;
             SET @h = gman_do_background('f', NEW.a);
           END"""
    )
    sql.all("INSERT INTO t VALUES (3), (4)")
    assert sql.all("SELECT a FROM t") == [(1,), (3,), (4,)]


def test_many_loads_leave_nothing(sql: Session, database: Database, gearmand: Gearmand) -> None:
    for one in statements("uninstall.sql"):
        sql.all(one)
    before = database.descriptors()
    for _ in range(30):
        for name in ("gman_servers_set", "gman_configure", "gman_do_background"):
            sql.all(f"CREATE FUNCTION {name} RETURNS STRING SONAME 'libgearman_mysql_udf.so'")
        sql.all("SELECT gman_configure('connect_timeout_ms', 60000), gman_configure('io_timeout_ms', 60000)")
        sql.all("SELECT gman_servers_set(%s)", gearmand.address)
        assert sql.one("SELECT gman_do_background('loads', 'x')")
        sql.all(
            "DROP FUNCTION gman_servers_set; DROP FUNCTION gman_configure; DROP FUNCTION gman_do_background"
        )
        assert database.descriptors() == before
    assert not database.maps("libgearman_mysql_udf")


def test_install_and_uninstall_scripts(sql: Session) -> None:
    names = {row[0] for row in sql.all("SELECT name FROM mysql.func")}
    exported = set()
    for library in sorted(BUILD.glob("*.so")):
        listing = subprocess.run(
            ["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True
        ).stdout
        symbols = set(re.findall(r" T (\S+)", listing))
        exported |= {name for name in symbols if f"{name}_init" in symbols and f"{name}_deinit" in symbols}
    # The server has its own json_object and json_array.
    assert names == exported - {"json_object", "json_array"}
    for one in statements("uninstall.sql"):
        sql.all(one)
    assert sql.all("SELECT name FROM mysql.func") == []
