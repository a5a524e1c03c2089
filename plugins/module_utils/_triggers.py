# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From facts about a table and its declaration to the SQL of its triggers. No I/O here."""

from __future__ import annotations

import collections
import hashlib
import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declaration import (
    match_columns,
    old_columns,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    literal,
    qualified,
    quote,
)

# What a server allows in a name, in characters.
MAX_NAME = 64
EVENT_CODES = {"insert": "ai", "update": "au", "delete": "ad"}
OWN_NAME = re.compile(r"gearsync_a[iud]_.", re.DOTALL)
# A trigger that is being replaced on MySQL stands under its name with this for a moment.
BESIDE = "__new"

# body: as it was written. definer: 'user@host' or None for the account that is logged in.
# sql_mode: as the server spells it. order: place among triggers of the same timing and event; 0 for a wanted one.
Trigger = collections.namedtuple("Trigger", "schema name table timing event body definer sql_mode order")

INTEGER_TYPES = ("tinyint", "smallint", "mediumint", "int", "integer", "bigint")
FLOAT_TYPES = ("float", "double", "real")
BINARY_TYPES = ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob")
SPATIAL_TYPES = ("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
                 "geometrycollection", "geomcollection")
# Types whose bytes are no text and that do not compare as bytes by themselves.
OPAQUE_TYPES = (*SPATIAL_TYPES, "vector")
# What is not text, by the server's name of the type.
KINDS = {
    **dict.fromkeys(INTEGER_TYPES, "integer"),
    **dict.fromkeys(("decimal", "numeric"), "decimal"),
    **dict.fromkeys(FLOAT_TYPES, "float"),
    **dict.fromkeys(BINARY_TYPES + OPAQUE_TYPES, "binary"),
    "bit": "bit",
    "timestamp": "timestamp",
}


def shorten(name, suffix=""):
    """A name within the server's limit: what is longer ends in a hash of the whole."""
    if len(name + suffix) <= MAX_NAME:
        return name + suffix
    digest = hashlib.sha256(name.encode("utf-8")).hexdigest()[:8]
    return f"{name[:MAX_NAME - len(suffix) - 9]}_{digest}{suffix}"


def trigger_name(table, event):
    return shorten(f"gearsync_{EVENT_CODES[event]}_{table}")


def beside_name(name):
    return shorten(name, BESIDE)


def column_kind(column):
    """How a column's value travels: integer, decimal, bit, float, text, timestamp, binary or json.

    column: dict with data_type, column_type, collation (None unless text), is_json (a JSON column, or MariaDB's check of one).
    """
    data_type = column["data_type"].lower()
    if "zerofill" in column["column_type"].lower():
        return "text"
    if column["is_json"]:
        return "json"
    if column["collation"] == "binary":
        return "binary"
    # Else text, ENUM, SET, dates and times, and MariaDB's UUID, INET4 and INET6: what a SELECT shows.
    return KINDS.get(data_type, "text")


def _text(value):
    return f"CAST({value} AS CHAR CHARACTER SET utf8mb4)"


def _utc(value, precision):
    """A TIMESTAMP's text in UTC whatever the session's zone, without named zones. The zero date has no such moment."""
    cast = f"DATETIME({precision})" if precision else "DATETIME"
    moment = f"CAST('1970-01-01 00:00:00' AS {cast}) + INTERVAL UNIX_TIMESTAMP({value}) SECOND"
    # Inside a trigger UNIX_TIMESTAMP of the zero date is 0 on MySQL and NULL on MariaDB.
    return f"IF(COALESCE(UNIX_TIMESTAMP({value}), 0) = 0, {_text(value)}, {_text(moment)})"


def value_expression(column, row):
    """The SQL that gives one value of the payload; row is NEW or OLD."""
    value = f"{row}.{quote(column['name'])}"
    return {
        "integer": value,
        "decimal": value,
        "bit": f"{value} + 0",
        "float": f"JSON_OBJECT('$num', {_text(value)})",
        "text": _text(value),
        "timestamp": _utc(value, column["precision"] or 0),
        "binary": f"JSON_OBJECT('$hex', HEX({value}))",
        "json": f"JSON_OBJECT('$json', {_text(value)})",
    }[column_kind(column)]


def _comparable(column, row):
    """A column's value in a form in which values are equal only when they are so byte for byte."""
    value, kind = f"{row}.{quote(column['name'])}", column_kind(column)
    if kind == "timestamp":
        # The hour that is shown twice when summer time ends: equal as text, not as moments. The zero date is no moment for MariaDB.
        return f"COALESCE(UNIX_TIMESTAMP({value}), {_text(value)})"
    if kind == "json":
        return f"CAST({_text(value)} AS BINARY)"
    if column["data_type"].lower() in OPAQUE_TYPES:
        return f"HEX({value})"
    if column["collation"]:
        # 'a' and 'A', and 'a' and 'a ', are equal for most collations.
        return f"CAST({value} AS BINARY)"
    return value


def same_expression(column):
    """The SQL that is true when an UPDATE has left a column as it was."""
    return f"{_comparable(column, 'NEW')} <=> {_comparable(column, 'OLD')}"


def _row_object(columns, row):
    return "JSON_OBJECT({})".format(", ".join(f"{literal(name)}, {value_expression(column, row)}" for name, column in columns))


