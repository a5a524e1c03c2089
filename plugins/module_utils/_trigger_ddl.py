# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a table's triggers from the server and bring them to a wanted state."""

from __future__ import annotations

import collections

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._lock_holders import lock_timeout_message
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ER_ACCESS_DENIED_DB,
    ER_BINLOG_CREATE_ROUTINE_NEED_SUPER,
    ER_LOCK_WAIT_TIMEOUT,
    ER_SPECIFIC_ACCESS_DENIED,
    ER_TABLE_ACCESS_DENIED,
    ServerError,
    qualified,
    split_account,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._statement_failure import StatementFailed
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    Trigger,
    beside_name,
    body_of,
    differences,
    drop_sql,
    plan,
    show,
)

# existing and wanted: a Trigger or None. statements: what has to be executed, nothing when all is as wanted.
# different: the properties of an existing trigger that are not as wanted.
Step = collections.namedtuple("Step", "existing wanted statements different")


def read_triggers(database, schema, table):
    """All triggers of a schema, by name; the bodies of those of one table are as they were written."""
    rows = database.rows(
        "SELECT TRIGGER_NAME AS name, EVENT_OBJECT_TABLE AS tbl, ACTION_TIMING AS timing, "
        "EVENT_MANIPULATION AS event,"
        " ACTION_STATEMENT AS body, DEFINER AS definer, SQL_MODE AS sql_mode, ACTION_ORDER AS action_order"
        " FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = %s AND EVENT_OBJECT_SCHEMA = %s",
        schema,
        schema,
    )
    triggers = {}
    for row in rows:
        body = _written_body(database, schema, row["name"]) if row["tbl"] == table else None
        triggers[row["name"]] = Trigger(
            schema,
            row["name"],
            row["tbl"],
            row["timing"].lower(),
            row["event"].lower(),
            row["body"] if body is None else body,
            row["definer"],
            row["sql_mode"] or "",
            int(row["action_order"]),
        )
    return triggers


def _written_body(database, schema, name):
    rows = database.rows(f"SHOW CREATE TRIGGER {qualified(schema, name)}")
    return body_of(rows[0]["sql original statement"] or "") if rows else None


def _follower(existing, triggers):
    """The trigger that fires next after an existing one."""
    after = [
        other
        for other in triggers.values()
        if (other.table, other.timing, other.event) == (existing.table, existing.timing, existing.event)
        and other.order > existing.order
    ]
    return min(after, key=lambda other: other.order).name if after else None


def step_for(database, triggers, wanted):
    """What has to be done so that a wanted trigger is there and no leftover of an interrupted run beside
    it.
    """
    existing = triggers.get(wanted.name)
    beside = triggers.get(beside_name(wanted.name))
    different = differences(existing, wanted) if existing else []
    if existing and not different:
        return Step(existing, existing, [drop_sql(beside.schema, beside.name)] if beside else [], [])
    follower = _follower(existing, triggers) if existing else None
    if follower and beside and follower == beside.name:
        follower = _follower(beside, triggers)
    beside_is_wanted = beside is not None and not differences(beside, wanted)
    return Step(
        existing,
        wanted,
        plan(
            database.engine,
            wanted,
            existing,
            beside=beside,
            beside_is_wanted=beside_is_wanted,
            follower=follower,
        ),
        different,
    )


def step_without(triggers, name):
    """What has to be done so that a trigger is gone, and a leftover of an interrupted run beside it too."""
    there = [triggers[each] for each in (name, beside_name(name)) if each in triggers]
    return Step(
        there[0] if there else None, None, [drop_sql(trigger.schema, trigger.name) for trigger in there], []
    )


def diff_of(steps):
    """Before and after as text, in the order of the triggers' names."""
    ordered = sorted(
        steps, key=lambda step: (step.existing or step.wanted).name if step.existing or step.wanted else ""
    )
    return {
        "before": "".join(show(step.existing) for step in ordered),
        "after": "".join(show(step.wanted) for step in ordered),
    }


def definer_problem(database, definer):
    """Why an account cannot be a definer; None when it exists, or when this login may not look."""
    user, host = split_account(definer)
    try:
        known = database.value("SELECT COUNT(*) FROM mysql.user WHERE User = %s AND Host = %s", user, host)
    except ServerError:
        return None
    if known:
        return None
    return (
        f"the definer '{user}'@'{host}' does not exist, and every write to the table would fail; "
        "create the account first"
    )


def _explain(error):
    if error.code == ER_BINLOG_CREATE_ROUTINE_NEED_SUPER:
        return (
            "the server writes a binary log and lets only privileged accounts create triggers: log in with "
            "an account that has SUPER"
            " (MySQL: SET_ANY_DEFINER is not enough), or set log_bin_trust_function_creators=1 on the "
            f"server ({error})"
        )
    if error.code == ER_SPECIFIC_ACCESS_DENIED:
        return f"the account that is logged in may not do that: {error}"
    return str(error)


def _go_on(database, lock, left):
    """Execute statements until one fails, and remove from the list what was done; the error of the one that
    failed, or None.

    lock: the statement that locks their table for the time, or None. Nothing waits for longer than one try
    while it is locked.
    """
    error = database.attempt(lock, patient=False) if lock else None
    locked = lock is not None and error is None
    # Without the lock, or the right to it, each statement is still safe by itself.
    if error is None or error.code in (
        ER_ACCESS_DENIED_DB,
        ER_TABLE_ACCESS_DENIED,
        ER_SPECIFIC_ACCESS_DENIED,
    ):
        error = None
        while left and error is None:
            error = database.attempt(left[0], patient=False)
            if error is None:
                del left[0]
    if locked:
        database.attempt("UNLOCK TABLES")
    return error


def apply(database, schema, table, steps, seconds, *, together=True):
    """Execute the steps of one table. seconds: how long locks are waited for. together: all of it under one
    lock, so that a lock that cannot be had leaves everything as it was. Raises StatementFailed.
    """
    statements = [statement for step in steps for statement in step.statements]
    left = list(statements)
    # Writers wait for a moment here; without the lock they would meet one trigger already new and another
    # still old.
    lock = f"LOCK TABLES {qualified(schema, table)} WRITE" if together else None
    error = None
    while left:
        database.patience.begin()
        error = _go_on(database, lock, left)
        # Each pause holds no lock, and each statement that was executed has left a state in which no change
        # is missed.
        if error is not None and (error.code != ER_LOCK_WAIT_TIMEOUT or not database.patience.pause()):
            break
    if not left:
        return
    done = len(statements) - len(left)
    so_far = (
        f"Executed before: {done} statement(s) of {len(statements)}; running this again finishes them."
        if done
        else "Nothing was changed."
    )
    if error.code == ER_LOCK_WAIT_TIMEOUT:
        raise StatementFailed(*lock_timeout_message(database, schema, table, seconds, so_far))
    raise StatementFailed(f"table {schema}.{table}: {_explain(error)}. {so_far}")
