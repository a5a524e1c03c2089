# SPDX-License-Identifier: GPL-3.0-or-later
import json

import pytest
from harness.column_types import COMMON, ONLY
from harness.waiting import until

pytestmark = pytest.mark.usefixtures("gearman")

HASH = {"type": "hash", "key": "t:{id}"}
DECLARATION = {
    "table": "shop.t",
    "delivery": "direct",
    "events": ["insert", "update", "delete"],
    "columns": ["id", "name"],
    "write": [HASH],
}


@pytest.fixture
def table(database, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), city "
        "VARCHAR(40), secret VARCHAR(40) DEFAULT 'never')"
    )
    return "shop.t"


@pytest.fixture
def payloads(job_server):
    """The changes that the triggers have sent since the last look."""

    def sent(function="syncToRedis"):
        return [json.loads(payload) for payload in job_server.jobs(function)]

    return sent


@pytest.mark.usefixtures("table")
def test_life_of_a_declaration(database, modules, triggers, payloads):
    result = modules.converge("sync_table", triggers, **DECLARATION)
    assert result["triggers"] == {
        "insert": "gearsync_ai_t",
        "update": "gearsync_au_t",
        "delete": "gearsync_ad_t",
    }
    assert result["columns"] == {"id": "integer", "name": "text"}
    assert result["shared_keys"] == []
    assert result["blind_spots"] == []
    database.execute(
        "INSERT INTO shop.t (name) VALUES ('a')", "UPDATE shop.t SET name = 'b'", "DELETE FROM shop.t"
    )
    assert payloads() == [
        {"$gearsync": 1, "table": "shop.t", "event": "insert", "new": {"id": 1, "name": "a"}},
        {
            "$gearsync": 1,
            "table": "shop.t",
            "event": "update",
            "new": {"id": 1, "name": "b"},
            "old": {"id": 1},
        },
        {"$gearsync": 1, "table": "shop.t", "event": "delete", "old": {"id": 1}},
    ]

    modules.converge(
        "sync_table", triggers, **{**DECLARATION, "columns": ["id", "name", "city"], "function": "other"}
    )
    database.execute("INSERT INTO shop.t (name, city) VALUES ('a', 'b')")
    assert payloads() == []
    assert payloads("other") == [
        {"$gearsync": 1, "table": "shop.t", "event": "insert", "new": {"id": 2, "name": "a", "city": "b"}}
    ]

    # An event that is not declared any more.
    modules.converge("sync_table", triggers, **{**DECLARATION, "events": ["update"]})
    assert [row[0] for row in triggers()] == ["gearsync_au_t"]

    modules.converge("sync_table", triggers, table="shop.t", state="absent")
    assert triggers() == []


@pytest.mark.usefixtures("table")
def test_other_triggers_are_left_alone(database, modules, triggers):
    database.execute(
        "CREATE TRIGGER shop.mine AFTER INSERT ON shop.t FOR EACH ROW SET @mine = 1",
        "CREATE TABLE shop.u (id INT PRIMARY KEY)",
        "CREATE TRIGGER shop.gearsync_ai_u AFTER INSERT ON shop.u FOR EACH ROW SET @mine = 1",
    )
    before = triggers()
    modules.ok("sync_table", **DECLARATION)
    assert len(triggers()) == 5
    modules.ok("sync_table", table="shop.t", state="absent")
    assert triggers() == before


@pytest.mark.usefixtures("table")
def test_a_renamed_table_keeps_no_trigger_of_its_old_name(database, modules, triggers):
    modules.ok("sync_table", **DECLARATION)
    database.execute("RENAME TABLE shop.t TO shop.renamed")
    modules.ok("sync_table", **{**DECLARATION, "table": "shop.renamed"})
    assert [row[0] for row in triggers()] == [
        "gearsync_ad_renamed",
        "gearsync_ai_renamed",
        "gearsync_au_renamed",
    ]


def test_absent_for_a_table_that_is_gone(modules):
    assert not modules.ok("sync_table", table="shop.nosuch", state="absent")["changed"]


