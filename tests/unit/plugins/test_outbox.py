# SPDX-License-Identifier: GPL-3.0-or-later
import functools
import re
import zlib

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import (
    MIGRATIONS,
    VERSION,
    SchemaError,
    SyncedTable,
    choose_generation,
    first_shard,
    generation_of,
    migration_statements,
    number_of,
    to_json,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_bodies import (
    durable,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    wanted_triggers,
)
from hypothesis import given
from hypothesis import strategies as st


def column(name, data_type="int", **changes):
    return {
        "name": name,
        "data_type": data_type,
        "column_type": data_type,
        "collation": None,
        "precision": None,
        "nullable": False,
        "is_json": False,
        **changes,
    }


FACTS = {
    "name": "t",
    "unique_keys": [["id"], ["mail"]],
    "refusable": {"id", "mail"},
    "columns": [
        column("id"),
        column("mail", "varchar", collation="utf8mb4_bin"),
        column("body", "longblob"),
        column("text", "longtext", collation="x"),
    ],
}


def declaration(*keys, **changes):
    return {
        "table": "s.t",
        "delivery": "durable",
        "function": "f",
        "events": ["insert", "update", "delete"],
        "columns": ["id", "mail"],
        "write": [{"type": "hash", "key": key} for key in keys],
        **changes,
    }


@given(st.integers(1, 256))
def test_a_shard_has_the_number_of_its_generation(shards):
    numbers = range(first_shard(shards), first_shard(shards) + shards)
    assert {generation_of(number) for number in numbers} == {shards}
    assert max(numbers) < first_shard(shards + 1)


def expression(column_name, shards):
    return lambda generation: f"{first_shard(generation)} + CRC32({column_name}) MOD {shards}"


def record(*generations):
    """A synced table whose triggers may write into these generations: (number, expression) each."""
    return SyncedTable(
        **{
            **dict.fromkeys(SyncedTable._fields, ""),
            "generations": to_json({number: sql(number) for number, sql in generations}),
        }
    )


@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(1, 8), st.booleans(), st.booleans()),
        min_size=1,
        max_size=30,
    )
)
def test_no_number_stands_for_two_ways_to_divide_the_rows_of_a_table(steps):
    """Declarations change, each time some changes may be left in the shards, and runs may be interrupted;
    drained: all changes were applied before.
    """
    known, waiting = [], {}
    for key, shards, drained, interrupted in steps:
        if drained:
            waiting = {}
        sql = expression(key, shards)
        generation = choose_generation(
            shards, record(*known) if known else None, sql, functools.partial(set, waiting)
        )
        assert generation >= shards
        for number, former in known:
            assert number != generation or former(number) == sql(number)
        assert waiting.setdefault(generation, sql(generation)) == sql(generation)
        known = [*(known if interrupted else []), (generation, sql)]


def test_what_is_in_place_stays():
    every = set(range(400))
    by_id, by_mail = expression("id", 4), expression("mail", 4)
    assert choose_generation(4, None, by_id, set) == 4
    assert choose_generation(4, record((4, by_id)), by_id, lambda: every) == 4
    assert choose_generation(4, record((5, by_id)), by_id, set) == 5
    assert choose_generation(4, record((4, by_id)), by_mail, set) == 5
    assert choose_generation(256, record((256, expression("id", 256))), expression("mail", 256), set) == 257
    with pytest.raises(SchemaError):
        choose_generation(256, None, expression("id", 256), lambda: every)


def test_a_run_that_is_repeated_takes_the_generation_of_the_one_that_was_interrupted():
    interrupted = record((4, expression("id", 4)), (5, expression("mail", 4)))
    assert choose_generation(4, interrupted, expression("mail", 4), set) == 5
    assert choose_generation(4, interrupted, expression("id", 4), set) == 4
    assert choose_generation(4, interrupted, expression("other", 4), set) == 6


def test_the_outbox_is_read_once_however_many_generations_are_taken():
    answers = iter([{5, 6, 7}])
    assert (
        choose_generation(4, record((4, expression("id", 4))), expression("mail", 4), lambda: next(answers))
        == 8
    )


