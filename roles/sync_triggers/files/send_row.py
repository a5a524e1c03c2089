# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Send a row through the database server as its trigger would, and wait for the worker. Asked and answered in
JSON.

One connection holds the row's lock while another one has the job done: a later change of the row is sent
after this one is done, and so overtakes nothing. But it waits LOCKED seconds at most, whatever job servers
and workers do. When the job takes longer, `overtaken` is whether the row was another one by then: what the
job wrote may be older than what the change wrote, and the row has to be sent once more.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import pymysql

LOCKED = 0.8


def connect(login):
    config = os.path.expanduser(login.pop("config_file", "~/.my.cnf"))
    if os.path.exists(config):
        login.update(read_default_file=config, read_default_group="client")
    return pymysql.connect(charset="utf8mb4", autocommit=True, **login)


def payload_of(connection, asked, lock=""):
    """What the trigger would send for the first row; None for an empty table."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_mode = %s, innodb_lock_wait_timeout = 5", (asked["sql_mode"],))
        # The SQL of which sync_table makes the trigger, and a name that the role has quoted.
        statement = "SELECT {} FROM {} AS gearsync_row LIMIT 1{}"
        cursor.execute(statement.format(asked["payload_sql"], asked["table_sql"], lock))
        row = cursor.fetchone()
    return row[0] if row else None


def send(connection, asked, payload, outcome):
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT gman_do(%s, %s)", (asked["function"], payload))
            outcome["answer"] = cursor.fetchone()[0]
    except pymysql.MySQLError as error:
        outcome["problem"] = str(error)


def text(value):
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def main():
    asked = json.load(sys.stdin)
    holder, sender = connect(dict(asked["login"])), connect(dict(asked["login"]))
    outcome = {"answer": None, "overtaken": False}
    holder.begin()
    payload = payload_of(holder, asked, " FOR UPDATE")
    if payload is None:
        outcome["problem"] = "the table is empty now"
    else:
        sending = threading.Thread(target=send, args=(sender, asked, payload, outcome))
        sending.start()
        sending.join(LOCKED)
        # Asked while the row is still locked: a job that ends just after the release may have been overtaken
        # too.
        late = sending.is_alive()
        holder.rollback()
        if late:
            sending.join()
            outcome["overtaken"] = payload_of(holder, asked) != payload
    json.dump({key: text(value) for key, value in {**outcome, "payload": payload}.items()}, sys.stdout)


try:
    main()
except pymysql.MySQLError as error:
    sys.exit(str(error))