@pytest.mark.usefixtures("table")
def test_the_articles_mapping(database, modules, payloads):
    database.execute(
        "CREATE TABLE shop.user_list (NAME VARCHAR(64), PASSWORD VARCHAR(64))",
        "INSERT INTO shop.user_list VALUES ('troy', 'jane')",
    )
    result = modules.ok(
        "sync_table",
        table="shop.user_list",
        delivery="direct",
        events=["insert", "update", "delete"],
        columns=["name", "password"],
        write=[{"type": "string", "key": "{column}"}],
    )
    assert "every row writes the same Redis keys" in result["blind_spots"][0]
    assert result["shared_keys"] == ["{column}"]
    database.execute("UPDATE shop.user_list SET name='hello', password='world'", "DELETE FROM shop.user_list")
    assert payloads() == [
        {
            "$gearsync": 1,
            "table": "shop.user_list",
            "event": "update",
            "new": {"name": "hello", "password": "world"},
            "old": {},
        },
        {"$gearsync": 1, "table": "shop.user_list", "event": "delete", "old": {}},
    ]


@pytest.mark.usefixtures("table")
def test_old_values_of_all_columns_in_templates(database, modules, payloads):
    modules.ok(
        "sync_table",
        **{
            **DECLARATION,
            "columns": ["id", "name", "city"],
            "write": [HASH, {"type": "zset", "key": "by-city:{city}", "member": "{id}", "score": "{id}"}],
        },
    )
    database.execute("INSERT INTO shop.t (name, city) VALUES ('a', 'x')", "UPDATE shop.t SET city = NULL")
    assert payloads()[1] == {
        "$gearsync": 1,
        "table": "shop.t",
        "event": "update",
        "new": {"id": 1, "name": "a", "city": None},
        "old": {"id": 1, "city": "x"},
    }


@pytest.mark.usefixtures("table")
def test_the_sql_of_a_job_gives_what_the_trigger_sends(database, modules, payloads):
    """For the playbook smoke, which sends a row once more."""
    wanted = {
        **DECLARATION,
        "write": [{"type": "zset", "key": "t:{name}", "member": "OLD.`{id}` NEW.", "score": "{id}"}],
    }
    job = modules.ok("sync_table", **wanted)["job"]
    database.execute(
        "INSERT INTO shop.t (name) VALUES ('NEW.`name`')",
        "UPDATE shop.t SET name = 'OLD.`name`'",
        "UPDATE shop.t SET name = name",
    )
    update = payloads()[1]
    ((mode,),) = database.execute(
        "SELECT SQL_MODE FROM information_schema.TRIGGERS WHERE TRIGGER_NAME = 'gearsync_au_t'"
    )
    assert job["sql_mode"] == mode
    ((payload,),) = database.execute(f"SELECT {job['payload_sql']} FROM shop.t AS gearsync_row")
    # The row as it is now is both before and after.
    assert json.loads(payload) == {**update, "old": {"id": 1, "name": "OLD.`name`"}}
    assert "job" not in modules.ok("sync_table", **{**wanted, "delivery": "durable"})


@pytest.mark.usefixtures("table")
def test_only_changes_of_declared_columns_are_sent(database, modules, payloads):
    modules.ok("sync_table", **DECLARATION)
    database.execute("INSERT INTO shop.t (name, city) VALUES ('abc', 'x')")
    payloads()
    for statement, sent in (
        ("city = 'y'", 0),
        ("name = 'abc'", 0),
        ("name = 'ABC'", 1),
        ("name = 'ABC '", 1),
        ("name = 'ABC '", 0),
        ("name = NULL", 1),
        ("name = NULL", 0),
        ("name = ''", 1),
        ("id = 7", 1),
        ("name = 'a\u0301'", 1),
        ("name = '\u00e1'", 1),
    ):
        database.execute(f"UPDATE shop.t SET {statement}")
        assert len(payloads()) == sent, statement


@pytest.fixture
def typed(database, schema, modules):
    """A table with every type of the server, declared whole."""
    columns = COMMON + ONLY[database.engine]
    database.execute(
        "SET SESSION sql_mode = ''",
        "CREATE TABLE shop.t (id INT NOT NULL PRIMARY KEY, {})".format(
            ", ".join(f"`{name}` {kind}" for name, kind, _value, _seen in columns)
        ),
    )
    modules.ok(
        "sync_table", **{**DECLARATION, "columns": ["id", *(name for name, _kind, _value, _seen in columns)]}
    )
    return columns


