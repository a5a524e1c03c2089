# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the server knows about a table that is to be synced."""

from __future__ import annotations

import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import ServerError, qualified


def find_table(database, schema, table):
    """(schema and name as the server writes them, type, engine), or None. The server decides whether case
    matters.
    """
    rows = database.rows(
        "SELECT TABLE_SCHEMA AS s, TABLE_NAME AS t, TABLE_TYPE AS type, ENGINE AS engine FROM "
        "information_schema.TABLES"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
        schema,
        table,
    )
    exact = [row for row in rows if (row["s"], row["t"]) == (schema, table)]
    if not exact and int(database.value("SELECT @@lower_case_table_names")) != 0:
        exact = rows
    return exact[0] if exact else None


def schema_exists(database, schema):
    return bool(
        database.rows("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = %s", schema)
    )


def _json_checked(database, schema, table):
    """MariaDB's JSON is LONGTEXT with a check; the columns that have it."""
    if database.engine != "mariadb":
        return set()
    rows = database.rows(
        "SELECT CHECK_CLAUSE AS clause FROM information_schema.CHECK_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = "
        "%s AND TABLE_NAME = %s",
        schema,
        table,
    )
    names = set()
    for row in rows:
        match = re.match(r"json_valid\(`((?:[^`]|``)+)`\)$", row["clause"].strip(), re.IGNORECASE)
        if match:
            names.add(match.group(1).replace("``", "`"))
    return names


def read_columns(database, schema, table):
    checked = _json_checked(database, schema, table)
    rows = database.rows(
        "SELECT COLUMN_NAME AS name, DATA_TYPE AS data_type, COLUMN_TYPE AS column_type, COLLATION_NAME AS "
        "collation,"
        " DATETIME_PRECISION AS prec, IS_NULLABLE AS nullable FROM information_schema.COLUMNS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION",
        schema,
        table,
    )
    return [
        {
            "name": row["name"],
            "data_type": _text(row["data_type"]),
            "column_type": _text(row["column_type"]),
            "collation": row["collation"],
            "precision": row["prec"],
            "nullable": row["nullable"] == "YES",
            "is_json": _text(row["data_type"]).lower() == "json" or row["name"] in checked,
        }
        for row in rows
    ]


def _text(value):
    """MySQL 8 and later give some columns of information_schema as bytes to some clients."""
    return value.decode("utf-8") if isinstance(value, bytes) else value


def read_unique_keys(database, schema, table, columns):
    """The column lists of the keys that identify a row: PRIMARY, and UNIQUE of columns that cannot be
    NULL.
    """
    required = {column["name"] for column in columns if not column["nullable"]}
    # The end of a row's validity, which system versioning adds to every key, is the same for all rows that
    # are there.
    ends = {
        row["name"]
        for row in database.rows(
            "SELECT COLUMN_NAME AS name FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND "
            "TABLE_NAME = %s AND GENERATION_EXPRESSION = 'ROW END'",
            schema,
            table,
        )
    }
    keys = {}
    for row in database.rows(
        "SELECT INDEX_NAME AS name, COLUMN_NAME AS col FROM information_schema.STATISTICS"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND NON_UNIQUE = 0 ORDER BY INDEX_NAME, SEQ_IN_INDEX",
        schema,
        table,
    ):
        if row["col"] not in ends:
            keys.setdefault(row["name"], []).append(row["col"])
    # A part that is an expression has no column name and is in no set.
    usable = {name: key for name, key in keys.items() if required.issuperset(key)}
    return [usable[name] for name in sorted(usable, key=lambda name: (name != "PRIMARY", name))]


def read_refusable(database, schema, table, columns):
    """The names of columns whose change the server may refuse: those of unique and foreign keys.

    UPDATE IGNORE continues after such a refusal, and MariaDB fires the AFTER UPDATE trigger for the row that
    it has left as it was.
    """
    unique = [
        row["col"]
        for row in database.rows(
            "SELECT COLUMN_NAME AS col FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = %s AND "
            "TABLE_NAME = %s AND NON_UNIQUE = 0",
            schema,
            table,
        )
    ]
    if None in unique:
        # A key of an expression, of whatever columns.
        return {column["name"] for column in columns}
    child = database.rows(
        "SELECT COLUMN_NAME AS col FROM information_schema.KEY_COLUMN_USAGE"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND REFERENCED_TABLE_NAME IS NOT NULL",
        schema,
        table,
    )
    parent = database.rows(
        "SELECT REFERENCED_COLUMN_NAME AS col FROM information_schema.KEY_COLUMN_USAGE"
        " WHERE REFERENCED_TABLE_SCHEMA = %s AND REFERENCED_TABLE_NAME = %s",
        schema,
        table,
    )
    return set(unique) | {row["col"] for row in [*child, *parent]}


