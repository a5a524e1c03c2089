"""`gearsync verify`: runs the verification of the declared tables and says what it found, for people or for machines."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from gearsync import barrier, source
from gearsync.cluster import open_target
from gearsync.config import Config
from gearsync.database import Database, DatabaseUnavailable
from gearsync.expectation import KINDS
from gearsync.outbox import Outbox
from gearsync.resync import estimate
from gearsync.source import NoKey, Source
from gearsync.target import Target, Unavailable
from gearsync.transform import transforms
from gearsync.verify import CHUNK, Difference, Report, Servers, Verifier, backward

EQUAL, DIFFERENT, COULD_NOT_TELL = 0, 1, 2
#: Seconds that a statement of the verification may take, and that changes on their way are waited for.
_STATEMENT = 60.0
_SETTLE = 60.0


class Unsettled(Exception):
    """Changes that were committed long ago are not in Redis yet, so that nothing can be said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", action="append", metavar="SCHEMA.TABLE", help="only this table; may be given again (default: all durable ones)")
    parser.add_argument("--sample", type=float, default=100.0, metavar="PERCENT", help="look at this share of the rows and keys (default: %(default)g)")
    parser.add_argument("--quick", action="store_true", help="compare only the first and the last thousand rows of each table, in a moment")
    parser.add_argument("--settle", type=float, default=_SETTLE, metavar="S", help="wait for changes on their way so long (default: %(default)g)")
    parser.add_argument("--repair", action="store_true", help="have the worker write again what is missing, stale or of another type")
    parser.add_argument("--prune", action="store_true", help="have the worker remove keys and members that no row asks for")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def chosen(config: Config, sources: dict[str, Source], wanted: list[str]) -> list[Source]:
    """The sources that a command is about. Raises ValueError for a table that cannot be."""
    durable = [table.table for table in config.tables if table.delivery == "durable"]
    for name in wanted:
        if name not in durable:
            raise ValueError(f"{name} is not among the tables with durable delivery: {', '.join(durable) or 'there is none'}")
    names = wanted or durable
    absent = [name for name in names if name not in sources]
    if absent:
        raise ValueError(f"the database has no triggers for {', '.join(absent)}; deploy them first (site.yml)")
    return [sources[name] for name in names]


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 equal, 1 different, 2 could not tell."""
    if not 0.0 < options.sample <= 100.0:
        print(f"--sample {options.sample:g} is no share: give more than 0 and at most 100", file=sys.stderr)
        return COULD_NOT_TELL
    if options.quick and (options.prune or options.sample < 100.0):
        print("--quick looks at no keys of Redis by themselves, and takes no sample: leave --prune and --sample out", file=sys.stderr)
        return COULD_NOT_TELL
    if config.mysql is None:
        print("the configuration names no MySQL", file=sys.stderr)
        return COULD_NOT_TELL
    database = Database(config.mysql, _STATEMENT, idle=600.0)
    target = open_target(config.redis, config.worker.io_timeout)
    try:
        sources = chosen(config, source.load(database), options.table or [])
        reports = _verify(config, options, database, target, sources)
        if not options.quick:
            remember(database, reports, options.sample)
    except (DatabaseUnavailable, Unavailable, Unsettled, NoKey, ValueError) as error:
        print(f"could not tell: {error}", file=sys.stderr)
        return COULD_NOT_TELL
    finally:
        database.close()
        target.close()
    _say(reports, options.json)
    if any(report.remaining for report in reports):
        return DIFFERENT
    return COULD_NOT_TELL if any(report.unsettled for report in reports) else EQUAL


def remember(database: Database, reports: list[Report], sample: float) -> None:
    """Keep what was found, for `gearsync status` and the exporter."""
    for report in reports:
        # All kinds stand there, so that one that has ended is seen to have ended.
        different = {kind: report.remaining.get(kind, 0) for kind in KINDS}
        try:
            database.run(
                "REPLACE INTO gearsync.verification (table_name, sample, rows_seen, different, unsettled, repaired) VALUES (%s, %s, %s, %s, %s, %s)",
                (report.table, sample, report.rows, msgspec.json.encode(different), report.unsettled, report.repaired))
        except DatabaseUnavailable as error:
            # What was found is told all the same.
            hint = "; the schema is of an earlier release, which site.yml migrates" if error.schema_absent else ""
            print(f"the result is not kept for gearsync status: {error}{hint}", file=sys.stderr)
            return


def _verify(config: Config, options: argparse.Namespace, database: Database, target: Target, sources: list[Source]) -> list[Report]:
    outbox = Outbox(database)

    def settle() -> None:
        answer = barrier.wait(outbox, options.settle)
        if not answer["ok"]:
            raise Unsettled(f"changes have been waiting in the outbox for {options.settle:g} s; is a worker running? (gearsync status)")

    def scan() -> Iterator[list[bytes]]:
        return target.scan(CHUNK)

    def scan_members(key: bytes, scored: bool) -> Iterator[list[bytes]]:
        return target.scan_members(key, scored, CHUNK)

    servers = Servers(database, target.ask, scan, scan_members, settle)
    hooks, tables = transforms(config), {table.table: table for table in config.tables}
    verifiers = [Verifier(servers, tables[found.table], found, hooks.get(found.table)) for found in sources]
    share = options.sample / 100.0

    def handle(verifier: Verifier, candidates: list[Difference], mend: bool) -> None:
        found = verifier.confirm(candidates)
        verifier.note(found)
        left = verifier.repair(found) if mend else found
        verifier.report.repaired += len(found) - len(left)
        verifier.report.remaining.update(difference.kind for difference in left)

    with _bars(options.json) as bars:
        for verifier in verifiers:
            task = bars.add_task(f"{verifier.source.table}: MySQL → Redis", total=estimate(database, verifier.source) * share or None)
            for candidates in verifier.ends() if options.quick else verifier.forward(share):
                handle(verifier, candidates, options.repair)
                bars.update(task, completed=verifier.report.rows)
            _finish(bars, task)
        if options.quick:
            return [verifier.report for verifier in verifiers]
        task = bars.add_task("Redis → MySQL", total=None)
        for verifier, candidates in backward(verifiers, servers, share):
            handle(verifier, candidates, options.prune)
        _finish(bars, task)
    return [verifier.report for verifier in verifiers]


def _bars(quiet: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"), TimeElapsedColumn(),
        console=console, disable=quiet or not console.is_terminal,
    )


def _finish(bars: Progress, task: TaskID) -> None:
    found = bars.tasks[task]
    bars.update(task, total=found.completed or 1, completed=found.completed or 1)


def _words(found: Difference) -> dict[str, Any]:
    words = {"kind": found.kind, "key": found.key.decode(errors="backslashreplace")}
    return words if found.member is None else {**words, "member": found.member.decode(errors="backslashreplace")}


def _say(reports: list[Report], as_json: bool) -> None:
    if as_json:
        answer = [
            {
                "table": report.table, "rows": report.rows, "keys": report.keys, "different": dict(report.different), "repaired": report.repaired,
                "unsettled": report.unsettled, "not_verifiable": report.unverifiable, "examples": [_words(found) for found in report.examples],
            }
            for report in reports
        ]
        print(msgspec.json.encode({"time": time.time(), "equal": all(report.equal for report in reports), "tables": answer}).decode())
        return
    for report in reports:
        what = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in sorted(report.different.items())) or "equal"
        mended = f"; {report.repaired:,} mended" if report.repaired else ""
        unsettled = f"; {report.unsettled:,} rows changed all the time or are too large to compare" if report.unsettled else ""
        print(f"{report.table}: {what}{mended}{unsettled} ({report.rows:,} rows, {report.keys:,} comparisons)")
        for found in report.examples:
            words = _words(found)
            print(f"    {words['kind'].replace('_', ' ')}: {words['key']}" + (f" member {words['member']}" if "member" in words else ""))
        for write in report.unverifiable:
            print(f"    not verifiable: {write}")
