# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring triggers and records of a synced table to what is declared."""

from __future__ import annotations

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import SQL_MODE, split_account
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import (
    choose_generation,
    generations_of,
    is_needed,
    lease_statements,
    leave_statements,
    migration_statements,
    number_of,
    read_synced,
    read_version,
    save_statement,
    to_json,
    waiting_generations,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._sync_checks import (
    DECLARATION,
    DeclarationError,
    check_durable,
    check_table,
    existing_table,
    server_problems,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._sync_plan import (
    ALIAS,
    Plan,
    durable_records,
    is_lockable,
    name_conflict,
    records_without,
    result_of,
    steps_without,
    synced_table,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._table import find_table, read_facts
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_bodies import (
    durable,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_ddl import (
    apply,
    read_triggers,
    step_for,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    wanted_triggers,
)


def _check(module, database, declaration, existing, facts, *, definer, wake):
    """Warn of what the declaration cannot do, and return the warnings of the table. Raises
    DeclarationError when it cannot be carried out.
    """
    warnings = check_table(database, declaration, existing, facts)
    if declaration["delivery"] == "durable":
        warnings += check_durable(database, declaration, existing, facts)
    problems, more = server_problems(database, definer, declaration["delivery"], wake=wake)
    if problems and not module.check_mode:
        raise DeclarationError(problems)
    for text in warnings + problems + more:
        module.warn("table {}: {}".format(declaration["table"], text))
    return warnings


def _durable_sql(database, declaration, facts, where, *, params):
    """(Durable, statements that store its declaration), with shards whose numbers let no change overtake
    one that waits.
    """
    version = read_version(database)
    records = read_synced(database, *where, version)
    known = records.pop(declaration["table"], None)
    # The triggers may be those of a declaration under another name.
    others = {generation for synced in records.values() for generation in generations_of(synced)}

    def sql(generation, number=0):
        source = params["source"] if params["wake"] else None
        return durable(declaration, facts, source, params["shards"], generation=generation, number=number)

    generation = choose_generation(
        params["shards"],
        known,
        lambda generation: sql(generation).shard(ALIAS),
        lambda: others | waiting_generations(database, declaration["table"], version),
    )
    number, statements = number_of(
        database, declaration["table"], to_json(sql(generation).content(*where, ALIAS)), version
    )
    return sql(generation, number), statements


def _durable_records(database, sql, synced, declared):
    """declared: the statements that store the declaration. They come before the triggers, so that every
    change can be understood.
    """
    version = read_version(database)
    before = (
        migration_statements(version)
        + lease_statements(database, synced.shards, version, sql.generation)
        + declared
    )
    known = read_synced(database, synced.source_schema, synced.source_table, version)
    return durable_records(synced, known, before=before, save=save_statement)


def _records_without(database, where):
    known = read_synced(database, *where, read_version(database))
    return records_without(known, {name for name in known if is_needed(database, name)})


def plan_present(module, database, params, schema, table):
    """(plan, result) for a table that is synced as declared. params: the options of the module, those of the
    declaration are this table's.
    """
    declaration = {name: params[name] for name in DECLARATION}
    existing = existing_table(database, schema, table)
    where = schema, table = existing["s"], existing["t"]
    facts = read_facts(database, schema, table)
    definer = None if params["definer"] is None else "{}@{}".format(*split_account(params["definer"]))
    warnings = _check(module, database, declaration, existing, facts, definer=definer, wake=params["wake"])
    triggers = read_triggers(database, schema, table)
    is_durable = declaration["delivery"] == "durable"
    sql, declared = (
        _durable_sql(database, declaration, facts, where, params=params) if is_durable else (None, [])
    )
    wanted = wanted_triggers(
        schema, declaration, facts, definer, database.set_sql_mode(SQL_MODE), body=sql and sql.body
    )
    conflict = name_conflict(wanted, triggers, where)
    if conflict:
        raise DeclarationError([conflict])
    steps = [step_for(database, triggers, trigger) for trigger in wanted]
    steps += steps_without(triggers, table, [trigger.name for trigger in wanted])
    if is_durable:
        synced = synced_table(declaration, sql, where, shards=params["shards"], wanted=wanted)
        records = _durable_records(database, sql, synced, declared)
    else:
        records = _records_without(database, where)
    return Plan(steps, records, where, is_lockable(triggers, table) and not is_durable), result_of(
        declaration, facts, wanted, warnings
    )


def plan_absent(_module, database, _params, schema, table):
    """(plan, result) for a table that is not synced any more. The table may be gone, and its triggers
    with it.
    """
    existing = find_table(database, schema, table)
    where = (existing["s"], existing["t"]) if existing else (schema, table)
    triggers = read_triggers(database, *where) if existing else {}
    steps = steps_without(triggers, where[1], [])
    return Plan(steps, _records_without(database, where), where, is_lockable(triggers, where[1])), {
        "triggers": {}
    }


def carry_out(database, plan, seconds):
    """Execute a plan. seconds: how long locks are waited for. Raises StatementFailed and ServerError."""
    for statement in plan.records.before:
        database.change(statement)
    apply(database, *plan.where, plan.steps, seconds, together=plan.lock)
    for statement in plan.records.after:
        database.change(statement)
    # Not before: until here the former triggers could write.
    for synced in plan.records.left:
        for statement in leave_statements(database, synced):
            database.change(statement)