def read_facts(database, schema, table):
    columns = read_columns(database, schema, table)
    return {
        "name": table,
        "columns": columns,
        "unique_keys": read_unique_keys(database, schema, table, columns),
        "refusable": read_refusable(database, schema, table, columns),
        "period": _has_period(database, schema, table),
    }


def _has_period(database, schema, table):
    """Whether a table has an application-time period. Before MariaDB 11.4 information_schema does not
    name them.
    """
    if database.engine != "mariadb":
        return False
    statement = database.rows(f"SHOW CREATE TABLE {qualified(schema, table)}")[0]["create table"]
    return re.search(r"^  PERIOD FOR `", statement, re.MULTILINE) is not None


def has_transactions(database, engine):
    """Whether an engine keeps transactions; unknown ones are believed to."""
    return database.value(
        "SELECT TRANSACTIONS FROM information_schema.ENGINES WHERE ENGINE = %s", engine or ""
    ) in (None, "YES")


def _cascade_triggers(database):
    """ON or OFF: whether rows that a foreign key changes fire triggers. None on servers that cannot do
    that, those before MySQL 9.7 and MariaDB.
    """
    try:
        # The storage engine's own foreign keys know of no triggers.
        return (
            database.variable("enable_cascade_triggers")
            if database.variable("innodb_native_foreign_keys") == "OFF"
            else None
        )
    except ServerError:
        return None


def _foreign_keys(database, schema, table, columns):
    """The foreign keys of a table, each with whether one of columns gets another value when it changes a
    row.
    """
    generated = {
        row["name"]
        for row in database.rows(
            "SELECT COLUMN_NAME AS name FROM information_schema.COLUMNS"
            " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND GENERATION_EXPRESSION <> ''",
            schema,
            table,
        )
    }
    own = {}
    for row in database.rows(
        "SELECT CONSTRAINT_NAME AS name, COLUMN_NAME AS col FROM information_schema.KEY_COLUMN_USAGE"
        " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND REFERENCED_TABLE_NAME IS NOT NULL",
        schema,
        table,
    ):
        own.setdefault(row["name"], set()).add(row["col"])
    for row in database.rows(
        "SELECT CONSTRAINT_NAME AS name, REFERENCED_TABLE_NAME AS parent, DELETE_RULE AS on_delete, "
        "UPDATE_RULE AS on_update"
        " FROM information_schema.REFERENTIAL_CONSTRAINTS WHERE CONSTRAINT_SCHEMA = %s AND TABLE_NAME = %s "
        "ORDER BY CONSTRAINT_NAME",
        schema,
        table,
    ):
        # A generated column may be made of any other one.
        yield (
            row,
            bool(generated.intersection(columns)) or bool(own.get(row["name"], set()).intersection(columns)),
        )


def blind_spots(database, schema, table, engine, columns):
    """What the triggers of a table will not see of its columns, which are named as the table does, as
    sentences.
    """
    warnings = []
    cascade_triggers = _cascade_triggers(database)
    hint = "" if cascade_triggers is None else "; SET PERSIST enable_cascade_triggers = ON lets it see them"
    for row, is_sent in _foreign_keys(database, schema, table, columns):
        for event, rule in (("DELETE", row["on_delete"]), ("UPDATE", row["on_update"])):
            is_stale = (event, rule) == ("DELETE", "CASCADE") or (
                is_sent and rule in ("CASCADE", "SET NULL", "SET DEFAULT")
            )
            if is_stale and cascade_triggers != "ON":
                warnings.append(
                    f"foreign key {row['name']}: rows that it changes because of ON {event} {rule} when "
                    f"{row['parent']} changes fire no trigger, so Redis keeps their old state{hint}"
                )
    if not has_transactions(database, engine):
        warnings.append(
            f"engine {engine} has no transactions: a statement that fails half way keeps the rows it had "
            "changed"
        )
    if database.rows(
        "SELECT 1 AS one FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s AND "
        "PARTITION_NAME IS NOT NULL LIMIT 1",
        schema,
        table,
    ):
        warnings.append(
            "it has partitions: ALTER TABLE ... DROP PARTITION, TRUNCATE PARTITION and EXCHANGE PARTITION "
            "fire no trigger, so Redis keeps"
            " the rows that they take away"
        )
    try:
        if database.variable("log_bin") == "ON" and database.variable("binlog_format") == "STATEMENT":
            warnings.append(
                "binlog_format=STATEMENT: replicas execute the triggers again and send each change once "
                "more; use ROW or MIXED"
            )
    except ServerError:
        pass  # no right to see variables: nothing to warn of that we could know
    return warnings


def registered_functions(database):
    """The loadable functions that are registered in the server, by name in lower case; None when this
    login may not see them.
    """
    try:
        rows = database.rows("SELECT name, ret, dl, type FROM mysql.func")
    except ServerError:
        return None
    return {
        _text(row["name"]).lower(): {
            "name": _text(row["name"]),
            "ret": int(row["ret"]),
            "dl": _text(row["dl"]),
            "type": _text(row["type"]),
        }
        for row in rows
    }
