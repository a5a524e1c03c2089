# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The statements of the schema of durable delivery, by version. Its tables: docs/architecture.md."""

from __future__ import annotations

OPTIONS = "ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
_CHANGE_COLUMNS = (
    "`table_name` VARCHAR(129) NOT NULL, `operation` VARCHAR(8) CHARACTER SET ascii COLLATE ascii_bin NOT "
    "NULL, `payload` LONGTEXT NOT NULL,"
    " `created_at` TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)"
)

# Releases without the column had one generation, which follows from the first number in the SQL of the shard.
FORMER_GENERATIONS = (
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
            f" {_CHANGE_COLUMNS}, PRIMARY KEY (`shard`, `id`), KEY `id` (`id`)) {OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`lease` (`shard` SMALLINT UNSIGNED NOT NULL, `owner` "
            "VARCHAR(255) NULL,"
            " `epoch` BIGINT UNSIGNED NOT NULL DEFAULT 0, `expires_at` TIMESTAMP(6) NULL DEFAULT NULL, "
            f"PRIMARY KEY (`shard`)) {OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`worker` (`owner` VARCHAR(255) NOT NULL, `expires_at` "
            "TIMESTAMP(6) NOT NULL"
            f" DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (`owner`)) {OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`dead_letter` (`id` BIGINT UNSIGNED NOT NULL, `shard` "
            f"SMALLINT UNSIGNED NOT NULL, {_CHANGE_COLUMNS},"
            " `failed_at` TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), `error` TEXT NOT NULL, "
            f"PRIMARY KEY (`id`)) {OPTIONS}"
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
            f"CURRENT_TIMESTAMP(6), PRIMARY KEY (`table_name`)) {OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`resync` (`table_name` VARCHAR(129) NOT NULL, "
            "`condition_sql` TEXT NOT NULL, `row_sql` LONGTEXT NOT NULL,"
            " `position` LONGTEXT NULL, `rows_done` BIGINT UNSIGNED NOT NULL, `started_at` TIMESTAMP(6) "
            "NOT NULL DEFAULT CURRENT_TIMESTAMP(6),"
            f" `finished_at` TIMESTAMP(6) NULL DEFAULT NULL, PRIMARY KEY (`table_name`)) {OPTIONS}"
        ),
    ),
    (
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`worker_report` (`owner` VARCHAR(255) NOT NULL, "
            "`report` LONGTEXT NOT NULL,"
            " `reported_at` TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), PRIMARY KEY (`owner`)) "
            f"{OPTIONS}"
        ),
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`verification` (`table_name` VARCHAR(129) NOT NULL, "
            "`finished_at` TIMESTAMP(6) NOT NULL"
            " DEFAULT CURRENT_TIMESTAMP(6), `sample` DOUBLE NOT NULL, `rows_seen` BIGINT UNSIGNED NOT "
            "NULL, `different` LONGTEXT NOT NULL,"
            " `unsettled` BIGINT UNSIGNED NOT NULL, `repaired` BIGINT UNSIGNED NOT NULL, PRIMARY KEY "
            f"(`table_name`)) {OPTIONS}"
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
            f"{OPTIONS}"
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
            f"CURRENT_TIMESTAMP(6), PRIMARY KEY (`table_name`)) {OPTIONS}"
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
            f"{OPTIONS}"
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
            f" PRIMARY KEY (`table_name`, `kind`)) {OPTIONS}"
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
            f"CURRENT_TIMESTAMP(6), PRIMARY KEY (`table_name`, `number`)) {OPTIONS}"
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
            f"UPDATE `gearsync`.`synced_table` SET `generations` = {FORMER_GENERATIONS}, `changed_at` = "
            "`changed_at` WHERE `generations` IS NULL"
        ),
    ),
    (
        # Which servers of a source with several members were drained one after the other, and how far the
        # data know of each: what replicates shows whether a server follows another one. The server is part of
        # the key: the rows of two that were drained apart stop no replication between them.
        (
            "CREATE TABLE IF NOT EXISTS `gearsync`.`term` (`number` INT UNSIGNED NOT NULL, `server` "
            "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, `beat` BIGINT UNSIGNED NOT NULL, "
            f"PRIMARY KEY (`number`, `server`)) {OPTIONS}"
        ),
    ),
)
