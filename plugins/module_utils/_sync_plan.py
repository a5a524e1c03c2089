# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that a table is synced as declared. No I/O here."""

from __future__ import annotations

import collections

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._column_sql import (
    column_kind,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declaration import match_columns
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.template import (
    is_per_column,
    write_columns,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import (
    NO_TRIGGERS,
    OUTBOX,
    SyncedTable,
    generations_of,
    to_json,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_bodies import (
    direct_payload,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_bodies import (
    match as match_facts,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_ddl import Step, diff_of
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    OWN_NAME,
    beside_name,
    checksum,
    drop_sql,
)

# The alias that stands for NEW and OLD in the SQL that workers read.
ALIAS = "gearsync_row"

# Changes of the schema gearsync. before, after: statements before and after the triggers change. left: synced
# tables under names that no triggers serve afterwards. known, wanted: text for the diff.
Records = collections.namedtuple("Records", "before after left known wanted")
# steps: of the triggers. where: schema and table as the server has them. lock: whether the table may be
# locked for all steps together.
Plan = collections.namedtuple("Plan", "steps records where lock")


def show_synced(synced):
    """A synced table as diffs show it."""
    return (
        ""
        if synced is None
        else "".join(f"-- {name}: {value}\n" for name, value in zip(SyncedTable._fields, synced))
    )


def synced_table(declaration, sql, where, *, shards, wanted):
    """The record by which workers know a durable table. sql: its Durable. wanted: its triggers."""
    # gearsync status compares these with the columns that the table has then.
    types = {
        column["name"]: " ".join(filter(None, (column["column_type"], column["collation"])))
        for _name, column in sql.new
    }
    return SyncedTable(
        declaration["table"],
        *where,
        shards,
        to_json(sql.key_columns()),
        sql.shard(ALIAS),
        sql.row(ALIAS),
        sql.old_row(ALIAS),
        sql.too_large(ALIAS),
        sql.small_row(ALIAS),
        to_json(sql.large_columns(ALIAS)),
        to_json({trigger.name: checksum(trigger.body) for trigger in wanted}),
        sql.number,
        to_json({sql.generation: sql.shard(ALIAS)}),
        to_json(types),
    )


def planned_generations(known, synced):
    """The record until now, with the generation into which the new triggers will write, for a run that is
    interrupted; None when it has it.
    """
    generations = {**generations_of(known), **generations_of(synced)}
    return known._replace(generations=to_json(generations)) if generations != generations_of(known) else None


def durable_records(synced, known, *, before, save):
    """How a durable table gets its record. known: the records of this table, by declared name. before:
    what goes before it. save: what writes one.
    """
    former = known.get(synced.table_name)
    planned = former and planned_generations(former, synced)
    before = [*before, save(planned)] if planned else before
    save = [save(synced)] if former != synced else []
    left = [known[name] for name in sorted(known) if name != synced.table_name]
    shown = show_synced(former), show_synced(synced)
    # A worker that reads a row writes it by the record. A known table keeps its record until the triggers
    # send the old values that a new one needs. Of a new table no change waits, and workers must know that it
    # is durable before its first change.
    return Records(before, save, left, *shown) if former else Records([*before, *save], [], left, *shown)


def records_without(known, needed):
    """How a table without durable triggers loses its records. needed: the names of those that waiting
    changes still need.
    """
    left = [known[name] for name in sorted(known)]
    kept = [synced._replace(triggers=NO_TRIGGERS) for synced in left if synced.table_name in needed]
    return Records([], [], left, "".join(map(show_synced, left)), "".join(map(show_synced, kept)))


def name_conflict(wanted, triggers, where):
    """What is wrong when a trigger of another table has the name of a wanted one, or None."""
    schema, table = where
    for trigger in wanted:
        other = triggers.get(trigger.name)
        if other is not None and other.table != table:
            return (
                f"the name {trigger.name}, which its trigger needs, is that of a trigger on "
                f"{schema}.{other.table}; drop or rename that one"
            )
    return None


def steps_without(triggers, table, kept):
    """Drop the triggers of this module on a table, under an earlier name of the table too, except those
    with the names in kept.
    """
    names = set(kept) | {beside_name(name) for name in kept}
    return [
        Step(trigger, None, [drop_sql(trigger.schema, trigger.name)], [])
        for name, trigger in sorted(triggers.items())
        if trigger.table == table and OWN_NAME.match(name) and name not in names
    ]


def is_lockable(triggers, table):
    """Whether the table may be locked: a lock includes the tables that its triggers write, behind every
    transaction that has written there.
    """
    return all(
        trigger.table != table or (OWN_NAME.match(trigger.name) and OUTBOX not in trigger.body)
        for trigger in triggers.values()
    )


def result_of(declaration, facts, wanted, warnings):
    """What the module returns of a table that is synced. wanted: its triggers."""
    by_name = {column["name"]: column for column in facts["columns"]}
    real, _missing = match_columns(declaration["columns"], list(by_name))
    result = {
        "columns": {name: column_kind(by_name[real[name]]) for name in declaration["columns"]},
        "shared_keys": [
            write["key"]
            for write in declaration["write"]
            if is_per_column(write) and not write_columns(write, ("key",))
        ],
        "blind_spots": warnings,
        "triggers": {trigger.event: trigger.name for trigger in wanted},
    }
    if declaration["delivery"] == "direct":
        columns, _real = match_facts(declaration, facts)
        result["job"] = {
            "payload_sql": direct_payload(declaration, columns, "update", ALIAS, ALIAS),
            "sql_mode": wanted[0].sql_mode,
        }
    return result


def show_plan(plan):
    """The diff of a plan."""
    triggers = diff_of(plan.steps)
    return {
        "before": plan.records.known + triggers["before"],
        "after": plan.records.wanted + triggers["after"],
    }
