# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of `gearsync verify` over the chosen tables, with a progress bar for each."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import traceback
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from gearsync.cli.durable_tables import declared, without_triggers
from gearsync.declare.configuration import Config
from gearsync.operate.selftest import hindrance
from gearsync.operate.table_size import estimated_rows
from gearsync.operate.verify.claims import DeclaredTables
from gearsync.operate.verify.completeness import CompletenessMarker
from gearsync.operate.verify.orphans import backward, prune
from gearsync.operate.verify.report import Difference, Report
from gearsync.operate.verify.servers import ABOUT_TABLE, Refused, Servers
from gearsync.operate.verify.spool import Spool
from gearsync.operate.verify.table_verifier import CHUNK, TableVerifier
from gearsync.outbox import synced_table
from gearsync.outbox.applied import missing
from gearsync.outbox.synced_table import NoKey
from gearsync.project.expectation import ORPHANED, Expectation
from gearsync.project.transform import transforms
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target

#: Seconds to wait for changes on their way when they have been waited for in vain already.
_IMPATIENT = 1.0


class Unsettled(Exception):
    """Changes that were committed long ago are not in Redis yet: nothing can be compared."""


class VerifyRun:
    """One verification of the chosen tables."""

    def __init__(
        self, config: Config, options: argparse.Namespace, database: Database, target: Target
    ) -> None:
        """Raises ValueError for tables that cannot be verified, and DatabaseUnavailable."""
        self._config = config
        self._options = options
        self._database = database
        self._share = options.sample / 100.0
        self._patience = options.settle
        self._target = target
        self._servers = Servers(
            database,
            target.ask,
            lambda: target.scan(CHUNK),
            lambda key, scored: target.scan_members(key, scored, CHUNK),
            self._settle,
        )
        self._names = declared(config, options.table or [])
        self._orphans: dict[str, Spool] = {}
        self._files = contextlib.ExitStack()
        synced = synced_table.load(database)
        hooks = transforms(config)
        self._verifiers = {
            table.table: TableVerifier(
                self._servers, table, synced[table.table], hooks.get(table.table), options.examples
            )
            for table in config.durable_tables
            if table.table in synced
        }
        self._unknown = [
            Expectation(table, []) for table in config.tables if table.table not in self._verifiers
        ]
        self._absent = {
            name: Report(name, error=without_triggers(name))
            for name in self._names
            if name not in self._verifiers
        }

    def _settle(self, table: str) -> None:
        """Wait until everything that is committed now for a table is in Redis. Raises Unsettled."""
        if missing(self._config, self._database, self._target, [table], self._patience):
            seconds, self._patience = self._patience, min(self._patience, _IMPATIENT)
            raise Unsettled(
                f"changes of {table} have been waiting in the outbox for {seconds:g} s: "
                f"{hindrance(self._config, self._target)}"
            )

    def reports(self) -> list[Report]:
        """One for each chosen table: an error of one table, or of its rows, does not affect the others."""
        chosen = [self._verifiers[name] for name in self._names if name in self._verifiers]
        try:
            with self._files, _bars(self._options.json) as bars:
                for verifier in chosen:
                    self._forward(verifier, bars)
                if not self._options.quick:
                    task = bars.add_task("Redis → MySQL", total=None)
                    compared = [verifier for verifier in chosen if not verifier.report.error]
                    others = [verifier for verifier in self._verifiers.values() if verifier not in compared]
                    self._backward(DeclaredTables(compared, others, self._unknown))
                    _finish(bars, task)
        except (DatabaseUnavailable, Unavailable) as error:
            # A server that is down is down for all of them.
            for verifier in chosen:
                verifier.report.error = verifier.report.error or str(error)
        return [self._absent.get(name) or self._verifiers[name].report for name in self._names]

    def _forward(self, verifier: TableVerifier, bars: Progress) -> None:
        """Raises DatabaseUnavailable and Unavailable when no other table can be compared either."""
        with _contained(verifier):
            total = estimated_rows(self._database, verifier.synced) * self._share
            task = bars.add_task(f"{verifier.synced.table}: MySQL → Redis", total=total or None)
            with self._completeness(verifier):
                for candidates in verifier.ends() if self._options.quick else verifier.forward(self._share):
                    self._handle(verifier, candidates)
                    bars.update(task, completed=verifier.report.rows)
            _finish(bars, task)

    @contextlib.contextmanager
    def _completeness(self, verifier: TableVerifier) -> Iterator[None]:
        """Around a comparison of rows: whether Redis has lost nothing, by its marker before and after."""
        if not verifier.expectation.may_expire:
            yield
            return
        marker = CompletenessMarker(self._target.ask, self._config.source, verifier.expectation.table)
        intact = verifier.comparison.intact = marker.is_valid()
        complete = self._share >= 1.0 and not self._options.quick
        if complete and not intact:
            marker.begin()
        yield
        if intact and not marker.is_valid():
            verifier.report.error = (
                "Redis has lost its data while the table was compared: gearsync resync --restart"
            )
        elif complete and not intact and verifier.report.equal:
            marker.end()

    def _handle(self, verifier: TableVerifier, candidates: list[Difference]) -> None:
        """Confirm what differs in a piece of the table, repair it if that was asked for, and count it."""
        repair = self._options.repair
        different = verifier.count(verifier.confirm(candidates, orphans=False), repair)
        remaining = verifier.repair(different, orphans=False) if repair else different
        verifier.report.repaired += len(different) - len(remaining)
        verifier.report.remaining.update(difference.kind for difference in remaining)

    def _backward(self, declared: DeclaredTables) -> None:
        if not declared.chosen:
            return
        waiting: dict[str, list[Difference]] = {}
        for verifier, candidates in backward(declared, self._servers, self._share):
            orphans = waiting.setdefault(verifier.synced.table, [])
            orphans += candidates
            if len(orphans) >= CHUNK:
                self._count_orphans(verifier, waiting.pop(verifier.synced.table))
        for name, orphans in waiting.items():
            self._count_orphans(self._verifiers[name], orphans)
        if self._options.prune:
            for verifier in declared.chosen:
                self._prune(verifier, declared)

    def _count_orphans(self, verifier: TableVerifier, candidates: list[Difference]) -> None:
        if verifier.report.error:
            return
        with _contained(verifier):
            orphans = verifier.count(verifier.confirm(candidates, orphans=True), repair=False)
            verifier.report.remaining.update(orphan.kind for orphan in orphans)
            if self._options.prune:
                name = verifier.synced.table
                if name not in self._orphans:
                    self._orphans[name] = Spool(self._files.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115  # it is closed with all others
                self._orphans[name].add(orphans)

    def _prune(self, verifier: TableVerifier, declared: DeclaredTables) -> None:
        """Remove a table's orphans, unless there are more than may be removed."""
        report, limit = verifier.report, self._options.max_prune
        number = report.remaining[ORPHANED]
        if not limit.allows(number, report.walked):
            report.refused = (
                f"{number:,} of {report.walked:,} keys and members in Redis would be removed, more than "
                f"--max-prune {limit.given} allows; nothing was removed. If no row should have them, "
                f"give --max-prune {number}"
            )
        if report.may_prune:
            with _contained(verifier):
                for orphans in self._orphans[report.table].read():
                    removed = len(orphans) - len(prune(orphans, verifier, declared))
                    report.repaired += removed
                    report.remaining[ORPHANED] -= removed
        # Drop the kinds of which nothing remains.
        report.remaining += type(report.remaining)()


@contextlib.contextmanager
def _contained(verifier: TableVerifier) -> Iterator[None]:
    """An error of one table ends the comparison of this table alone."""
    try:
        yield
    except (*ABOUT_TABLE, NoKey, Refused, Unsettled) as error:
        verifier.report.error = str(error)
    except (DatabaseUnavailable, Unavailable):
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, the other tables can be compared
        traceback.print_exc()
        verifier.report.error = f"{type(error).__name__}: {error}"


def _bars(quiet: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
        console=console,
        disable=quiet or not console.is_terminal,
    )


def _finish(bars: Progress, task: TaskID) -> None:
    completed = bars.tasks[task].completed or 1
    bars.update(task, total=completed, completed=completed)