def test_every_type(database, typed, payloads):
    given = [(name, value) for name, _kind, value, _seen in typed if value is not None]
    database.execute(
        "SET SESSION sql_mode = ''",
        "INSERT INTO shop.t (id, {}) VALUES (1, {})".format(
            ", ".join(f"`{name}`" for name, _value in given), ", ".join(value for _name, value in given)
        ),
    )
    (payload,) = payloads()
    for name, kind, value, seen in typed:
        assert payload["new"][name] == seen, f"{name} {kind} {value}"

    # Nothing has changed, and nothing is sent; then every column changes alone, to NULL, and is sent.
    database.execute(
        "SET SESSION sql_mode = ''",
        "UPDATE shop.t SET {}".format(", ".join(f"`{name}` = `{name}`" for name, _value in given)),
    )
    assert payloads() == []
    for name, _value in given:
        database.execute(f"UPDATE shop.t SET `{name}` = NULL")
        (payload,) = payloads()
        empty = payload["new"][name]
        assert empty is None or list(empty.values()) == [None], name


def test_decimals_keep_their_scale(database, schema, modules, job_server):
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, d DECIMAL(65,30), e DECIMAL(10,2))")
    modules.ok("sync_table", **{**DECLARATION, "columns": ["id", "d", "e"]})
    database.execute(
        "INSERT INTO shop.t VALUES (1, 12345678901234567890123456789012345.5, 1)",
        "INSERT INTO shop.t VALUES (2, -0.5, -1.10)",
    )
    texts = [payload.decode().replace(" ", "") for payload in job_server.jobs()]
    assert '"d":12345678901234567890123456789012345.500000000000000000000000000000' in texts[0]
    assert '"e":1.00' in texts[0]
    assert '"d":-0.500000000000000000000000000000' in texts[1]
    assert '"e":-1.10' in texts[1]


@pytest.mark.parametrize("zone", ["SYSTEM", "+05:30", "-11:00"])
def test_timestamps_are_utc_in_every_session(database, schema, modules, payloads, zone):
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY, seen TIMESTAMP(6) NULL)")
    modules.ok("sync_table", **{**DECLARATION, "columns": ["id", "seen"]})
    database.execute(
        f"SET SESSION time_zone = '{zone}'", "INSERT INTO shop.t VALUES (1, FROM_UNIXTIME(1729992600.5))"
    )
    assert payloads()[0]["new"]["seen"] == "2024-10-27 01:30:00.500000"
    # Both hours are shown as 02:30 in the server's own zone, and are not the same moment.
    if database.engine == "mysql":
        change = ["UPDATE shop.t SET seen = '2024-10-27 00:30:00.5+00:00'"]
    else:
        change = [
            "CREATE TABLE shop.moments (seen TIMESTAMP(6) NULL)",
            "SET SESSION time_zone = '+00:00'",
            "INSERT INTO shop.moments VALUES ('2024-10-27 00:30:00.5')",
            f"SET SESSION time_zone = '{zone}'",
            "UPDATE shop.t, shop.moments SET t.seen = moments.seen",
        ]
    database.execute(f"SET SESSION time_zone = '{zone}'", *change)
    assert [payload["new"]["seen"] for payload in payloads()] == ["2024-10-27 00:30:00.500000"]


@pytest.mark.parametrize("name", ["order items", "a`b", 'a"b', "a'b", "größe", "select", "x" * 64])
@pytest.mark.usefixtures("schema")
def test_names_that_need_quoting(database, modules, triggers, payloads, name):
    quoted = "`" + name.replace("`", "``") + "`"
    database.execute(f"CREATE TABLE shop.{quoted} (`key` INT PRIMARY KEY, {quoted} VARCHAR(20))")
    declared = f"shop.{name}" if "`" not in name else f"shop.{quoted}"
    wanted = {
        **DECLARATION,
        "table": declared,
        "columns": ["key", name],
        "write": [{"type": "hash", "key": "t:{key}"}],
    }
    modules.converge("sync_table", triggers, **wanted)
    assert all(len(row[0]) <= 64 for row in triggers())
    for mode in ("", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES"):
        database.execute(f"SET SESSION sql_mode = '{mode}'", f"REPLACE INTO shop.{quoted} VALUES (1, 'v')")
        assert payloads()[-1] == {
            "$gearsync": 1,
            "table": declared,
            "event": "insert",
            "new": {"key": 1, name: "v"},
        }
    modules.converge("sync_table", triggers, table=declared, state="absent")
    assert triggers() == []


def test_a_partitioned_table(database, schema, modules, triggers):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name VARCHAR(10)) PARTITION BY HASH (id) PARTITIONS 3"
    )
    modules.converge("sync_table", triggers, **DECLARATION)


