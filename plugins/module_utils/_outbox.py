# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema of durable delivery: its version, its leases, and the synced tables in it."""

from __future__ import annotations

import collections
import json
import math
import zlib

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._migrations import (
    FORMER_GENERATIONS,
    MIGRATIONS,
    OPTIONS,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ServerError,
    literal,
)

SCHEMA = "gearsync"
MAX_SHARD = 65535
# A row's columns that cannot be large have 65,535 bytes at most, each of which may become six in JSON, and an
# update has two rows: 786,420 bytes. Beside them those that can be large may have an eighth of the packet in
# all, which is six eighths of it in JSON. So a quarter must be enough for the former.
SMALLEST_PACKET = 4 << 20
OUTBOX = "`gearsync`.`outbox`"

VERSION = len(MIGRATIONS)
# The version from which on declarations have numbers.
NUMBERED = 6
_SPREAD = 10_000

# What workers need to know of a synced table beside their own configuration, in the columns' order.
SyncedTable = collections.namedtuple(
    "SyncedTable",
    "table_name source_schema source_table shards key_columns shard_sql row_sql old_sql large_sql small_sql "
    "large_columns triggers number"
    " generations column_types",
)
_NUMBERS = ("shards", "number")


class SchemaError(Exception):
    """The schema cannot be used; the message is why and what to do."""


def first_shard(shards):
    """The number of the first of so many shards. The shards of different counts are never the same."""
    return shards * (shards - 1) // 2


def generation_of(shard):
    """The count that a shard's number is of: its generation."""
    return (math.isqrt(8 * shard + 1) + 1) // 2


def generations_of(synced):
    """The generations into which the triggers of a SyncedTable may write, with the SQL of a row's shard
    in each.
    """
    return {int(generation): sql for generation, sql in json.loads(synced.generations).items()}


def choose_generation(shards, known, shard_sql, waiting):
    """The generation whose numbers a table's shards get, so that no number ever stands for two ways to divide
    the table's rows.

    Workers keep the order of a table's changes in shards of different generations. When the count is the
    same, but rows are divided by other columns than before, the changes that still wait need other numbers
    than the new ones, and those of a greater generation serve. known: the SyncedTable until now, or None.
    shard_sql: gives the SQL of a row's shard in a generation. waiting: gives the generations in whose shards
    changes of the table are; it is asked at most once.
    """
    # Several when a run was interrupted: some of the triggers may be those that it made.
    former = generations_of(known) if known else {}
    for generation, sql in former.items():
        if generation >= shards and shard_sql(generation) == sql:
            return generation
    used = former.keys() | waiting()
    for generation in range(shards, generation_of(MAX_SHARD - shards + 1) + 1):
        if first_shard(generation) + shards - 1 <= MAX_SHARD and generation not in used:
            return generation
    raise SchemaError(
        "changes of the table wait in the shards of all generations; let the workers apply them before the "
        "table is divided anew"
    )


def migration_statements(version):
    """What brings the schema from a version to this one; version 0 is a server without it."""
    if version > VERSION:
        raise SchemaError(
            f"the schema {SCHEMA} is of version {version}, made by a later release of the collection;"
            f" this one knows {VERSION}. Upgrade the collection"
        )
    if version == VERSION:
        return []
    statements = (
        [
            f"CREATE DATABASE IF NOT EXISTS `{SCHEMA}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            (
                f"CREATE TABLE IF NOT EXISTS `{SCHEMA}`.`schema_version` (`version` SMALLINT UNSIGNED "
                "NOT NULL, "
                f"PRIMARY KEY (`version`)) {OPTIONS}"
            ),
        ]
        if version == 0
        else []
    )
    for number in range(version, VERSION):
        statements += MIGRATIONS[number]
        # One row for each version that was reached: nothing is lost when it stops between two statements.
        statements.append(f"INSERT IGNORE INTO `{SCHEMA}`.`schema_version` (`version`) VALUES ({number + 1})")
    return statements


def known_shards(database, version):
    """The shards that have a lease."""
    return (
        {int(row["shard"]) for row in database.rows(f"SELECT shard FROM `{SCHEMA}`.lease")}
        if version
        else set()
    )


def lease_statements(database, shards, version, generation=None):
    """What makes the leases of a count of shards that are not there yet, so that workers know of them before
    the first change.

    generation: the count whose numbers they have; their own when it is left out.
    """
    first = first_shard(generation or shards)
    wanted = set(range(first, first + shards))
    values = ", ".join(f"({shard})" for shard in sorted(wanted - known_shards(database, version)))
    return [f"INSERT IGNORE INTO `{SCHEMA}`.`lease` (`shard`) VALUES {values}"] if values else []


def read_version(database):
    """The schema's version, 0 on a server without it."""
    known = database.value(
        "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = "
        "'schema_version'",
        SCHEMA,
    )
    if not known:
        foreign = database.value(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s", SCHEMA
        )
        if foreign:
            raise SchemaError(
                f"there is a schema {SCHEMA} that this collection has not made: it has {foreign} table(s) "
                "and no schema_version; rename it first"
            )
        return 0
    return int(database.value(f"SELECT COALESCE(MAX(version), 0) FROM `{SCHEMA}`.schema_version"))


