# SPDX-License-Identifier: GPL-3.0-or-later
import json

import pytest
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import NO_TRIGGERS, generations_of
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._sync_checks import durable_problems
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._sync_plan import (
    Plan,
    Records,
    durable_records,
    is_lockable,
    name_conflict,
    records_without,
    result_of,
    show_plan,
    steps_without,
    synced_table,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_bodies import (
    durable,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    Trigger,
    beside_name,
    trigger_name,
    wanted_triggers,
)

WHERE = ("shop", "item")
DECLARATION = {
    "table": "shop.item",
    "delivery": "durable",
    "function": "syncToRedis",
    "events": ["insert", "update", "delete"],
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
    "transform": None,
    "computed": [],
}


def column(name, data_type):
    return {
        "name": name,
        "data_type": data_type,
        "column_type": data_type,
        "collation": None,
        "precision": None,
        "nullable": False,
        "is_json": False,
    }


def facts(*columns, unique_keys=(("id",),), period=False):
    return {
        "name": "item",
        "columns": list(columns) or [column("id", "int"), column("name", "varchar")],
        "unique_keys": [list(key) for key in unique_keys],
        "refusable": set(),
        "period": period,
    }


def sql_of(declaration=None, number=7):
    return durable(declaration or DECLARATION, facts(), "main", 4, number=number)


def wanted_of(declaration=None):
    declaration = declaration or DECLARATION
    body = sql_of(declaration).body if declaration["delivery"] == "durable" else None
    return wanted_triggers("shop", declaration, facts(), None, "STRICT_TRANS_TABLES", body=body)


def synced_of(**changes):
    return synced_table(DECLARATION, sql_of(), WHERE, shards=4, wanted=wanted_of())._replace(**changes)


def saved(synced):
    """In place of the statement that stores a record: the generations in it."""
    return sorted(generations_of(synced))


def trigger(name, *, table="item", body="SET @a = 1"):
    return Trigger("shop", name, table, "after", "insert", body, None, "STRICT_TRANS_TABLES", 1)


def by_name(*triggers):
    return {one.name: one for one in triggers}


def test_the_record_of_a_durable_table():
    synced = synced_of()
    assert (synced.table_name, synced.source_schema, synced.source_table, synced.shards, synced.number) == (
        "shop.item",
        "shop",
        "item",
        4,
        7,
    )
    assert json.loads(synced.column_types) == {"id": "int", "name": "varchar"}
    assert sorted(json.loads(synced.triggers)) == sorted(one.name for one in wanted_of())
    assert generations_of(synced) == {4: synced.shard_sql}
    assert "gearsync_row" in synced.row_sql


def test_a_new_table_is_recorded_before_its_triggers():
    records = durable_records(synced_of(), {}, before=["lease"], save=saved)
    assert (records.before, records.after, records.left, records.known) == (["lease", [4]], [], [], "")
    assert "-- table_name: shop.item\n" in records.wanted


def test_a_known_table_is_recorded_after_its_triggers():
    former = synced_of(row_sql="former")
    records = durable_records(synced_of(), {"shop.item": former}, before=["lease"], save=saved)
    assert (records.before, records.after, records.left) == (["lease"], [[4]], [])
    assert "-- row_sql: former\n" in records.known
    assert records.known != records.wanted


def test_the_generation_of_new_triggers_is_recorded_before_them():
    former = synced_of(generations='{"5":"former"}')
    records = durable_records(synced_of(), {"shop.item": former}, before=["lease"], save=saved)
    assert (records.before, records.after) == (["lease", [4, 5]], [[4]])


def test_an_unchanged_record_is_not_written():
    records = durable_records(synced_of(), {"shop.item": synced_of()}, before=[], save=saved)
    assert (records.before, records.after) == ([], [])
    assert records.known == records.wanted


def test_a_table_that_was_declared_under_another_name_loses_that_record():
    former = synced_of(table_name="`shop`.item")
    assert durable_records(synced_of(), {"`shop`.item": former}, before=[], save=saved).left == [former]


def test_a_record_stays_without_triggers_while_changes_need_it():
    one, other = synced_of(table_name="a"), synced_of(table_name="b")
    records = records_without({"b": other, "a": one}, {"b"})
    assert records.left == [one, other]
    assert (records.before, records.after) == ([], [])
    assert "-- table_name: a\n" not in records.wanted
    assert f"-- triggers: {NO_TRIGGERS}\n" in records.wanted


def test_own_triggers_that_are_not_wanted_are_dropped():
    kept = trigger_name("item", "insert")
    triggers = by_name(
        trigger(kept),
        trigger(beside_name(kept)),
        trigger(trigger_name("item", "update")),
        trigger(trigger_name("former", "delete")),
        trigger("audit"),
        trigger(trigger_name("other", "insert"), table="other"),
    )
    steps = steps_without(triggers, "item", [kept])
    assert [step.existing.name for step in steps] == [
        trigger_name("former", "delete"),
        trigger_name("item", "update"),
    ]
    assert [step.statements for step in steps] == [
        [f"DROP TRIGGER `shop`.`{step.existing.name}`"] for step in steps
    ]


def test_a_name_that_a_trigger_of_another_table_has():
    wanted = wanted_of()
    assert name_conflict(wanted, by_name(trigger(wanted[0].name)), WHERE) is None
    assert f"the name {wanted[0].name}" in name_conflict(
        wanted, by_name(trigger(wanted[0].name, table="other")), WHERE
    )


@pytest.mark.parametrize(
    ("other", "lockable"),
    [
        (trigger(trigger_name("item", "insert")), True),
        (trigger("audit"), False),
        (trigger(trigger_name("item", "insert"), body="INSERT INTO `gearsync`.`outbox` VALUES (1)"), False),
        (trigger("audit", table="other"), True),
    ],
)
def test_a_table_is_locked_only_when_its_triggers_write_nowhere_else(other, lockable):
    assert is_lockable(by_name(other), "item") is lockable


def test_result():
    declaration = {
        **DECLARATION,
        "write": [
            *DECLARATION["write"],
            {"type": "string", "key": "{column}"},
            {"type": "string", "key": "{column}:{id}"},
        ],
    }
    result = result_of(declaration, facts(), wanted_of(), ["blind"])
    assert result == {
        "columns": {"id": "integer", "name": "text"},
        "shared_keys": ["{column}"],
        "blind_spots": ["blind"],
        "triggers": {one.event: one.name for one in wanted_of()},
    }


def test_result_of_direct_delivery_has_the_job():
    direct = {**DECLARATION, "delivery": "direct"}
    job = result_of(direct, facts(), wanted_of(direct), [])["job"]
    assert "gearsync_row" in job["payload_sql"]
    assert job["sql_mode"] == "STRICT_TRANS_TABLES"


def test_the_diff_has_records_and_triggers():
    steps = steps_without(by_name(trigger(trigger_name("item", "insert"))), "item", [])
    shown = show_plan(Plan(steps, Records([], [], [], "-- known\n", "-- wanted\n"), WHERE, False))
    assert shown["before"].startswith("-- known\n")
    assert trigger_name("item", "insert") in shown["before"]
    assert shown["after"] == "-- wanted\n"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (facts(), None),
        (facts(unique_keys=()), None),
        (facts(unique_keys=(), period=True), "the table has a period"),
        (facts(period=True), None),
        (facts(column("id", "float"), column("name", "varchar")), "column 'id' is a FLOAT"),
        (facts(column("id", "int"), column("name", "text")), None),
        (facts(column("id", "int"), column("name", "text"), unique_keys=()), "name may be too large"),
    ],
)
def test_columns_and_keys_of_durable_delivery(given, problem):
    problems, warnings = durable_problems(DECLARATION, given)
    assert warnings == []
    assert problems == [] if problem is None else problem in problems[0]


def test_a_large_column_in_a_key_is_a_warning():
    declaration = {**DECLARATION, "write": [{"type": "set", "key": "items:{name}", "member": "{id}"}]}
    problems, warnings = durable_problems(declaration, facts(column("id", "int"), column("name", "text")))
    assert problems == []
    assert "column 'name' is in a key or a member" in warnings[0]
