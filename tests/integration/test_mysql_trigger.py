# SPDX-License-Identifier: GPL-3.0-or-later
import threading

import pytest
from harness.waiting import until
from harness.writers import Writers


@pytest.fixture
def table(database, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT AUTO_INCREMENT PRIMARY KEY, v VARCHAR(40))",
        "CREATE TABLE shop.seen (id INT, mark INT)",
    )
    return "shop.t"


WANTED = {"name": "note", "table": "shop.t", "event": "insert"}


def test_life_of_a_trigger(database, modules, triggers, table):
    modules.converge("mysql_trigger", triggers, **WANTED, body="INSERT INTO shop.seen VALUES (NEW.id, 1)")
    database.execute("INSERT INTO shop.t (v) VALUES ('a')")
    assert database.execute("SELECT mark FROM shop.seen") == [(1,)]

    changed = modules.converge(
        "mysql_trigger", triggers, **WANTED, body="INSERT INTO shop.seen VALUES (NEW.id, 2)"
    )
    assert changed["differences"] == ["body"]
    database.execute("INSERT INTO shop.t (v) VALUES ('b')")
    assert database.execute("SELECT mark FROM shop.seen ORDER BY id") == [(1,), (2,)]

    modules.converge("mysql_trigger", triggers, name="note", table=table, state="absent")
    assert triggers() == []


@pytest.mark.parametrize(
    ("changed", "different"),
    [
        ({"event": "update"}, ["event"]),
        ({"timing": "before"}, ["event"]),
        ({"definer": "keeper@localhost"}, ["definer"]),
        ({"sql_mode": "ANSI_QUOTES"}, ["sql_mode"]),
        ({"body": "SET @a = 2"}, ["body"]),
    ],
)
@pytest.mark.usefixtures("table")
def test_each_property_is_compared(database, modules, triggers, changed, different):
    database.execute("CREATE USER IF NOT EXISTS keeper@localhost")
    wanted = {**WANTED, "body": "SET @a = 1"}
    modules.ok("mysql_trigger", **wanted)
    result = modules.converge("mysql_trigger", triggers, **{**wanted, **changed})
    assert result["differences"] == different
    assert len(triggers()) == 1


@pytest.mark.usefixtures("table")
def test_space_and_semicolons_around_the_body_do_not_count(modules):
    modules.ok("mysql_trigger", **WANTED, body="BEGIN\n  SET @a = 1;\nEND;\n")
    assert not modules.ok("mysql_trigger", **WANTED, body="\n  BEGIN\n  SET @a = 1;\nEND ;")["changed"]
    assert modules.ok("mysql_trigger", **WANTED, body="BEGIN\n  SET @a =  1;\nEND")["changed"]


@pytest.mark.parametrize("text", ["\U0001f600 ä", "it''s", "a\\\\b", "FOR EACH ROW x", "` /* ? */ --"])
@pytest.mark.usefixtures("table")
def test_texts_that_information_schema_does_not_show_as_written(modules, triggers, text):
    modules.converge("mysql_trigger", triggers, **WANTED, body=f"SET @a = '{text}'")
    modules.converge("mysql_trigger", triggers, **WANTED, body=f"SET @a = 'x', @b = '{text}'")
    # information_schema shows both as '?'.
    assert modules.ok("mysql_trigger", **WANTED, body="SET @a = '\U0001f600'")["changed"]
    assert modules.ok("mysql_trigger", **WANTED, body="SET @a = '\U0001f601'")["changed"]


@pytest.mark.usefixtures("table")
def test_a_trigger_made_by_hand_is_compared_as_it_was_written(database, modules):
    database.execute(
        "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'",
        "CREATE TRIGGER shop.other AFTER INSERT ON shop.t FOR EACH ROW SET @b = 1",
        "create /* by hand */ trigger `shop`.note after insert on\nshop.t for each\trow\nprecedes "
        "other\nbegin SET @a = 'it''s'; end",
    )
    assert not modules.ok("mysql_trigger", **WANTED, body="begin SET @a = 'it''s'; end")["changed"]
    assert modules.ok("mysql_trigger", **WANTED, body="begin SET @a = 'its'; end")["changed"]


