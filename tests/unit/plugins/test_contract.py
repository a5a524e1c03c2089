# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker shares with the collection has the same names in both."""

from __future__ import annotations

from typing import Any

import msgspec
from ansible_collections.gearsync.mysql_redis.plugins.filter import sources
from ansible_collections.gearsync.mysql_redis.plugins.module_utils import (
    _column_sql,
    _outbox,
    _sync_checks,
    _sync_plan,
    _trigger_bodies,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare import fields, rules
from ansible_collections.gearsync.mysql_redis.plugins.modules import sync_table
from gearsync import contract
from gearsync.declare.declaration import Table, Write
from gearsync.outbox.declarations import Declared
from gearsync.project.payload import _TYPED
from gearsync.shapes import TYPES

DECLARATION = {
    "table": "shop.item",
    "delivery": "durable",
    "function": contract.DIRECT_FUNCTION,
    "events": list(contract.EVENTS),
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}
COLUMNS: dict[str, dict[str, Any]] = {
    name: {
        "name": name,
        "data_type": data_type,
        "column_type": data_type,
        "collation": None,
        "precision": None,
        "nullable": False,
        "is_json": False,
    }
    for name, data_type in (("id", "int"), ("name", "varchar(20)"))
}


def durable() -> Any:
    return _trigger_bodies.Durable(
        DECLARATION,
        COLUMNS,
        shard_columns=["id"],
        key_columns=["id"],
        refusable=[],
        source="main",
        shards=1,
        number=7,
    )


def test_schema_and_alias() -> None:
    assert _outbox.SCHEMA == contract.SCHEMA
    assert _sync_plan.ALIAS == contract.ROW


def test_events_and_types_of_writes() -> None:
    assert set(rules.EVENTS) == set(contract.EVENTS)
    assert set(fields.WRITE_TYPES) == set(TYPES)


def test_the_fields_of_a_declaration() -> None:
    """Those of the rule book, of the worker's structs and of sync_table's options."""
    options = sync_table.argument_spec()
    assert set(fields.FIELDS) == set(_sync_checks.DECLARATION) == set(Table.__struct_fields__) <= set(options)
    assert set(fields.WRITE_FIELDS) == set(Write.__struct_fields__) == set(options["write"]["options"])
    table = Table(table="s.t", columns=["id"], write=[])
    assert {name: getattr(table, name) for name in ("delivery", "function", "events")} == {
        name: options[name]["default"] for name in ("delivery", "function", "events")
    }
    assert sources.DIRECT_FUNCTION == contract.DIRECT_FUNCTION


def test_a_trigger_wakes_by_the_function_that_a_worker_takes() -> None:
    assert f"'{contract.drain_prefix('main')}'" in durable().body("insert")


def test_a_trigger_of_direct_delivery_marks_its_payload() -> None:
    assert f"'{contract.MARK}', {contract.MARK_VERSION}" in _trigger_bodies.direct_body(
        DECLARATION, COLUMNS, "insert"
    )


def test_a_worker_reads_the_declaration_that_sync_table_stores() -> None:
    content = durable().content("shop", "item", contract.ROW)
    declared = msgspec.json.decode(msgspec.json.encode(content), type=Declared)
    assert [name for name, _kind in declared.columns] == ["id", "name"]
    assert declared.key[0].declared == "id"


def test_a_worker_knows_each_kind_whose_json_does_not_show_what_it_is() -> None:
    assert set(_column_sql.MARKS) == set(_TYPED)
