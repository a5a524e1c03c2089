# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the state of the pipeline from the schema `gearsync`."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Optional

import msgspec

from gearsync.apply.agreed_term import read_record, recorded
from gearsync.contract import SCHEMA, TRANSACTIONS
from gearsync.declare.configuration import Config
from gearsync.operate.pipeline.problems import column_problem, declaration_problem, trigger_problem
from gearsync.operate.pipeline.state import (
    DatabaseState,
    Lease,
    Load,
    Synced,
    Transactions,
    Verification,
    Waiting,
    last_verification,
)
from gearsync.outbox import applied
from gearsync.outbox.declarations import load
from gearsync.outbox.spans import Spans
from gearsync.outbox.sql import ranges_condition, text_literal
from gearsync.outbox.store import TRANSACTIONS_UNKNOWN
from gearsync.outbox.synced_table import records
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target
from gearsync.telemetry.metrics import Report

#: Rows of the outbox that are counted, and as many dead letters: this must cost the database the same however
#: many wait there.
_MOST_ROWS = 20_000
#: Ranges of ids that are counted.
_MOST_RANGES = 10_000
#: Older reports of processes do not show the present state; seconds.
_REPORT_VALID = 30
#: Seconds between two reads of the triggers: the server opens files for each.
_TRIGGERS_PAUSE = 60.0
#: Seconds between two questions for open transactions: the server stops for each of them for a moment.
_TRANSACTIONS_PAUSE = 5.0


def _seconds(value: Any) -> Optional[float]:
    return None if value is None else float(value)