@pytest.mark.parametrize("name", ["a b", "a`b", 'a"b', "a'b", "größe", "select", "a.b", "x" * 64])
@pytest.mark.usefixtures("schema")
def test_names_that_need_quoting(database, modules, triggers, name):
    quoted = "`" + name.replace("`", "``") + "`"
    database.execute(f"CREATE TABLE shop.{quoted} (id INT)")
    modules.converge(
        "mysql_trigger", triggers, name=name, table=name, schema="shop", event="insert", body="SET @a = 1"
    )
    modules.converge(
        "mysql_trigger", triggers, name=name, table=f"`shop`.{quoted}", event="insert", body="SET @a = 2"
    )
    modules.converge("mysql_trigger", triggers, name=name, table=name, schema="shop", state="absent")


@pytest.mark.usefixtures("table")
def test_replacing_keeps_the_place_among_other_triggers(database, modules, triggers):
    for name in ("one", "two", "three"):
        database.execute(
            f"CREATE TRIGGER shop.{name} AFTER INSERT ON shop.t FOR EACH ROW SET @trace = CONCAT(@trace, "
            f"'{name} ')"
        )
    modules.converge(
        "mysql_trigger",
        triggers,
        name="two",
        table="shop.t",
        event="insert",
        body="SET @trace = CONCAT(@trace, 'TWO ')",
    )
    connection = database.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET @trace = ''")
        cursor.execute("INSERT INTO shop.t (v) VALUES ('x')")
        cursor.execute("SELECT @trace")
        assert cursor.fetchone() == ("one TWO three ",)
    connection.close()


@pytest.mark.parametrize(
    "left_over",
    [
        ["SET @a = 'old copy'"],
        ["SET @a = 1"],
    ],
)
@pytest.mark.parametrize("old", ["SET @a = 0", None, "SET @a = 1"])
@pytest.mark.usefixtures("table")
def test_what_an_interrupted_run_left_is_completed(database, modules, triggers, left_over, old):
    """On MySQL a new trigger stands beside the old one for a moment."""
    mode = "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'"
    if old:
        database.execute(mode, f"CREATE TRIGGER shop.note AFTER INSERT ON shop.t FOR EACH ROW {old}")
    for body in left_over:
        database.execute(mode, f"CREATE TRIGGER shop.note__new AFTER INSERT ON shop.t FOR EACH ROW {body}")
    result = modules.ok("mysql_trigger", **WANTED, body="SET @a = 1")
    assert result["changed"]
    assert [(row[0], row[4]) for row in triggers()] == [("note", "SET @a = 1")]
    assert not modules.ok("mysql_trigger", **WANTED, body="SET @a = 1")["changed"]


@pytest.mark.usefixtures("table")
def test_absent_removes_a_left_over_too(database, modules, triggers):
    database.execute("CREATE TRIGGER shop.note__new AFTER INSERT ON shop.t FOR EACH ROW SET @a = 1")
    assert modules.ok("mysql_trigger", name="note", table="shop.t", state="absent")["changed"]
    assert triggers() == []


@pytest.mark.parametrize(
    "body", ["SET @a = NEW.nosuch", "BEGIN SET @a = ; END", "INSERT INTO shop.t (v) SELECT COUNT(*) OVER ("]
)
@pytest.mark.usefixtures("table")
def test_a_body_that_the_server_refuses_leaves_the_old_trigger(modules, triggers, body):
    modules.ok("mysql_trigger", **WANTED, body="SET @a = 1")
    before = triggers()
    message = modules.refused("mysql_trigger", **WANTED, body=body)
    assert "shop.t" in message
    assert "Nothing was changed" in message
    assert triggers() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"table": "shop.nosuch"}, ["shop.nosuch", "does not exist"]),
        ({"table": "t"}, ["'t'", "schema"]),
        ({"table": "shop.v"}, ["shop.v", "view"]),
        ({"definer": "nobody@nowhere"}, ["'nobody'@'nowhere'", "create the account"]),
        ({"body": "DELIMITER $$\nSET @a = 1$$"}, ["DELIMITER"]),
        ({"body": " ; "}, ["empty"]),
        ({"name": "x" * 65}, ["64"]),
        ({"lock_wait_timeout": 0}, ["lock_wait_timeout"]),
        ({"table": "shop.seen"}, ["note", "shop.t", "shop.seen"]),
    ],
)
@pytest.mark.usefixtures("table")
def test_errors_name_the_culprit(database, modules, triggers, arguments, words):
    database.execute("CREATE VIEW shop.v AS SELECT * FROM shop.t")
    modules.ok("mysql_trigger", **WANTED, body="SET @a = 1")
    before = triggers()
    message = modules.refused("mysql_trigger", **{**WANTED, "body": "SET @a = 2", **arguments})
    for word in words:
        assert word in message
    assert triggers() == before