def read_synced(database, schema, table, version):
    """What the schema holds of a table, by the declared names under which it is there."""
    if not version:
        return {}
    # A schema of an earlier version, or one whose migration was interrupted, lacks some columns or their
    # values.
    rows = database.rows(
        f"SELECT synced_table.*, {FORMER_GENERATIONS} AS former_generations FROM `{SCHEMA}`.synced_table "
        "WHERE source_schema = %s AND source_table = %s",
        schema,
        table,
    )
    tables = {}
    for row in rows:
        row["generations"] = row.get("generations") or row["former_generations"]
        tables[_text(row["table_name"])] = SyncedTable(
            **{
                name: int(row.get(name, 0)) if name in _NUMBERS else _text(row.get(name) or "")
                for name in SyncedTable._fields
            }
        )
    return tables


def waiting_generations(database, table_name, version):
    """The generations in whose shards changes of a table wait. No index has the table's name: the outbox
    is read once, without a lock.
    """
    rows = (
        database.rows(f"SELECT DISTINCT shard FROM `{SCHEMA}`.outbox WHERE table_name = %s", table_name)
        if version
        else []
    )
    return {generation_of(int(row["shard"])) for row in rows}


def _text(value):
    return value.decode("utf-8") if isinstance(value, bytes) else value


def save_statement(synced):
    """The statement that stores a SyncedTable."""
    values = [
        str(value) if name in _NUMBERS else literal(value) for name, value in zip(SyncedTable._fields, synced)
    ]
    names = ", ".join(f"`{name}`" for name in SyncedTable._fields)
    updates = ", ".join(f"`{name}` = VALUES(`{name}`)" for name in SyncedTable._fields[1:])
    return (
        f"INSERT INTO `{SCHEMA}`.`synced_table` ({names}) VALUES ({', '.join(values)}) ON DUPLICATE "
        f"KEY UPDATE {updates}"
    )


# The record of the triggers of a table that has none any more, while changes that they have made may still
# have to be read.
NO_TRIGGERS = "{}"


def is_needed(database, table_name):
    """Whether a change that waits, or a dead letter, is of a table."""
    return any(
        database.rows(f"SELECT 1 AS one FROM `{SCHEMA}`.`{name}` WHERE table_name = %s LIMIT 1", table_name)
        for name in ("outbox", "dead_letter")
    )


def number_of(database, table_name, content, version):
    """The number that a declaration has, or gets when it is not the newest one of the table: (number, the
    statements that write it down).
    """
    rows = (
        database.rows(
            f"SELECT number, content FROM `{SCHEMA}`.numbered_declaration WHERE table_name = %s ORDER BY "
            "number DESC LIMIT 1",
            table_name,
        )
        if version >= NUMBERED
        else []
    )
    if rows and _text(rows[0]["content"]) == content:
        return int(rows[0]["number"]), []
    # Its end is of the content, so that triggers that came with a dump from another server do not name
    # another declaration of this one.
    number = (int(rows[0]["number"]) // _SPREAD + 1 if rows else 1) * _SPREAD + zlib.crc32(
        content.encode("utf-8")
    ) % _SPREAD
    values = f"{literal(table_name)}, {number}, {literal(content)}"
    return number, [
        f"INSERT INTO `{SCHEMA}`.`numbered_declaration` (`table_name`, `number`, `content`) VALUES ({values})"
    ]


def leave_statements(database, synced):
    """What is done with a table that has no durable triggers any more: it is forgotten, but not before what
    it has left can do without it.

    A reload is a row that the worker has yet to read, with the SQL that is kept here.
    """
    # What was loaded is forgotten at once: a table that is declared again has changed unseen.
    name = literal(synced.table_name)
    delete = {
        each: f"DELETE FROM `{SCHEMA}`.`{each}` WHERE `table_name` = {name}"
        for each in ("resync", "synced_table")
    }
    if not is_needed(database, synced.table_name):
        return [delete["resync"], delete["synced_table"]]
    if synced.triggers == NO_TRIGGERS:
        return []
    return [
        delete["resync"],
        (
            f"UPDATE `{SCHEMA}`.`synced_table` SET `triggers` = {literal(NO_TRIGGERS)} WHERE `table_name` = "
            f"{name}"
        ),
    ]


def to_json(value):
    """JSON whose text is the same for the same value."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def settings_problems(database):
    """Settings of the server that durable delivery suffers from, as sentences."""
    problems = []
    try:
        if database.variable("log_bin") == "ON" and database.variable("binlog_format") == "STATEMENT":
            problems.append(
                "binlog_format=STATEMENT: the server refuses the workers' writes to the outbox, which are "
                "READ COMMITTED; use ROW or MIXED"
            )
        if database.variable("innodb_autoinc_lock_mode") == "0":
            problems.append(
                "innodb_autoinc_lock_mode=0: statements that write to a synced table wait for each other; "
                "use 1 or 2"
            )
        if int(database.variable("max_allowed_packet") or SMALLEST_PACKET) < SMALLEST_PACKET:
            problems.append(
                f"max_allowed_packet is less than {SMALLEST_PACKET}: the server cannot write the change of "
                "a wide row as JSON, and the write fails; raise it"
            )
        if database.variable("innodb_flush_log_at_trx_commit") not in (None, "1"):
            problems.append(
                "innodb_flush_log_at_trx_commit is not 1: a commit can be synced to Redis and then be lost "
                "by MySQL in a power failure"
            )
    except ServerError:
        pass  # no right to see variables: nothing to warn of that we could know
    return problems
