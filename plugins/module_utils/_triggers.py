# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triggers: their names, how they are compared, and the statements that put them in place. No I/O here."""

from __future__ import annotations

import collections
import hashlib
import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    qualified,
    quote,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_bodies import (
    direct_body,
    match,
)

# What a server allows in a name, in characters.
MAX_NAME = 64
EVENT_CODES = {"insert": "ai", "update": "au", "delete": "ad"}
ORDER = ("delete", "update", "insert")
OWN_NAME = re.compile(r"gearsync_a[iud]_.", re.DOTALL)
# A trigger that is being replaced on MySQL stands under its name with this for a moment.
BESIDE = "__new"

# body: as it was written. definer: 'user@host' or None for the account that is logged in. sql_mode: as the
# server spells it. order: place among triggers of the same timing and event; 0 for a wanted one.
Trigger = collections.namedtuple("Trigger", "schema name table timing event body definer sql_mode order")


def shorten(name, suffix=""):
    """A name within the server's limit: what is longer ends in a hash of the whole."""
    if len(name + suffix) <= MAX_NAME:
        return name + suffix
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:8]
    return f"{name[: MAX_NAME - len(suffix) - 9]}_{digest}{suffix}"


def trigger_name(table, event):
    return shorten(f"gearsync_{EVENT_CODES[event]}_{table}")


def beside_name(name):
    return shorten(name, BESIDE)


def wanted_triggers(schema, declaration, facts, definer, sql_mode, *, body=None):
    """The triggers that a declaration asks for, in the order in which they are to be made: those first that
    remove what the others have written.

    Then nothing is written under a new declaration that a trigger of the former one would have to remove,
    which does not send the old value. facts: the table's name, columns and unique keys. body: what gives the
    body for an event; that of direct delivery when it is left out.
    """
    if body is None:
        columns, _real = match(declaration, facts)

        def body(event):
            return direct_body(declaration, columns, event)

    return [
        Trigger(
            schema,
            trigger_name(facts["name"], event),
            facts["name"],
            "after",
            event,
            body(event),
            definer,
            sql_mode,
            0,
        )
        for event in sorted(declaration["events"], key=ORDER.index)
    ]


def checksum(body):
    """What a worker compares a trigger's body with."""
    return hashlib.sha256(clean_body(body).encode("utf-8")).hexdigest()


def clean_body(text):
    """A body as it is compared: servers keep it as written, clients add or drop what stands around it."""
    return text.strip().rstrip(";").rstrip()


# What stands before the body in SHOW CREATE TRIGGER. Names in quotes are skipped as a whole: they may hold
# anything.
HEADER = re.compile(
    r"""(?: `(?:[^`]|``)*` | '(?:[^'\\]|\\.|'')*' | "[^"]*" | [^`'"] )*?
    \bFOR\s+EACH\s+ROW\b \s*
    (?: (?:FOLLOWS|PRECEDES) \s+ (?: `(?:[^`]|``)*` | [^\s`]+ ) \s* )?""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)


def body_of(statement):
    """The body in what SHOW CREATE TRIGGER shows, which is as it was written. information_schema's is not:
    quotes and backslashes that stand doubled in a text are single there, and 4-byte characters are question
    marks.
    """
    header = HEADER.match(statement)
    return statement[header.end() :] if header else None


def same_modes(one, other):
    return set(filter(None, one.upper().split(","))) == set(filter(None, other.upper().split(",")))


def same_account(one, other):
    """Accounts as 'user@host'; only the host is compared without regard to case."""
    if one is None or other is None:
        return one == other
    return (
        one.rpartition("@")[0] == other.rpartition("@")[0]
        and one.rpartition("@")[2].lower() == other.rpartition("@")[2].lower()
    )


def differences(existing, wanted):
    """Which properties of an existing trigger are not as wanted. A wanted definer of None takes any."""
    parts = []
    if (existing.timing, existing.event) != (wanted.timing, wanted.event):
        parts.append("event")
    if clean_body(existing.body) != clean_body(wanted.body):
        parts.append("body")
    if wanted.definer is not None and not same_account(existing.definer, wanted.definer):
        parts.append("definer")
    if not same_modes(existing.sql_mode, wanted.sql_mode):
        parts.append("sql_mode")
    return parts


def _account(definer):
    if definer is None:
        return "CURRENT_USER"
    user, _at, host = definer.rpartition("@")
    return "{}@{}".format(quote(user) if user else "``", quote(host))


def create_sql(trigger, name=None, replace=False, precedes=None):
    return "CREATE {}DEFINER={} TRIGGER {} {} {} ON {} FOR EACH ROW {}{}".format(
        "OR REPLACE " if replace else "",
        _account(trigger.definer),
        qualified(trigger.schema, name or trigger.name),
        trigger.timing.upper(),
        trigger.event.upper(),
        qualified(trigger.schema, trigger.table),
        f"PRECEDES {quote(precedes)} " if precedes else "",
        clean_body(trigger.body),
    )


def drop_sql(schema, name):
    return f"DROP TRIGGER {qualified(schema, name)}"


def show(trigger):
    """A trigger as diffs show it."""
    if trigger is None:
        return ""
    return f"-- sql_mode: {trigger.sql_mode}\n{create_sql(trigger)};\n"


def plan(engine, wanted, existing, *, beside, beside_is_wanted, follower):
    """The statements that put a trigger in place without a moment in which there is none.

    existing, beside: what stands under the name and under beside_name, or None. beside_is_wanted: what stands
    beside is the wanted trigger, left by a run that was interrupted. follower: the name of the next trigger
    of the same timing and event, whose place the order keeps.
    """
    schema, name, spare = wanted.schema, wanted.name, beside_name(wanted.name)
    drop_beside = [drop_sql(schema, spare)] if beside else []
    same_slot = existing is not None and (existing.timing, existing.event) == (wanted.timing, wanted.event)
    if existing is None:
        # What an interrupted run has left beside serves until ours is there.
        return [create_sql(wanted), *drop_beside]
    if engine == "mariadb":
        return [create_sql(wanted, replace=True, precedes=follower if same_slot else None), *drop_beside]
    statements = []
    if beside and not beside_is_wanted:
        statements += drop_beside
    if not (beside and beside_is_wanted):
        statements.append(create_sql(wanted, name=spare, precedes=name if same_slot else None))
    return [*statements, drop_sql(schema, name), create_sql(wanted, precedes=spare), drop_sql(schema, spare)]
