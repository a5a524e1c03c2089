# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the lock that a statement waits for, and the message about it."""

from __future__ import annotations

import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    TRY_SECONDS,
    ServerError,
)


def _holders_by_metadata_lock(database, schema, table):
    if database.engine == "mysql":
        return database.rows(
            "SELECT t.PROCESSLIST_ID AS id, t.PROCESSLIST_USER AS user, t.PROCESSLIST_HOST AS host, "
            "t.PROCESSLIST_COMMAND AS command,"
            " t.PROCESSLIST_TIME AS time, t.PROCESSLIST_INFO AS statement"
            " FROM performance_schema.metadata_locks m JOIN performance_schema.threads t ON t.THREAD_ID = "
            "m.OWNER_THREAD_ID"
            # The last is a backup's lock, or FLUSH TABLES WITH READ LOCK.
            " WHERE ((m.OBJECT_TYPE = 'TABLE' AND m.OBJECT_SCHEMA = %s AND m.OBJECT_NAME = %s)"
            " OR (m.OBJECT_TYPE IN ('GLOBAL', 'BACKUP LOCK') AND m.LOCK_TYPE = 'SHARED')) AND m.LOCK_STATUS "
            "= 'GRANTED'"
            " AND t.PROCESSLIST_ID IS NOT NULL AND t.PROCESSLIST_ID <> CONNECTION_ID() ORDER BY time DESC",
            schema,
            table,
        )
    return database.rows(
        "SELECT p.ID AS id, p.USER AS user, p.HOST AS host, p.COMMAND AS command, p.TIME AS time, p.INFO AS "
        "statement"
        " FROM information_schema.METADATA_LOCK_INFO m JOIN information_schema.PROCESSLIST p ON p.ID = "
        "m.THREAD_ID"
        " WHERE m.TABLE_SCHEMA = %s AND m.TABLE_NAME = %s AND p.ID <> CONNECTION_ID() ORDER BY time DESC",
        schema,
        table,
    )


def _holders_by_transaction(database):
    return database.rows(
        "SELECT p.ID AS id, p.USER AS user, p.HOST AS host, p.COMMAND AS command, p.TIME AS time, p.INFO AS "
        "statement"
        " FROM information_schema.INNODB_TRX x JOIN information_schema.PROCESSLIST p ON p.ID = "
        "x.trx_mysql_thread_id"
        " WHERE p.ID <> CONNECTION_ID() ORDER BY x.trx_started"
    )


def blocking_connections(database, schema, table):
    """Who holds the table, as far as the server and our rights show it: (connections, whether it is
    certain that they hold it).
    """
    try:
        rows, certain = _holders_by_metadata_lock(database, schema, table), True
    except ServerError:
        # MariaDB without the plugin metadata_lock_info, or no right to look.
        try:
            rows, certain = _holders_by_transaction(database), False
        except ServerError:
            return [], False
    distinct = {}
    for row in rows:
        distinct.setdefault(row["id"], row)
    return list(distinct.values()), certain


def describe_connection(row):
    # Of its statement no more than the verb: the rest may hold data.
    verb = re.match(r"(?:/\*.*?\*/|\s|\()*([A-Za-z]{1,20})\b", (row["statement"] or "")[:200], re.DOTALL)
    doing = (
        f"runs {verb.group(1).upper() if verb else 'a statement'}"
        if row["statement"]
        else "is idle inside a transaction"
    )
    return (
        f"connection {row['id']} of {row['user']}@{row['host']} {doing} for {row['time']} s (command "
        f"{row['command']})"
    )


def lock_timeout_message(database, schema, table, seconds, done="Nothing was changed."):
    """The message for a table that could not be locked: (text, the numbers of the connections that hold
    it).
    """
    blocking, certain = blocking_connections(database, schema, table)
    holders = "; ".join(describe_connection(row) for row in blocking)
    if blocking and certain:
        who = f"It is held by {holders}"
    elif blocking:
        who = (
            "Which connection holds it cannot be seen (MariaDB shows it after INSTALL SONAME "
            f"'metadata_lock_info'); open transactions: {holders}"
        )
    else:
        who = (
            "Who holds it cannot be seen with the rights of this account (PROCESS, and SELECT on "
            "performance_schema)"
        )
    text = (
        f"table {schema}.{table}: no lock within lock_wait_timeout={seconds} s in tries of {TRY_SECONDS} s, "
        "because a transaction or statement that uses"
        f" the table was open at each of them. {who}. Wait for it, end it (KILL, with the connection's "
        "number), or raise lock_wait_timeout; then run this"
        f" again. {done}"
    )
    return text, [row["id"] for row in blocking]
