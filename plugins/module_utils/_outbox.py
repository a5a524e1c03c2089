# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The schema of durable delivery: its tables, its migrations, and the synced tables in it.
docs/architecture.md describes each table.
"""

from __future__ import annotations

import collections
import json
import math
import zlib

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

_OPTIONS = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_CHANGE_COLUMNS = (
    "`table_name` VARCHAR(129) NOT NULL, `operation` VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT "
    "NULL, `payload` LONGTEXT NOT NULL,"
    " `created_at` TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)"
)

# Releases without the column had one generation, which follows from the first number in the SQL of the shard.
_FORMER_GENERATIONS = (
    "JSON_OBJECT(CONCAT(FLOOR((1 + SQRT(8 * CAST(SUBSTRING_INDEX(`shard_sql`, ' ', 1) AS UNSIGNED) + "
    "1)) / 2)), `shard_sql`)"
)

# Each list brings the schema from the version that is its place to the next. What has been released is never
# changed, only added to. Every statement can be executed twice: a run that was interrupted is finished by the
# next.
MIGRATIONS = (
    (
        # The key begins with the shard, by which the outbox is read and emptied; an auto-increment column
        # needs an index of its own then.
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`outbox` (`shard` SMALLINT UNSIGNED NOT NULL, `id` "
            "BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,"
            f" {_CHANGE_COLUMNS}, PRIMARY KEY (`shard`, `id`), KEY `id` (`id`)) {_OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`lease` (`shard` SMALLINT UNSIGNED NOT NULL, `owner` "
            "VARCHAR(255) NULL,"
            " `epoch` BIGINT UNSIGNED NOT NULL DEFAULT 0, `expires_at` TIMESTAMP(6) NULL DEFAULT NULL, "
            f"PRIMARY KEY (`shard`)) {_OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`worker` (`owner` VARCHAR(255) NOT NULL, `expires_at` "
            "TIMESTAMP(6) NOT NULL"
            f" DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (`owner`)) {_OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`dead_letter` (`id` BIGINT UNSIGNED NOT NULL, `shard` "
            f"SMALLINT UNSIGNED NOT NULL, {_CHANGE_COLUMNS},"
            " `failed_at` TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), `error` TEXT NOT NULL, "
            f"PRIMARY KEY (`id`)) {_OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`synced_table` (`table_name` VARCHAR(129) NOT NULL, "
            "`source_schema` VARCHAR(64) NOT NULL,"
            " `source_table` VARCHAR(64) NOT NULL, `shards` SMALLINT UNSIGNED NOT NULL, `key_columns` "
            "LONGTEXT NOT NULL, `shard_sql` LONGTEXT NOT NULL,"
            f" `row_sql` LONGTEXT NOT NULL, `old_sql` LONGTEXT NOT NULL, `large_sql` LONGTEXT NOT NULL,"
            " `small_sql` LONGTEXT NOT NULL, `large_columns` LONGTEXT NOT NULL, `triggers` LONGTEXT NOT "
            "NULL,"
            " `changed_at` TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE "
            f"CURRENT_TIMESTAMP(6), PRIMARY KEY (`table_name`)) {_OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`resync` (`table_name` VARCHAR(129) NOT NULL, "
            "`condition_sql` TEXT NOT NULL, `row_sql` LONGTEXT NOT NULL,"
            " `position` LONGTEXT NULL, `rows_done` BIGINT UNSIGNED NOT NULL, `started_at` TIMESTAMP(6) "
            "NOT NULL DEFAULT CURRENT_TIMESTAMP(6),"
            f" `finished_at` TIMESTAMP(6) NULL DEFAULT NULL, PRIMARY KEY (`table_name`)) {_OPTIONS}"
        ),
    ),
    (
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`worker_report` (`owner` VARCHAR(255) NOT NULL, "
            "`report` LONGTEXT NOT NULL,"
            " `reported_at` TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (`owner`)) "
            f"{_OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`verification` (`table_name` VARCHAR(129) NOT NULL, "
            "`finished_at` TIMESTAMP(6) NOT NULL"
            " DEFAULT CURRENT_TIMESTAMP(6), `sample` DOUBLE NOT NULL, `rows_seen` BIGINT UNSIGNED NOT "
            "NULL, `different` LONGTEXT NOT NULL,"
            " `unsettled` BIGINT UNSIGNED NOT NULL, `repaired` BIGINT UNSIGNED NOT NULL, PRIMARY KEY "
            f"(`table_name`)) {_OPTIONS}"
        ),
        # A load of some rows is no load of all: each has its own row. What was noted before is forgotten, and
        # the load done again.
        "DROP TABLE IF EXISTS `gearsync`.`resync`",
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`resync` (`table_name` VARCHAR(129) NOT NULL, "
            "`condition_hash` CHAR(64) CHARACTER SET ascii"
            " COLLATE ascii_bin NOT NULL, `condition_sql` TEXT NOT NULL, `row_sql` LONGTEXT NOT NULL, "
            "`position` LONGTEXT NULL,"
            " `rows_done` BIGINT UNSIGNED NOT NULL, `started_at` TIMESTAMP(6) NOT NULL DEFAULT "
            "CURRENT_TIMESTAMP(6),"
            " `finished_at` TIMESTAMP(6) NULL DEFAULT NULL, PRIMARY KEY (`table_name`, `condition_hash`)) "
            f"{_OPTIONS}"
        ),
        # Who may see a table's triggers may also drop them. Workers may not: they see checksums, by the
        # rights of the account that makes the triggers.
        "DROP PROCEDURE IF EXISTS `gearsync`.`trigger_checksums`",
        (
            "CREATE PROCEDURE `gearsync`.`trigger_checksums` (IN wanted_schema VARCHAR(64) CHARACTER SET "
            "utf8mb4, IN wanted_table VARCHAR(64)"
            " CHARACTER SET utf8mb4) READS SQL DATA SQL SECURITY DEFINER SELECT TRIGGER_NAME AS trigger_name,"
            " SHA2(CONVERT(ACTION_STATEMENT USING utf8mb4), 256) AS checksum FROM information_schema.TRIGGERS"
            " WHERE EVENT_OBJECT_SCHEMA = wanted_schema AND EVENT_OBJECT_TABLE = wanted_table"
        ),
    ),
    (
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`declaration` (`table_name` VARCHAR(129) NOT NULL, "
            "`fingerprints` TEXT NOT NULL,"
            " `changed_at` TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE "
            f"CURRENT_TIMESTAMP(6), PRIMARY KEY (`table_name`)) {_OPTIONS}"
        ),
    ),
    (
        # A load is of a declaration: its columns, its writes, its key and its transform; and of a run, of
        # which Redis has a mark.
        "DROP TABLE IF EXISTS `gearsync`.`resync`",
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`resync` (`table_name` VARCHAR(129) NOT NULL, "
            "`condition_hash` CHAR(64) CHARACTER SET ascii"
            " COLLATE ascii_bin NOT NULL, `condition_sql` TEXT NOT NULL, `shape` CHAR(64) CHARACTER SET "
            "ascii COLLATE ascii_bin NOT NULL,"
            f" `run` CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, `position` LONGTEXT NULL,"
            " `rows_done` BIGINT UNSIGNED NOT NULL, `started_at` TIMESTAMP(6) NOT NULL DEFAULT "
            "CURRENT_TIMESTAMP(6),"
            " `finished_at` TIMESTAMP(6) NULL DEFAULT NULL, PRIMARY KEY (`table_name`, `condition_hash`)) "
            f"{_OPTIONS}"
        ),
        # The result of a sample, or a failure, must not replace the result of the whole table.
        "DROP TABLE IF EXISTS `gearsync`.`verification`",
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`verification` (`table_name` VARCHAR(129) NOT NULL, "
            "`kind` VARCHAR(8) CHARACTER SET ascii"
            f" COLLATE ascii_bin NOT NULL, `finished_at` TIMESTAMP(6) NOT NULL"
            " DEFAULT CURRENT_TIMESTAMP(6), `sample` DOUBLE NOT NULL, `rows_seen` BIGINT UNSIGNED NOT "
            "NULL, `different` LONGTEXT NOT NULL,"
            " `unsettled` BIGINT UNSIGNED NOT NULL, `repaired` BIGINT UNSIGNED NOT NULL, `error` TEXT NOT "
            "NULL,"
            f" PRIMARY KEY (`table_name`, `kind`)) {_OPTIONS}"
        ),
    ),
    (
        # The outbox is read and emptied in the order of its ids, all shards together. ALTER TABLE alone would
        # fail when it is done twice.
        (
            "SET @gearsync_sql = IF((SELECT COUNT(*) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA "
            "= 'gearsync' AND TABLE_NAME = 'outbox'"
            " AND INDEX_NAME = 'id') > 0, 'ALTER TABLE `gearsync`.`outbox` DROP PRIMARY KEY, DROP KEY `id`, "
            "ADD PRIMARY KEY (`id`)', 'DO 0')"
        ),
        "PREPARE gearsync_statement FROM @gearsync_sql",
        "EXECUTE gearsync_statement",
        "DEALLOCATE PREPARE gearsync_statement",
    ),
    (
        # Each declaration that triggers were ever made of, under the number that their changes name. Nothing
        # is ever taken out: a number must not come to mean something else.
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`numbered_declaration` (`table_name` VARCHAR(129) NOT "
            "NULL, `number` INT UNSIGNED NOT NULL,"
            " `content` LONGTEXT NOT NULL, `declared_at` TIMESTAMP(6) NOT NULL DEFAULT "
            f"CURRENT_TIMESTAMP(6), PRIMARY KEY (`table_name`, `number`)) {_OPTIONS}"
        ),
        # 0: the triggers are of a release that did not number.
        (
            "SET @gearsync_sql = IF((SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = "
            "'gearsync' AND TABLE_NAME = 'synced_table'"
            " AND COLUMN_NAME = 'number') = 0, 'ALTER TABLE `gearsync`.`synced_table` ADD COLUMN `number` "
            "INT UNSIGNED NOT NULL DEFAULT 0', 'DO 0')"
        ),
        "PREPARE gearsync_statement FROM @gearsync_sql",
        "EXECUTE gearsync_statement",
        "DEALLOCATE PREPARE gearsync_statement",
        # Workers of earlier releases leave the tables alone whose newest declaration they do not know: they
        # cannot read what its triggers send.
        (
            "UPDATE `gearsync`.`declaration` SET `fingerprints` = JSON_ARRAY_APPEND(`fingerprints`, '$', "
            "'numbered')"
            " WHERE `fingerprints` NOT LIKE '%\"numbered\"]'"
        ),
    ),
    (
        # Who may see all transactions may see much. Workers see, by the rights of the account that makes the
        # triggers: their own transaction's number and the smallest of all that write, seconds since the
        # oldest that writes and that reads began, how many are prepared, and whether the server applies
        # another one's changes. Those that have written nothing yet have no number, or on MySQL one from 2^47
        # on. trx_started is in the zone of the server's host, whatever the session's is.
        "DROP PROCEDURE IF EXISTS `gearsync`.`transactions`",
        (
            "CREATE PROCEDURE `gearsync`.`transactions` () READS SQL DATA SQL SECURITY DEFINER SELECT"
            " MAX(IF(thread = CONNECTION_ID() AND number BETWEEN 1 AND 140737488355327, number, NULL)) AS "
            "own,"
            " MIN(IF(number BETWEEN 1 AND 140737488355327, number, NULL)) AS oldest,"
            " MAX(IF(number BETWEEN 1 AND 140737488355327, seconds, NULL)) AS writing, MAX(IF(number "
            "BETWEEN 1 AND 140737488355327, NULL, seconds)) AS reading,"
            " SUM(thread = 0) AS prepared,"
            " (SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'system user' AND COMMAND "
            "<> 'Daemon') AS replicates"
            " FROM (SELECT CAST(trx_id AS UNSIGNED) AS number, trx_mysql_thread_id AS thread, "
            "TIMESTAMPDIFF(SECOND, trx_started,"
            " CONVERT_TZ(UTC_TIMESTAMP(), '+00:00', 'SYSTEM')) AS seconds"
            " FROM information_schema.INNODB_TRX) AS transactions"
        ),
    ),
    (
        # What a session deletes from now on is in the binary log by its key alone. That needs a right that
        # workers do not have; where the account that makes the schema lacks it too, all stays as it was.
        "DROP PROCEDURE IF EXISTS `gearsync`.`minimal_row_image`",
        (
            "CREATE PROCEDURE `gearsync`.`minimal_row_image` () SQL SECURITY DEFINER BEGIN DECLARE CONTINUE "
            "HANDLER FOR 1227 BEGIN END;"
            " SET SESSION binlog_row_image = 'MINIMAL'; END"
        ),
    ),
    (
        # The shard generations into which a table's triggers may write, each with the SQL of a row's shard,
        # and the types of its columns when they were made.
        (
            "SET @gearsync_sql = IF((SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = "
            "'gearsync' AND TABLE_NAME = 'synced_table'"
            " AND COLUMN_NAME = 'generations') = 0, 'ALTER TABLE `gearsync`.`synced_table` ADD COLUMN "
            "`generations` LONGTEXT NULL,"
            " ADD COLUMN `column_types` LONGTEXT NULL', 'DO 0')"
        ),
        "PREPARE gearsync_statement FROM @gearsync_sql",
        "EXECUTE gearsync_statement",
        "DEALLOCATE PREPARE gearsync_statement",
        # What is known of the declaration has not changed.
        (
            f"UPDATE `gearsync`.`synced_table` SET `generations` = {_FORMER_GENERATIONS}, `changed_at` = "
            "`changed_at` WHERE `generations` IS NULL"
        ),
    ),
)
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
                f"PRIMARY KEY (`version`)) {_OPTIONS}"
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
        f"SELECT synced_table.*, {_FORMER_GENERATIONS} AS former_generations FROM `{SCHEMA}`.synced_table "
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