@given(shards=st.integers(1, 256), generation=st.integers(1, 256))
def test_shards_are_of_their_generation(shards, generation):
    generation = max(shards, generation)
    for keys in (["{id}"], ["a:{id}", "b:{mail}"], ["{mail}"]):
        sql = durable(declaration(*keys), FACTS, "main", shards, generation=generation)
        assert generation_of(int(re.match(r"\d+", sql.shard("NEW")).group())) == generation


def test_a_table_without_a_common_key_has_one_shard():
    sql = durable(declaration("a:{id}", "b:{mail}"), FACTS, "main", 7)
    assert sql.shard("NEW") == str(first_shard(7) + zlib.crc32(b"s.t") % 7)
    assert [name for name, _column in sql.key] == ["id"]


@pytest.mark.parametrize(
    ("writes", "by"),
    [
        ([{"type": "hash", "key": "x:{id}"}], "id"),
        ([{"type": "hash", "key": "x:{mail}"}], "mail"),
        ([{"type": "hash", "key": "x:{id}:{mail}"}], "id"),
        ([{"type": "hash", "key": "x:{id}"}, {"type": "set", "key": "all", "member": "{id}"}], "id"),
        ([{"type": "hash", "key": "x:{id}"}, {"type": "set", "key": "by:{mail}", "member": "{id}"}], "id"),
        ([{"type": "hash", "key": "x:{id}"}, {"type": "list", "key": "log:{id}", "value": "{mail}"}], "id"),
        # A log of all rows is in one order.
        ([{"type": "hash", "key": "x:{id}"}, {"type": "list", "key": "log", "value": "{id}"}], None),
        ([{"type": "stream", "key": "log"}], None),
        # What a transform computes is in no key of the table.
        ([{"type": "hash", "key": "x:{slug}:{id}"}], "id"),
        ([{"type": "list", "key": "x:{slug}", "value": "{id}"}], None),
    ],
)
def test_what_rows_are_divided_by(writes, by):
    text = durable(declaration(write=writes, transform="a:b", computed=["slug"]), FACTS, "main", 4).shard(
        "NEW"
    )
    assert ("CRC32(" in text) == (by is not None)
    assert by is None or f"NEW.`{by}`" in text


def test_both_rows_of_an_update_count_for_its_size():
    wanted = declaration("{id}:{text}", columns=["id", "body", "text"])
    sql = durable(wanted, FACTS, "main", 4)
    words = (
        "COALESCE(OCTET_LENGTH(NEW.`body`), 0) + COALESCE(OCTET_LENGTH(NEW.`text`), 0) + "
        "COALESCE(OCTET_LENGTH(OLD.`text`), 0) > @@max_allowed_packet"
    )
    assert words in sql.body("update")
    assert "OLD." not in sql.body("insert")
    assert "NEW." not in sql.body("delete")


def test_the_outbox_is_written_without_a_handler_and_the_wake_with_one():
    lines = durable(declaration("{id}"), FACTS, "main", 4).body("update").splitlines()
    inside, inserts, wakes = 0, 0, 0
    for line in (each.strip() for each in lines[1:-1]):
        inside += line == "BEGIN"
        inside -= line == "END;"
        inserts += line.startswith("INSERT INTO `gearsync`.`outbox`") and not inside
        wakes += line.startswith("IF gman_wake(") and inside == 1
    # The update itself; the row again when a key may have refused it; and both of its keys when these differ.
    assert (inserts, wakes) == (4, 4)