@pytest.mark.usefixtures("table")
def test_an_open_transaction_is_named_and_nothing_is_changed(database, modules, triggers):
    modules.ok("mysql_trigger", **WANTED, body="SET @a = 1")
    before = triggers()
    holder = database.connect()
    holder.begin()
    with holder.cursor() as cursor:
        cursor.execute("SELECT * FROM shop.t")
    result = modules.run("mysql_trigger", **WANTED, body="SET @a = 2", lock_wait_timeout=1)
    assert result["failed"]
    assert holder.thread_id() in result["blocked_by"]
    for words in (
        "shop.t",
        "lock_wait_timeout=1 s",
        f"connection {holder.thread_id()} of root@",
        "idle inside a transaction",
        "Nothing was changed",
    ):
        assert words in result["msg"]
    assert result["queries"] == []
    assert triggers() == before
    holder.rollback()
    holder.close()
    assert modules.ok("mysql_trigger", **WANTED, body="SET @a = 2", lock_wait_timeout=60)["changed"]


@pytest.mark.usefixtures("table")
def test_writers_go_on_while_a_trigger_waits_for_an_open_transaction(database, modules, triggers):
    """They wait for as long as one try; this one would get 1205 after 3 s behind a lock that is waited
    for longer.
    """
    modules.ok("mysql_trigger", **WANTED, body="SET @a = 1")
    results = []
    with (
        database.connect() as holder,
        database.connect() as writer,
        holder.cursor() as cursor,
        writer.cursor() as writes,
    ):
        writes.execute("SET SESSION lock_wait_timeout = 3")
        holder.begin()
        cursor.execute("SELECT * FROM shop.t")
        thread = threading.Thread(
            target=lambda: results.append(
                modules.run("mysql_trigger", **WANTED, body="SET @a = 2", lock_wait_timeout=300)
            )
        )
        thread.start()
        for _time in range(3):
            until(
                lambda: (
                    database.execute(
                        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'LOCK TABLES%'"
                    )
                    != [(0,)]
                )
            )
            writes.execute("INSERT INTO shop.t (v) VALUES ('x')")
        assert results == []
        holder.rollback()
        thread.join()
    assert results[0]["changed"]
    assert [row[4] for row in triggers()] == ["SET @a = 2"]


@pytest.mark.usefixtures("table")
def test_an_account_without_lock_tables(database, modules, triggers):
    """The privileges that a trigger really needs are enough."""
    database.execute(
        "DROP USER IF EXISTS poor@localhost",
        "CREATE USER poor@localhost IDENTIFIED BY 'x'",
        "GRANT TRIGGER, SELECT ON shop.* TO poor@localhost",
        "SET GLOBAL log_bin_trust_function_creators = 1",
    )
    login = {"login_user": "poor", "login_password": "x"}
    for body in ("SET @a = 1", "SET @a = 2"):
        result = modules.ok("mysql_trigger", **WANTED, **login, body=body)
        assert result["changed"]
        assert not any("LOCK TABLES" in query for query in result["queries"])
        assert [(row[4], row[5]) for row in triggers()] == [(body, "poor@localhost")]
        assert not modules.ok("mysql_trigger", **WANTED, **login, body=body)["changed"]
    database.execute("SET GLOBAL log_bin_trust_function_creators = 0")
    assert "log_bin_trust_function_creators" in modules.refused(
        "mysql_trigger", **WANTED, **login, body="SET @a = 3"
    )


def test_replacing_leaves_no_moment_without_a_trigger(database, modules, table):
    """Four writers insert while the trigger is replaced thirty times: every row must have fired a trigger."""

    def write(cursor, _writer, _number):
        cursor.execute(f"INSERT INTO {table} (v) VALUES ('x')")

    modules.ok("mysql_trigger", **WANTED, body="INSERT INTO shop.seen VALUES (NEW.id, 0)")
    with Writers(database, 4, write) as writers:
        for mark in range(1, 31):
            writers.go_on()
            assert modules.ok(
                "mysql_trigger",
                **WANTED,
                body=f"INSERT INTO shop.seen VALUES (NEW.id, {mark})",
                lock_wait_timeout=300,
            )["changed"]
        writers.go_on()
    assert writers.errors == []
    assert database.execute(
        "SELECT COUNT(*) FROM shop.t LEFT JOIN shop.seen USING (id) WHERE seen.id IS NULL"
    ) == [(0,)]
    assert database.execute("SELECT COUNT(DISTINCT mark) FROM shop.seen") == [(31,)]
