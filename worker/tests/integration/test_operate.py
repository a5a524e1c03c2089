"""verify and resync, on tables whose triggers the collection has made, while writers write and processes die."""

from __future__ import annotations

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gearsync.database
import pymysql
import pytest
import yaml
from conftest import SOURCES, Database, Redis, Worker, collection, free_port, until
from gearsync import source
from gearsync.config import MySQLSettings

TABLE = {
    "table": "shop.item", "delivery": "durable", "columns": ["id", "name", "price"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "json", "key": "doc:{id}"},
        {"type": "string", "key": "cell:{id}:{column}"},
        {"type": "set", "key": "by-name:{name}", "member": "{id}"},
        {"type": "zset", "key": "by-price", "member": "{id}", "score": "{price}"},
        {"type": "list", "key": "log", "value": "{id}"},
    ],
}
ODD = {
    "table": "shop.odd", "delivery": "durable", "columns": ["when", "na`me", "raw", "kind", "f", "text"],
    "write": [{"type": "hash", "key": "odd:{when}/{na`me}/{raw}/{kind}"}],
}


def sync_table(database: Database, **declaration: Any) -> None:
    """Make a table's triggers with the collection's own module."""
    collection("_outbox")
    path = next(entry for entry in sys.path if "gearsync-collection-" in entry)
    arguments = {"ANSIBLE_MODULE_ARGS": {"login_user": "root", "login_unix_socket": database.socket, "config_file": "", "shards": 2, **declaration}}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "ansible_collections.gearsync.mysql_redis.plugins.modules.sync_table"],
        input=json.dumps(arguments), capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    assert '"failed": true' not in done.stdout, done.stdout
    assert '"triggers"' in done.stdout, done.stdout + done.stderr


def settings(database: Database, redis_server: Redis, tables: list[dict[str, Any]], lease: float = 1.0) -> dict[str, Any]:
    """A worker's configuration, with a job server that is not there."""
    return {
        "job_servers": [f"127.0.0.1:{free_port()}"], "redis": {"port": redis_server.port}, "mysql": {"user": "root", "unix_socket": database.socket},
        "worker": {"lease": lease}, "tables": tables,
    }