def direct_body(declaration, columns, event):
    """The body of a trigger that hands the change to Gearman itself.

    columns: what the table has, by declared name. No error of ours may reach the write, and no user variable is used.
    """
    new = [(name, columns[name]) for name in declaration["columns"]]
    old = [(name, columns[name]) for name in old_columns(declaration)]
    members = ["'$gearsync', 1", "'table', {}".format(literal(declaration["table"])), f"'event', '{event}'"]
    if event != "delete":
        members.append("'new', {}".format(_row_object(new, "NEW")))
    if event != "insert":
        members.append("'old', {}".format(_row_object(old, "OLD")))
    send = [
        f"SET payload = JSON_OBJECT({', '.join(members)});",
        # A change too large for the server to put into words is not sent at all.
        f"IF payload IS NOT NULL THEN DO gman_do_background({literal(declaration['function'])}, payload); END IF;",
    ]
    if event == "update":
        send = [f"IF NOT ({' AND '.join(same_expression(column) for _name, column in new)}) THEN", *(f"  {line}" for line in send), "END IF;"]
    return "\n".join([
        "BEGIN",
        "  DECLARE payload LONGTEXT CHARACTER SET utf8mb4 DEFAULT NULL;",
        "  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;",
        *(f"  {line}" for line in send),
        "END",
    ])


BODIES = {"direct": direct_body}


def wanted_triggers(schema, declaration, facts, definer, sql_mode):
    """The triggers that a declaration asks for, in the order of its events. facts: the table's name and columns."""
    by_name = {column["name"]: column for column in facts["columns"]}
    real, _missing = match_columns(declaration["columns"], list(by_name))
    columns = {name: by_name[real[name]] for name in declaration["columns"]}
    body = BODIES[declaration["delivery"]]
    return [
        Trigger(schema, trigger_name(facts["name"], event), facts["name"], "after", event, body(declaration, columns, event), definer, sql_mode, 0)
        for event in declaration["events"]
    ]


def clean_body(text):
    """A body as it is compared: servers keep it as written, clients add or drop what stands around it."""
    return text.strip().rstrip(";").rstrip()


# What stands before the body in SHOW CREATE TRIGGER. Names in quotes are skipped as a whole: they may hold anything.
HEADER = re.compile(
    r"""(?: `(?:[^`]|``)*` | '(?:[^'\\]|\\.|'')*' | "[^"]*" | [^`'"] )*?
    \bFOR\s+EACH\s+ROW\b \s*
    (?: (?:FOLLOWS|PRECEDES) \s+ (?: `(?:[^`]|``)*` | [^\s`]+ ) \s* )?""",
    re.IGNORECASE | re.DOTALL | re.VERBOSE)


def body_of(statement):
    """The body in what SHOW CREATE TRIGGER shows, which is as it was written. information_schema's is not: quotes and backslashes
    that stand doubled in a text are single there, and 4-byte characters are question marks."""
    header = HEADER.match(statement)
    return statement[header.end():] if header else None


def same_modes(one, other):
    return set(filter(None, one.upper().split(","))) == set(filter(None, other.upper().split(",")))


def same_account(one, other):
    """Accounts as 'user@host'; only the host is compared without regard to case."""
    if one is None or other is None:
        return one == other
    return one.rpartition("@")[0] == other.rpartition("@")[0] and one.rpartition("@")[2].lower() == other.rpartition("@")[2].lower()


def differences(existing, wanted):
    """Which properties of an existing trigger are not as wanted. A wanted definer of None takes any."""
    found = []
    if (existing.timing, existing.event) != (wanted.timing, wanted.event):
        found.append("event")
    if clean_body(existing.body) != clean_body(wanted.body):
        found.append("body")
    if wanted.definer is not None and not same_account(existing.definer, wanted.definer):
        found.append("definer")
    if not same_modes(existing.sql_mode, wanted.sql_mode):
        found.append("sql_mode")
    return found


def _account(definer):
    if definer is None:
        return "CURRENT_USER"
    user, _at, host = definer.rpartition("@")
    return "{}@{}".format(quote(user) if user else "``", quote(host))


def create_sql(trigger, name=None, replace=False, precedes=None):
    return "CREATE {}DEFINER={} TRIGGER {} {} {} ON {} FOR EACH ROW {}{}".format(
        "OR REPLACE " if replace else "", _account(trigger.definer), qualified(trigger.schema, name or trigger.name),
        trigger.timing.upper(), trigger.event.upper(), qualified(trigger.schema, trigger.table),
        f"PRECEDES {quote(precedes)} " if precedes else "", clean_body(trigger.body))


def drop_sql(schema, name):
    return f"DROP TRIGGER {qualified(schema, name)}"


def show(trigger):
    """A trigger as diffs show it."""
    if trigger is None:
        return ""
    return f"-- sql_mode: {trigger.sql_mode}\n{create_sql(trigger)};\n"


def plan(engine, wanted, existing, *, beside, beside_is_wanted, follower):
    """The statements that put a trigger in place without a moment in which there is none.

    existing, beside: what stands under the name and under beside_name, or None. beside_is_wanted: what stands beside is the wanted
    trigger, left by a run that was interrupted. follower: the name of the next trigger of the same timing and event, whose place the order keeps.
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