BAD = [
    ({"table": "shop.nosuch"}, ["shop.nosuch", "does not exist"]),
    ({"table": "nowhere.t"}, ["nowhere.t", "schema nowhere does not exist"]),
    ({"table": "t"}, ["'t'", "schema.table"]),
    ({"table": "shop.v"}, ["shop.v", "view"]),
    ({"columns": ["id", "nosuch"]}, ["columns[1]", "'nosuch'", "id, name, city, secret"]),
    ({"columns": ["id", "naem"]}, ["columns[1]", "'naem'", "did you mean name?"]),
    ({"columns": ["id", "ID"]}, ["'ID'", "twice"]),
    ({"columns": []}, ["columns: is empty"]),
    ({"events": ["insert", "truncate"]}, ["'truncate'"]),
    ({"events": ["insert", "insert"]}, ["'insert'", "twice"]),
    ({"events": []}, ["events: is empty"]),
    ({"write": []}, ["write: is empty"]),
    ({"write": [{"type": "hash", "key": "t:{nr}"}]}, ["write[0].key", "'nr'", "not in columns"]),
    ({"write": [{"type": "hash", "key": "t:{id"}]}, ["write[0].key", "'t:{id'"]),
    ({"write": [{"type": "hsah", "key": "t:{id}"}]}, ["write[0].type", "'hsah'", "did you mean hash?"]),
    ({"write": [HASH, {"type": "json", "key": "t:{id}"}]}, ["write[1].key", "write[0]", "'t:{id}'"]),
    ({"write": [{"type": "string", "key": "t:{id}"}]}, ["write[0].key", "{column}", "value"]),
    ({"write": [{"type": "hash", "key": "t:{name}"}]}, ["write[0].key", "'t:{name}'", "unique", "(id)"]),
    ({"write": [{"type": "set", "key": "all"}]}, ["write[0].member"]),
    ({"write": [{"type": "hash", "key": "t:{id}", "ttl": 0}]}, ["write[0].ttl"]),
    ({"delivery": "fast"}, ["'fast'"]),
    ({"function": ""}, ["function: is empty"]),
    ({"definer": "nobody@nowhere"}, ["'nobody'@'nowhere'"]),
    (
        {"table": "shop.no_key", "columns": ["a"], "write": [{"type": "hash", "key": "t:{a}"}]},
        ["shop.no_key", "no usable key"],
    ),
    (
        {"table": "shop.null_key", "columns": ["a"], "write": [{"type": "hash", "key": "t:{a}"}]},
        ["shop.null_key", "no usable key"],
    ),
]


@pytest.mark.parametrize(("wrong", "words"), BAD)
@pytest.mark.usefixtures("table")
def test_a_wrong_declaration_is_refused_before_anything_changes(database, modules, triggers, wrong, words):
    database.execute(
        "CREATE VIEW shop.v AS SELECT * FROM shop.t",
        "CREATE TABLE shop.no_key (a INT, b INT)",
        "CREATE TABLE shop.null_key (a INT NULL UNIQUE)",
    )
    modules.ok("sync_table", **DECLARATION)
    before = triggers()
    for check in (True, False):
        if "definer" in wrong and check:
            continue  # an earlier task may be about to make the account
        message = modules.refused(
            "sync_table", check=check, **{**DECLARATION, "columns": ["id", "name"], **wrong}
        )
        for word in [wrong.get("table", "shop.t"), *words]:
            assert word in message
        assert triggers() == before


@pytest.mark.usefixtures("table")
def test_all_problems_are_reported_at_once(modules):
    result = modules.run(
        "sync_table",
        **{
            **DECLARATION,
            "events": ["truncate"],
            "write": [{"type": "hash", "key": "{nr}"}, {"type": "none", "key": "x"}],
        },
    )
    assert len(result["problems"]) == 3


@pytest.mark.usefixtures("table")
def test_without_the_gearman_functions(database, modules, triggers):
    modules.ok("mysql_udf", soname="libgearman_mysql_udf.so", state="absent")
    assert "mysql_udf" in modules.refused("sync_table", **DECLARATION)
    assert triggers() == []
    result = modules.ok("sync_table", check=True, **DECLARATION)
    assert result["changed"]
    assert "gman_do_background" in json.dumps(result["warnings"])