def test_migrations_go_on_from_every_version():
    everything = migration_statements(0)
    assert everything[0].startswith("CREATE DATABASE IF NOT EXISTS")
    assert migration_statements(VERSION) == []
    for version in range(1, VERSION):
        assert migration_statements(version) == everything[-len(migration_statements(version)) :]
    with pytest.raises(SchemaError, match="later release"):
        migration_statements(VERSION + 1)
    repeatable = (
        r"CREATE TABLE IF NOT EXISTS|DROP TABLE IF EXISTS|DROP PROCEDURE IF EXISTS|CREATE PROCEDURE"
        r"|UPDATE `gearsync`.`declaration` SET .* NOT LIKE|UPDATE `gearsync`.`synced_table` SET "
        r"`generations` = .* WHERE `generations` IS NULL"
        r"|SET @gearsync_sql = IF\(|PREPARE gearsync_statement|EXECUTE gearsync_statement|DEALLOCATE "
        r"PREPARE gearsync_statement"
    )
    assert all(re.match(repeatable, statement) for statements in MIGRATIONS for statement in statements)


class Numbers:
    """What number_of asks a database for."""

    def __init__(self, *contents):
        self.contents = contents

    def rows(self, _statement, _table):
        return (
            [{"number": 10_000 * len(self.contents) + 42, "content": self.contents[-1]}]
            if self.contents
            else []
        )


def test_a_declaration_keeps_its_number_as_long_as_it_is_the_newest_one():
    end = zlib.crc32(b"a") % 10_000
    assert number_of(Numbers(), "s.t", "a", 0)[0] == 10_000 + end
    assert number_of(Numbers("a"), "s.t", "a", VERSION) == (10_042, [])
    number, statements = number_of(Numbers("a", "b"), "s.t", "a", VERSION)
    assert number == 30_000 + end
    assert statements == [
        (
            "INSERT INTO `gearsync`.`numbered_declaration` (`table_name`, `number`, `content`) VALUES "
            f"('s.t', {number}, 'a')"
        )
    ]


def test_what_is_written_down_of_a_declaration_is_all_that_its_changes_need():
    # worker/tests/unit/test_declared.py reads the same text.
    writes = [{"type": "hash", "key": "k:{id}", "ttl": 60, "value": None}, {"type": "stream", "key": "log"}]
    sql = durable(
        declaration(write=writes, columns=["id", "mail", "body"], transform="a.b:c", computed=["slug"]),
        FACTS,
        "main",
        4,
    )
    content = sql.content("s", "t", "r")
    assert to_json(
        {name: content[name] for name in content if name not in ("small_sql", "large_columns")}
    ) == (
        '{"columns":[["id","integer"],["mail","text"],["body","binary"]],"computed":["slug"],"deleted":["id","mail","body"],'
        '"key":[{"declared":"id","kind":"integer","real":"id"}],"old":["id","mail","body"],"source_schema":"s","source_table":"t",'
        '"transform":"a.b:c","write":[{"key":"k:{id}","ttl":60,"type":"hash"},{"key":"log","type":"stream"}]}'
    )
    # The number is no part of it, nor is what changes nothing of a payload.
    assert (
        durable({**sql.declaration, "events": ["delete"]}, FACTS, "main", 9, number=7).content("s", "t", "r")
        == content
    )


def test_a_delete_tells_a_stream_every_column_and_others_only_what_they_remove():
    def told(*writes):
        return [
            name
            for name, _column in durable(
                declaration(write=list(writes), columns=["id", "mail"]), FACTS, "main", 4
            ).deleted
        ]

    assert told({"type": "hash", "key": "k:{id}"}) == ["id"]
    assert told({"type": "list", "key": "log", "value": "{id}"}) == ["id"]
    assert told({"type": "stream", "key": "log"}) == ["id", "mail"]


def test_what_removes_is_replaced_before_what_writes():
    sql = durable(declaration("{id}"), FACTS, "main", 4, number=3)
    made = wanted_triggers(
        "s", {**declaration("{id}"), "events": ["insert", "update", "delete"]}, FACTS, None, "", body=sql.body
    )
    assert [trigger.event for trigger in made] == ["delete", "update", "insert"]
    assert all("JSON_ARRAY(3, " in trigger.body for trigger in made)


@given(st.dictionaries(st.text(), st.text()))
def test_equal_values_have_equal_json(value):
    assert to_json(value) == to_json(dict(reversed(value.items())))