class Commands:
    """The command line, with one configuration."""

    def __init__(self, config: dict[str, Any], directory: pathlib.Path) -> None:
        self.path = directory / "commands.yml"
        self.path.write_text(yaml.safe_dump(config))
        self.environment = {**os.environ, "PYTHONPATH": str(SOURCES)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "gearsync", words[0], "--config", str(self.path), *words[1:]]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        output, errors = process.communicate(timeout=120)
        return process.returncode, output + errors

    def verify(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Exit status, and what it says of the first table."""
        status, output = self.run("verify", "--json", *words)
        assert output.startswith("{"), output
        answer = json.loads(output)
        assert (answer["status"], answer["equal"]) == (status, status == 0)
        return status, answer["tables"][0]


@pytest.fixture
def table(database: Database) -> Database:
    """A table that had rows before it was synced."""
    database.execute(
        "CREATE TABLE shop.item (id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(40), price DECIMAL(10,2)) ENGINE=InnoDB",
        "INSERT INTO shop.item VALUES " + ", ".join(f"({number}, 'n{number % 7}', {number / 4})" for number in range(1, 3001)))
    sync_table(database, **TABLE)
    return database


@pytest.fixture
def config(table: Database, redis_server: Redis) -> dict[str, Any]:
    return {
        "job_servers": [f"127.0.0.1:{free_port()}"], "redis": {"port": redis_server.port}, "mysql": {"user": "root", "unix_socket": table.socket},
        "worker": {"lease": 1.0, "reconnect_max": 0.5}, "tables": [TABLE],
    }


@pytest.fixture
def worker(config: dict[str, Any], start_worker: Callable[..., Worker]) -> Worker:
    return start_worker(config)


@pytest.fixture
def commands(config: dict[str, Any], tmp_path: pathlib.Path) -> Commands:
    return Commands(config, tmp_path)


@pytest.fixture
def loaded(worker: Worker, commands: Commands) -> Commands:
    """Both sides equal."""
    status, output = commands.run("resync")
    assert status == 0, output
    return commands


@contextmanager
def writers(database: Database, number: int = 8) -> Iterator[list[int]]:
    """So many writers, each with all kinds of changes; yields how many statements each has done."""
    stop, failures, done = threading.Event(), [], [0] * number

    def write(own: int) -> None:
        chance = random.Random(own)
        try:
            with database.connect() as connection, connection.cursor() as cursor:
                while not stop.is_set():
                    row = chance.randrange(1, 3500)
                    statement = chance.choice([
                        f"UPDATE shop.item SET name = CONCAT('w', {chance.randrange(9)}), price = price + 1 WHERE id = {row}",
                        f"REPLACE INTO shop.item VALUES ({row}, 'r{own}', {chance.randrange(100)})",
                        f"DELETE FROM shop.item WHERE id = {row}",
                        f"UPDATE IGNORE shop.item SET id = id + 1 WHERE id = {row}",
                    ])
                    cursor.execute(statement)
                    done[own] += 1
                    # A worker on a busy machine must be able to follow.
                    time.sleep(0.03)
        except pymysql.MySQLError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(own,)) for own in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_a_resync_loads_what_was_there_before_and_verify_proves_it(worker: Worker, commands: Commands, redis_server: Redis) -> None:
    status, found = commands.verify()
    assert (status, found["different"]["missing"]) == (1, 6 * 3000 + 2 * 3000 - 3000)
    assert commands.run("resync")[0] == 0
    status, found = commands.verify()
    assert (status, found["different"], found["rows"]) == (0, {}, 3000)
    assert found["not_verifiable"] == ["write 6 (list log)"]
    # A row that is loaded is no change of it.
    assert redis_server.client.exists("log") == 0


def test_every_planted_difference_is_found_and_mended(loaded: Commands, redis_server: Redis) -> None:
    r = redis_server.client
    r.delete("item:1", "doc:2", "cell:3:name")
    r.srem("by-name:n4", 4)
    r.zrem("by-price", 5)
    r.hset("item:11", "name", "stale")
    r.hset("item:12", "price", "3")
    r.hdel("item:13", "name")
    r.set("doc:14", "{}")
    r.set("cell:15:price", "0")
    r.zadd("by-price", {"16": 1})
    r.delete("item:21", "doc:22", "cell:23:id")
    r.set("item:21", "x")
    r.hset("doc:22", "a", "b")
    r.sadd("cell:23:id", "x")
    r.hset("item:9999", "id", "9999")
    r.set("doc:9998", "{}")
    r.set("cell:9997:name", "x")
    r.sadd("by-name:n1", 2, 9996)
    r.sadd("by-name:nobody", 3)
    r.zadd("by-price", {"9995": 1})
    # Not ours: no row could have written them.
    r.hset("item:config", "a", "b")
    r.set("other", "x")
    wanted = {"missing": 5, "stale": 6, "wrong_type": 3, "orphaned": 7}
    status, found = loaded.verify()
    assert (status, found["different"]) == (1, wanted)
    status, found = loaded.verify("--repair", "--prune")
    # A SET writes over whatever there is, the other commands do not: a key of another type is the application's, or a mistake of somebody's.
    assert (status, found["different"], found["repaired"]) == (1, wanted, 20), found
    r.delete("item:21")
    assert loaded.verify("--repair")[0] == 0
    assert loaded.verify()[0] == 0
    assert r.exists("item:config", "other") == 2


def test_verify_finds_nothing_wrong_while_writers_write(loaded: Commands, table: Database) -> None:
    with writers(table) as done:
        status, found = loaded.verify()
    assert (status, found["different"]) == (0, {}), found
    assert min(done) > 0
    assert loaded.verify()[0] == 0


def test_verify_cannot_tell_without_its_servers_and_says_so(table: Database, commands: Commands, redis_server: Redis) -> None:
    redis_server.stop()
    status, output = commands.run("verify")
    assert status == 2
    assert "could not tell" in output
    status, found = commands.verify()
    assert (status, found["equal"], found["complete"]) == (2, False, False)
    assert found["error"]


def test_keys_of_tables_that_are_not_chosen_are_theirs(
    database: Database, redis_server: Redis, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    tables: list[dict[str, Any]] = []
    for name, key, delivery in (("user", "user:{name}", "durable"), ("tag", "user:{name}:tags", "durable"), ("seen", "user:{name}:seen", "direct")):
        database.execute(f"CREATE TABLE shop.{name} (name VARCHAR(40) PRIMARY KEY, v INT) ENGINE=InnoDB", f"INSERT INTO shop.{name} VALUES ('a', 1)")
        tables.append({"table": f"shop.{name}", "delivery": delivery, "columns": ["name", "v"], "write": [{"type": "hash", "key": key}]})
    for declaration in tables[:2]:
        sync_table(database, **declaration)
    config = settings(database, redis_server, tables)
    start_worker(config)
    commands = Commands(config, tmp_path)
    assert commands.run("resync")[0] == 0
    # What direct delivery has written; a set that looks like a user's hash; and orphans of the one and of the other.
    redis_server.client.hset("user:a:seen", "v", "1")
    redis_server.client.sadd("user:somebody", "else")
    redis_server.client.hset("user:gone", "v", "1")
    redis_server.client.hset("user:gone:tags", "v", "1")
    status, found = commands.verify("--table", "shop.user", "--prune")
    assert (status, found["different"]) == (0, {"orphaned": 2})
    assert sorted(redis_server.client.keys()) == sorted(
        [b"user:a", b"user:a:tags", b"user:a:seen", b"user:somebody", *redis_server.client.keys("gearsync:*")])


def test_what_redis_refuses_to_tell_is_not_taken_for_absent(loaded: Commands, redis_server: Redis, config: dict[str, Any], tmp_path: pathlib.Path) -> None:
    r = redis_server.client
    r.hset("item:9999", "id", "9999")
    for refused in ("scan", "hmget", "type"):
        r.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">secret", "~*", "+@all", f"-{refused}")
        (tmp_path / refused).mkdir()
        limited = Commands({**config, "redis": {**config["redis"], "username": "limited", "password": "secret"}}, tmp_path / refused)
        status, output = limited.run("verify")
        assert status == 2, output
        assert refused.upper() in output
        assert refused.upper() in limited.run("selftest")[1]


def test_one_table_that_cannot_be_looked_at_does_not_hide_the_others(
    table: Database, worker: Worker, config: dict[str, Any], redis_server: Redis, tmp_path: pathlib.Path
) -> None:
    table.execute("CREATE TABLE shop.late (id INT PRIMARY KEY, a INT) ENGINE=InnoDB", "INSERT INTO shop.late VALUES (1, 1)")
    late = {"table": "shop.late", "delivery": "durable", "columns": ["id"], "write": [{"type": "hash", "key": "late:{id}"}]}
    sync_table(table, **late)
    absent = {"table": "shop.absent", "delivery": "durable", "columns": ["id"], "write": [{"type": "hash", "key": "absent:{id}"}]}
    commands = Commands({**config, "tables": [{**late, "columns": ["id", "a"]}, absent, *config["tables"]]}, tmp_path)
    status, output = commands.run("resync", "--table", "shop.item")
    assert status == 0, output
    status, output = commands.run("verify", "--json")
    answer = json.loads(output)
    assert (status, answer["status"], answer["complete"]) == (2, 2, False)
    found = {entry["table"]: entry for entry in answer["tables"]}
    assert "'a'" in found["shop.late"]["not_compared"][0]
    assert found["shop.late"]["unsettled"] == 1
    assert "no triggers" in found["shop.absent"]["error"]
    assert found["shop.item"]["equal"] is True
    # What differs for certain counts more.
    redis_server.client.delete("item:1")
    assert commands.run("verify")[0] == 1


def test_rows_of_megabytes_are_compared(
    database: Database, redis_server: Redis, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    big = {"table": "shop.big", "delivery": "durable", "columns": ["id", "t", "b"], "write": [{"type": "hash", "key": "big:{id}"}]}
    database.execute(
        "CREATE TABLE shop.big (id INT PRIMARY KEY, t LONGTEXT, b LONGBLOB) ENGINE=InnoDB",
        # The last but one is too large to be put into words.
        "INSERT INTO shop.big SELECT id, REPEAT('ä', n), REPEAT(x'00ff', n) FROM (SELECT 1 AS id, 700000 AS n UNION SELECT 2, 700000 UNION SELECT 3, 700000"
        " UNION SELECT 4, 700000 UNION SELECT 5, 3000000 UNION SELECT 6, 1) AS rows_")
    sync_table(database, **big)
    config = settings(database, redis_server, [big], lease=2.0)
    start_worker(config)
    commands = Commands(config, tmp_path)
    assert commands.run("resync")[0] == 0
    status, found = commands.verify()
    assert (status, found["rows"], found["different"], found["unsettled"]) == (0, 6, {}, 0)
    redis_server.client.hset("big:5", "b", "stale")
    status, found = commands.verify("--repair")
    assert (status, found["different"], found["remaining"]) == (0, {"stale": 1}, {})


def test_a_key_that_should_expire_and_does_not_is_stale(
    database: Database, redis_server: Redis, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    short = {"table": "shop.short", "delivery": "durable", "columns": ["id", "a"], "write": [
        {"type": "hash", "key": "short:{id}", "ttl": 3600}, {"type": "set", "key": "shorts", "member": "{id}", "ttl": 3600}]}
    database.execute("CREATE TABLE shop.short (id INT PRIMARY KEY, a INT) ENGINE=InnoDB", "INSERT INTO shop.short VALUES (1, 1), (2, 2)")
    sync_table(database, **short)
    config = settings(database, redis_server, [short])
    start_worker(config)
    commands = Commands(config, tmp_path)
    assert commands.run("resync")[0] == 0
    assert commands.verify()[0] == 0
    redis_server.client.persist("short:1")
    redis_server.client.delete("short:2")
    status, found = commands.verify("--repair")
    assert (status, found["different"]) == (0, {"stale": 1})
    assert 0 < redis_server.client.ttl("short:1") <= 3600


def test_a_table_that_nobody_declares_holds_up_no_other(loaded: Commands, table: Database, redis_server: Redis) -> None:
    table.put(*[("insert", {"new": {"id": 1}})] * 3, shard=1, table="shop.nobodys")
    redis_server.client.delete("item:1")
    assert loaded.verify("--repair")[0] == 0
    assert loaded.run("resync", "--restart", "--max-depth", "2", "--chunk", "500")[0] == 0
    status, output = loaded.run("barrier", "--timeout", "0.1")
    assert status == 1
    assert "shop.nobodys" in output


@pytest.mark.parametrize("words", [["--table", "shop.nosuch"], ["--sample", "0"]])
def test_verify_names_what_is_wrong_with_its_arguments(commands: Commands, words: list[str]) -> None:
    status, output = commands.run("verify", *words)
    assert status == 2
    assert words[1] in output


def test_a_resync_that_is_killed_goes_on_where_it_was(worker: Worker, commands: Commands, table: Database) -> None:
    def progress() -> tuple[int, bool]:
        rows = table.execute("SELECT rows_done, finished_at IS NOT NULL FROM gearsync.resync")
        return (int(rows[0][0]), bool(rows[0][1])) if rows else (0, False)

    def advanced(rows: int) -> bool:
        now, finished = progress()
        return finished or now > rows

    chance, before, finished = random.Random(1), 0, False
    with writers(table):
        for _number in range(10):
            process = commands.start("resync", "--chunk", "50", "--rate", "1500")
            until(lambda rows=before: advanced(rows))
            time.sleep(chance.uniform(0.0, 0.2))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            after, finished = progress()
            assert after >= before
            before = after
            if finished:
                break
        assert before > 0
        assert commands.run("resync")[0] == 0
    until(lambda: table.waiting, 0, seconds=60)
    assert commands.verify("--prune")[0] in (0, 1)
    assert commands.verify()[0] == 0


def _interrupt(commands: Commands, table: Database) -> int:
    """A resync that was killed on its way; after how many rows."""
    process = commands.start("resync", "--chunk", "50", "--rate", "500")
    until(lambda: table.execute("SELECT COUNT(*) FROM gearsync.resync WHERE rows_done > 0")[0][0], 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    ((rows,),) = table.execute("SELECT rows_done FROM gearsync.resync WHERE finished_at IS NULL")
    return int(rows)


def test_an_interrupted_resync_goes_on_and_says_so(worker: Worker, commands: Commands, table: Database) -> None:
    rows = _interrupt(commands, table)
    status, output = commands.run("resync", "--dry-run")
    assert f"goes on after {rows:,} rows of the run of 20" in output
    status, output = commands.run("resync")
    assert (status, f"goes on after {rows:,} rows of the run of 20" in output) == (0, True), output
    assert commands.verify()[0] == 0


def test_a_resync_of_before_a_loss_begins_anew(worker: Worker, commands: Commands, table: Database, redis_server: Redis) -> None:
    assert _interrupt(commands, table) > 0
    redis_server.client.flushall()
    status, output = commands.run("resync")
    assert (status, "begins anew" in output, "Redis has lost its data" in output) == (0, True, True), output
    assert commands.verify()[0] == 0
    assert redis_server.client.keys("gearsync:*:resync:*") == []


def test_a_loss_while_a_resync_runs_has_it_begin_anew(worker: Worker, commands: Commands, table: Database, redis_server: Redis) -> None:
    process = commands.start("resync", "--chunk", "100", "--rate", "2000")
    until(lambda: table.execute("SELECT COUNT(*) FROM gearsync.resync WHERE rows_done > 1000")[0][0], 1)
    redis_server.client.flushall()
    _output, errors = process.communicate(timeout=60)
    assert (process.returncode, "begins anew" in errors) == (0, True), errors
    assert commands.verify()[0] == 0


def test_a_resync_of_another_declaration_begins_anew(
    worker: Worker, commands: Commands, table: Database, config: dict[str, Any], tmp_path: pathlib.Path
) -> None:
    assert _interrupt(commands, table) > 0
    more = {**TABLE, "write": [*TABLE["write"], {"type": "hash", "key": "more:{id}"}]}
    (tmp_path / "more").mkdir()
    changed = Commands({**config, "tables": [more]}, tmp_path / "more")
    assert "the declaration has changed since" in changed.run("resync", "--dry-run")[1]
    assert commands.run("resync")[0] == 0
    assert commands.run("resync", "--new", "--dry-run") == (0, "")
    # A write over the same columns: nothing of it is in Redis yet.
    assert "shop.item" in changed.run("resync", "--new", "--dry-run")[1]


def test_two_resyncs_of_a_table_do_not_run_at_once(worker: Worker, commands: Commands, table: Database) -> None:
    process = commands.start("resync", "--chunk", "50", "--rate", "200")
    until(lambda: table.execute("SELECT COUNT(*) FROM gearsync.resync WHERE rows_done > 0")[0][0], 1)
    status, output = commands.run("resync")
    assert (status, "another resync of shop.item is running" in output) == (1, True)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_sparse_condition_is_looked_for_piece_by_piece(table: Database) -> None:
    database = gearsync.database.Database(MySQLSettings(user="root", unix_socket=table.socket), 20.0)
    found = source.load(database)["shop.item"]
    pieces, position = [], None
    while not pieces or not pieces[-1].done:
        pieces.append(source.piece(database, found, position, 100, source.Wanted("id = 2500")))
        position = pieces[-1].position
    database.close()
    assert [len(piece.entries) for piece in pieces] == [0, 0, 1, 0]
    assert [piece.position for piece in pieces[:3]] == [["1000"], ["2000"], ["3000"]]


def test_the_bytes_of_a_piece_are_bounded(table: Database) -> None:
    database = gearsync.database.Database(MySQLSettings(user="root", unix_socket=table.socket), 20.0)
    rows, cut = database.rows_within("SELECT id, REPEAT('x', 1000) FROM shop.item ORDER BY id", 10_000)
    assert (len(rows), cut) == (10, True)
    # The rest was read, and is no answer to what comes next.
    assert database.rows("SELECT 7") == [(b"7",)]
    rows, cut = database.rows_within("SELECT id FROM shop.item ORDER BY id", 1 << 20)
    assert (len(rows), cut) == (3000, False)
    database.close()


@pytest.mark.parametrize(("words", "named"), [
    (["--max-lag", "0"], "--max-lag"), (["--replica", "a:b:c"], "a:b:c"), (["--nice-ratio", "-1"], "--nice-ratio"), (["--nice-ratio", "nan"], "--nice-ratio"),
])
def test_resync_names_what_is_wrong_with_its_arguments(commands: Commands, words: list[str], named: str) -> None:
    status, output = commands.run("resync", *words)
    assert status == 1
    assert named in output


def test_a_load_of_some_rows_leaves_a_load_of_all_as_it_was(loaded: Commands, table: Database, redis_server: Redis) -> None:
    def new() -> str:
        return loaded.run("resync", "--new", "--dry-run")[1]

    assert loaded.run("resync", "--restart")[0] == 0
    assert new() == ""
    assert loaded.run("resync", "--where", "id < 10")[0] == 0
    assert new() == ""
    # Interrupted half way: it goes on where it was, whatever is loaded meanwhile.
    table.execute("UPDATE gearsync.resync SET finished_at = NULL, position = '[\"1000\"]', rows_done = 1000, run = 'one'")
    redis_server.client.set("gearsync:main:resync:shop.item", "one")
    assert loaded.run("resync", "--where", "id = 1")[0] == 0
    assert loaded.run("resync", "--json")[0] == 0
    assert [int(row[0]) for row in table.execute("SELECT rows_done FROM gearsync.resync")] == [3000]
    # Taken out and declared again: what changed in between is not in Redis.
    sync_table(table, table="shop.item", state="absent")
    sync_table(table, **TABLE)
    assert "shop.item" in new()


def test_a_locked_row_holds_the_resync_up_and_never_the_writer(worker: Worker, commands: Commands, table: Database) -> None:
    with table.connect(autocommit=False) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE shop.item SET name = 'locked' WHERE id = 1500")
        process = commands.start("resync", "--chunk", "200", "--json")
        until(lambda: [int(row[0]) for row in table.execute("SELECT rows_done FROM gearsync.resync")], [1499])
        # It still has its lock.
        assert "another resync" in commands.run("resync")[1]
        # A deadlock with the resync would be an error here, or there.
        cursor.execute("UPDATE shop.item SET name = 'earlier' WHERE id BETWEEN 1 AND 1600")
        connection.commit()
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["done"]
    until(lambda: table.waiting, 0, seconds=60)
    # Index entries of rows that changed before they were loaded were never written.
    assert commands.verify()[0] == 0


def test_one_command_brings_everything_back_after_redis_lost_all(loaded: Commands, redis_server: Redis) -> None:
    redis_server.client.flushall()
    assert loaded.verify()[0] == 1
    assert loaded.run("resync")[0] == 0
    assert loaded.verify()[0] == 0


def test_only_tables_that_were_never_loaded_are_new(worker: Worker, commands: Commands, table: Database) -> None:
    status, output = commands.run("resync", "--new", "--dry-run")
    assert status == 0
    assert output.startswith("shop.item: about ")
    assert commands.verify("--quick")[1]["different"]["missing"] > 0
    assert "3,000 rows" in commands.run("resync", "--new")[1]
    assert commands.run("resync", "--new", "--dry-run") == (0, "")
    assert commands.run("resync", "--new") == (0, "")
    sync_table(table, **{**TABLE, "columns": ["id", "name", "price"], "write": TABLE["write"][:2]})
    assert commands.run("resync", "--new") == (0, "")


def test_a_quick_look_is_at_both_ends(loaded: Commands, redis_server: Redis) -> None:
    status, found = loaded.verify("--quick")
    assert (status, found["rows"], found["different"]) == (0, 2000, {})
    redis_server.client.delete("item:1", "item:1500", "item:3000")
    status, found = loaded.verify("--quick")
    assert (status, found["different"]) == (1, {"missing": 2})
    assert loaded.run("verify", "--quick", "--prune")[0] == 2


def test_a_condition_and_a_sample_look_at_a_part(worker: Worker, commands: Commands, redis_server: Redis) -> None:
    assert commands.run("resync", "--where", "id <= 10")[0] == 0
    assert len(redis_server.client.keys("item:*")) == 10
    status, found = commands.verify("--sample", "50")
    assert status == 1
    assert 1000 < found["rows"] < 2000


def test_keys_of_every_kind_are_walked_and_found(
    database: Database, redis_server: Redis, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    database.execute(
        "CREATE TABLE shop.odd (`when` DATETIME(3), `na``me` VARCHAR(20) COLLATE utf8mb4_general_ci, raw VARBINARY(4), kind ENUM('z', 'a', 'm'), f DOUBLE,"
        " text TEXT, PRIMARY KEY (`when`, `na``me`, raw, kind)) ENGINE=InnoDB")
    names = ["a", "B", "c'\\", "ä", "😀", "", "%s", "a/b"]
    with database.connect() as connection, connection.cursor() as cursor:
        for number in range(400):
            cursor.execute(
                "INSERT INTO shop.odd VALUES (%s, %s, %s, %s, %s, %s)",
                (f"2026-01-0{number % 3 + 1} 01:02:03.{number % 2}", names[number % 8], bytes([number % 256, 0, number // 256]), "zam"[number % 3],
                 number / 3, "x" * 9))
    sync_table(database, **ODD)
    config = settings(database, redis_server, [ODD])
    start_worker(config)
    commands = Commands(config, tmp_path)
    assert commands.run("resync", "--chunk", "7")[0] == 0
    status, found = commands.verify()
    assert (status, found["rows"], found["different"]) == (0, 400, {})
    assert len(redis_server.client.keys("odd:*")) == 400
    key = redis_server.client.keys("odd:*")[0]
    redis_server.client.hset(key, "text", "stale")
    redis_server.client.rename(redis_server.client.keys("odd:*")[5], "odd:2030-01-01 00:00:00.000/x/y/z")
    status, found = commands.verify("--repair", "--prune")
    assert found["different"] == {"stale": 1, "missing": 1, "orphaned": 1}
    assert status == 0
    assert commands.verify()[0] == 0