class DatabaseReader:
    """Reads the state. What is expensive to read is kept for a while."""

    def __init__(self, config: Config, database: Database, target: Target) -> None:
        self._config = config
        self._database = database
        self._target = target
        #: A configuration with direct delivery alone has no schema, and its worker no rights on one.
        self._has_schema = bool(config.durable_tables or config.worker.drainers)
        self._triggers: dict[str, Optional[str]] = {}
        self._triggers_at = float("-inf")
        self._triggers_of: dict[str, Synced] = {}
        self._transactions: Optional[Transactions] = None
        self._transactions_at = float("-inf")

    def read(self) -> DatabaseState:
        """Raises DatabaseUnavailable."""
        if not self._has_schema:
            return DatabaseState({}, False, [], 0, {}, {}, {}, {}, {}, {}, self._functions())
        waiting, truncated = self._waiting(self._applied())
        synced = self._synced()
        ((workers,),) = self._database.rows(f"SELECT COUNT(*) FROM {SCHEMA}.worker WHERE expires_at > NOW(6)")
        return DatabaseState(
            waiting,
            truncated,
            self._leases(),
            int(workers),
            self._dead_letters(),
            synced,
            self._verifications(),
            self._loads(),
            self._reports(),
            self._trigger_problems(synced),
            self._functions(),
            self._open_transactions(),
            self._drained(),
        )

    def _drained(self) -> str:
        """The member that is drained, when it is not the one that is read here; empty also when that is not
        known.
        """
        state = ""
        if self._config.mysql and len(self._config.mysql.servers) > 1:
            with contextlib.suppress(Unavailable):
                state = read_record(self._target, self._config.source)
        return (
            recorded(state).member if state and recorded(state).term.server != self._database.server else ""
        )

    def _synced(self) -> dict[str, Synced]:
        synced = {}
        for record in records(self._database):
            declared = load(self._database, record.table).get(record.number) if record.number else None
            synced[record.table] = Synced(
                record.schema, record.name, record.triggers, declared, record.column_types
            )
        return synced

    def _applied(self) -> Spans:
        """What is in Redis and still in the outbox; nothing is known to be when Redis does not answer."""
        try:
            return applied.read(self._target, self._config.source, applied.owners(self._database))
        except Unavailable:
            return Spans()

    def _waiting(self, known: Spans) -> tuple[dict[str, Waiting], bool]:
        # The oldest and the newest, so that no table is hidden by another one's backlog.
        ranges, half = ranges_condition(known.gaps(_MOST_RANGES)[0]), _MOST_ROWS // 2
        looks = " UNION ".join(
            f"(SELECT id, table_name, created_at FROM {SCHEMA}.outbox WHERE {ranges} ORDER BY id {order} "
            f"LIMIT {half})"
            for order in ("ASC", "DESC")
        )
        waiting = {
            table.decode(): Waiting(int(rows), float(oldest))
            for table, rows, oldest in self._database.rows(
                "SELECT table_name, COUNT(*), UNIX_TIMESTAMP(NOW(6)) - UNIX_TIMESTAMP(MIN(created_at))"
                f" FROM ({looks}) AS looked_at GROUP BY table_name"
            )
        }
        return waiting, sum(each.rows for each in waiting.values()) >= _MOST_ROWS

    def _leases(self) -> list[Lease]:
        return [
            Lease(int(shard), owner.decode() if owner else None, int(epoch), _seconds(left))
            for shard, owner, epoch, left in self._database.rows(
                "SELECT shard, owner, epoch, UNIX_TIMESTAMP(expires_at) - UNIX_TIMESTAMP(NOW(6)) FROM "
                f"{SCHEMA}.lease ORDER BY shard"
            )
        ]

    def _dead_letters(self) -> dict[str, int]:
        return {
            table.decode(): int(number)
            for table, number in self._database.rows(
                f"SELECT table_name, COUNT(*) FROM (SELECT table_name FROM {SCHEMA}.dead_letter LIMIT "
                f"{_MOST_ROWS}) AS looked_at GROUP BY table_name"
            )
        }

    def _verifications(self) -> dict[str, Verification]:
        of_tables: dict[str, dict[str, Verification]] = {}
        for table, kind, finished, sample, rows, different, unsettled, repaired, error in self._database.rows(
            "SELECT table_name, kind, UNIX_TIMESTAMP(finished_at), sample, rows_seen, different, unsettled, "
            "repaired, error"
            # The last result of a table that is not synced any more would be shown for ever.
            f" FROM {SCHEMA}.verification WHERE table_name IN (SELECT table_name FROM {SCHEMA}.synced_table)"
        ):
            of_tables.setdefault(table.decode(), {})[kind.decode()] = Verification(
                float(finished),
                float(sample),
                int(rows),
                msgspec.json.decode(different, type=dict[str, int]),
                int(unsettled),
                int(repaired),
                error.decode(errors="replace"),
            )
        return {table: last_verification(of_kinds) for table, of_kinds in of_tables.items()}

    def _loads(self) -> dict[str, Load]:
        return {
            table.decode(): Load(int(rows), _seconds(finished), not where)
            for table, rows, finished, where in self._database.rows(
                "SELECT table_name, rows_done, UNIX_TIMESTAMP(finished_at), condition_sql FROM "
                f"{SCHEMA}.resync"
                # The last one counts: one that is running, rather than one that is done.
                " ORDER BY finished_at IS NULL, started_at"
            )
        }

    def _reports(self) -> dict[str, Report]:
        return {
            owner.decode(): msgspec.json.decode(report, type=Report)
            for owner, report in self._database.rows(
                f"SELECT owner, report FROM {SCHEMA}.worker_report WHERE reported_at > NOW(6) - INTERVAL "
                f"{_REPORT_VALID} SECOND"
            )
        }

    def _trigger_problems(self, synced: dict[str, Synced]) -> dict[str, Optional[str]]:
        if time.monotonic() - self._triggers_at >= _TRIGGERS_PAUSE or synced != self._triggers_of:
            declared = {table.table: table for table in self._config.durable_tables}
            self._triggers = {
                name: trigger_problem(table.triggers, self._triggers_on(table))
                or column_problem(table.column_types, self._columns_of(table))
                or (declaration_problem(declared[name], table) if name in declared else None)
                for name, table in synced.items()
            }
            self._triggers.update(
                {
                    name: declaration_problem(table, None)
                    for name, table in declared.items()
                    if name not in synced
                }
            )
            self._triggers_at, self._triggers_of = time.monotonic(), synced
        return self._triggers

    def _triggers_on(self, table: Synced) -> dict[str, str]:
        schema, name = (text_literal(part.encode()).decode() for part in (table.schema, table.name))
        # The right to see triggers is also the right to drop them, and a worker's account does not have it:
        # the procedure runs with its definer's rights.
        return {
            trigger.decode(): checksum.decode()
            for trigger, checksum in self._database.rows(f"CALL {SCHEMA}.trigger_checksums({schema}, {name})")
        }

    def _columns_of(self, table: Synced) -> dict[str, str]:
        return {
            name.decode(): kind.decode()
            for name, kind in self._database.rows(
                "SELECT COLUMN_NAME, CONCAT_WS(' ', COLUMN_TYPE, COLLATION_NAME) FROM "
                "information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
                (table.schema, table.name),
            )
        }

    def _functions(self) -> Optional[dict[str, Any]]:
        try:
            ((text,),) = self._database.rows("SELECT gman_stats()")
        except StatementInvalid:
            return None
        return None if text is None else msgspec.json.decode(text, type=dict[str, Any])

    def _open_transactions(self) -> Optional[Transactions]:
        if time.monotonic() - self._transactions_at >= _TRANSACTIONS_PAUSE:
            self._transactions, self._transactions_at = None, time.monotonic()
            try:
                ((_own, _oldest, writing, reading, prepared, _replicates),) = self._database.rows(
                    TRANSACTIONS
                )
            except DatabaseUnavailable as error:
                if error.code not in TRANSACTIONS_UNKNOWN:
                    raise
            else:
                # When summer time ends, ages of less than an hour are negative.
                self._transactions = Transactions(
                    max(0.0, float(writing or 0)), max(0.0, float(reading or 0)), int(prepared or 0)
                )
        return self._transactions