def test_a_score_of_a_type_without_numbers_is_refused(database, schema, modules, triggers):
    database.execute(
        "CREATE TABLE shop.t (id INT PRIMARY KEY, paid DATETIME, day DATE, moment TIMESTAMP NULL, hour "
        "TIME, note JSON, amount DECIMAL(5,2),"
        " grade ENUM('1', '2'), word VARCHAR(20))"
    )

    def scored(column, **more):
        write = {"type": "zset", "key": "z", "member": "{id}", "score": f"{{{column}}}"}
        return {**DECLARATION, "columns": ["id", column], "write": [write], **more}

    for column in ("paid", "day", "moment", "hour", "note"):
        assert f"is made of {column}, whose type" in modules.refused("sync_table", **scored(column))
        modules.ok("sync_table", check=True, **scored(column, transform="shop:epoch"))
    assert triggers() == []
    for column in ("amount", "grade", "word"):
        modules.ok("sync_table", **scored(column))


def test_blind_spots(database, schema, modules):
    database.execute(
        "CREATE TABLE shop.parent (id INT PRIMARY KEY)",
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name INT, FOREIGN KEY (name) REFERENCES shop.parent (id) "
        "ON DELETE SET NULL ON UPDATE CASCADE)",
        "CREATE TABLE shop.old (id INT PRIMARY KEY, name INT) ENGINE=MyISAM",
    )
    spots = modules.ok("sync_table", **DECLARATION)["blind_spots"]
    assert len(spots) == 2
    assert all("parent" in spot for spot in spots)
    assert "ON DELETE SET NULL" in spots[0]
    assert "ON UPDATE CASCADE" in spots[1]
    # A column that Redis does not have cannot be old there; a row that goes can.
    database.execute(
        "CREATE TABLE shop.child (id INT PRIMARY KEY, name INT, other INT, twice INT AS (other * 2),"
        " FOREIGN KEY gone (id) REFERENCES shop.parent (id) ON DELETE CASCADE, FOREIGN KEY (other) "
        "REFERENCES shop.parent (id) ON UPDATE CASCADE)"
    )
    child = {**DECLARATION, "table": "shop.child"}
    (spot,) = modules.ok("sync_table", **child)["blind_spots"]
    assert "ON DELETE CASCADE" in spot
    # One that is made of it can.
    assert (
        len(modules.ok("sync_table", **{**child, "columns": [*child["columns"], "twice"]})["blind_spots"])
        == 2
    )
    assert "MyISAM" in modules.ok("sync_table", **{**DECLARATION, "table": "shop.old"})["blind_spots"][0]
    before = database.execute("SELECT @@GLOBAL.binlog_format")[0][0]
    database.execute("SET GLOBAL binlog_format = 'STATEMENT'")
    try:
        assert any(
            "binlog_format=STATEMENT" in spot
            for spot in modules.ok("sync_table", **DECLARATION)["blind_spots"]
        )
    finally:
        database.execute(f"SET GLOBAL binlog_format = '{before}'")


def test_cascades_are_no_blind_spot_where_the_server_lets_them_fire_triggers(
    database, schema, modules, payloads
):
    if not database.execute("SHOW GLOBAL VARIABLES LIKE 'enable_cascade_triggers'"):
        pytest.skip("MySQL before 9.7, and MariaDB, cannot do that")
    database.execute(
        "CREATE TABLE shop.parent (id INT PRIMARY KEY)",
        "CREATE TABLE shop.t (id INT PRIMARY KEY, name INT, FOREIGN KEY (name) REFERENCES shop.parent (id) "
        "ON DELETE SET NULL)",
    )
    assert "enable_cascade_triggers" in modules.ok("sync_table", **DECLARATION)["blind_spots"][0]
    database.execute("SET GLOBAL enable_cascade_triggers = ON")
    try:
        assert modules.ok("sync_table", **DECLARATION)["blind_spots"] == []
        database.execute("INSERT INTO shop.parent VALUES (1)", "INSERT INTO shop.t VALUES (7, 1)")
        payloads()
        database.execute("DELETE FROM shop.parent")
        assert payloads() == [
            {
                "$gearsync": 1,
                "table": "shop.t",
                "event": "update",
                "new": {"id": 7, "name": None},
                "old": {"id": 7},
            }
        ]
    finally:
        database.execute("SET GLOBAL enable_cascade_triggers = OFF")


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
