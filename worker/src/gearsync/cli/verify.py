"""`gearsync verify`: runs the verification of the declared tables and says what it found, for people or for machines."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from gearsync.declare.configuration import Config
from gearsync.operate.resync import estimate
from gearsync.operate.selftest import hindrance
from gearsync.operate.verify import ABOUT_TABLE, CHUNK, EXAMPLES, Declared, Difference, Refused, Report, Servers, Verifier, Whole, backward, prune
from gearsync.outbox import synced_table
from gearsync.outbox.applied import missing
from gearsync.outbox.synced_table import NoKey, SyncedTable
from gearsync.project.expectation import KINDS, ORPHANED, Expectation
from gearsync.project.transform import transforms
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target, open_target

EQUAL, DIFFERENT, COULD_NOT_TELL = 0, 1, 2
#: Seconds that a statement of the verification may take, and that changes on their way are waited for.
_STATEMENT = 60.0
_SETTLE = 60.0
#: The same when they have been waited for in vain already.
_IMPATIENT = 1.0
#: So many keys of a table may be removed whatever share of it they are.
_FEW = 10
_SHARE_OR_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)%|([0-9]+)")


class Limit(NamedTuple):
    """How many keys of a table may be removed: a share of them in percent, or a number."""

    words: str
    share: float
    number: int

    def allows(self, orphans: int, keys: int) -> bool:
        return orphans <= max(self.number, keys * self.share / 100.0)


def limit(words: str) -> Limit:
    """A share like ``5%``, or a number. Raises ArgumentTypeError."""
    found = _SHARE_OR_NUMBER.fullmatch(words)
    if found is None:
        raise argparse.ArgumentTypeError(f"{words!r} is neither a share of a table's keys, such as 5%, nor a number of keys")
    share, number = found.groups()
    return Limit(words, float(share), _FEW) if share else Limit(words, 0.0, int(number))


class Unsettled(Exception):
    """Changes that were committed long ago are not in Redis yet, so that nothing can be said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--table", action="append", metavar="SCHEMA.TABLE", help="only this table; may be given again (default: all durable ones)")
    parser.add_argument("--sample", type=float, default=100.0, metavar="PERCENT", help="look at this share of the rows and keys (default: %(default)g)")
    parser.add_argument("--quick", action="store_true", help="compare only the first and the last thousand rows of each table, in a moment")
    parser.add_argument("--settle", type=float, default=_SETTLE, metavar="S", help="wait for changes on their way so long (default: %(default)g)")
    parser.add_argument("--repair", action="store_true", help="have the worker write again what is missing, stale or of another type")
    parser.add_argument("--prune", action="store_true", help="have the worker remove keys and members that no row asks for")
    parser.add_argument("--max-prune", type=limit, default="5%", metavar="LIMIT",
                        help="remove nothing from a table of which this number, or share such as 20%%, would be exceeded; a share allows 10 (default: 5%%)")
    parser.add_argument("--examples", type=int, default=EXAMPLES, metavar="N", help="keys to name of each table, which are data (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")


def declared(config: Config, wanted: list[str]) -> list[str]:
    """The tables that a command is about. Raises ValueError for one that cannot be."""
    durable = [table.table for table in config.durable_tables]
    for name in wanted:
        if name not in durable:
            raise ValueError(f"{name} is not among the tables with durable delivery: {', '.join(durable) or 'there is none'}")
    return wanted or durable


def has_none(config: Config, wanted: list[str], work: str) -> bool:
    """Report on stderr that there is nothing to ``work`` at, when no table has durable delivery and none is ``wanted``; whether that is so."""
    if wanted or config.durable_tables:
        return False
    print(f"nothing to {work}: no table of the configuration has durable delivery", file=sys.stderr)
    return True


def without_triggers(name: str) -> str:
    return f"the database has no triggers for {name}; deploy them first (site.yml)"


def chosen(config: Config, synced_tables: dict[str, SyncedTable], wanted: list[str]) -> list[SyncedTable]:
    """The synced tables that a command is about. Raises ValueError for a table that cannot be."""
    names = declared(config, wanted)
    absent = [name for name in names if name not in synced_tables]
    if absent:
        raise ValueError(without_triggers(", ".join(absent)))
    return [synced_tables[name] for name in names]


def _mistake(config: Config, options: argparse.Namespace) -> str:
    if not 0.0 < options.sample <= 100.0:
        return f"--sample {options.sample:g} is no share: give more than 0 and at most 100"
    if options.quick and (options.prune or options.sample < 100.0):
        return "--quick looks at no keys of Redis by themselves, and takes no sample: leave --prune and --sample out"
    if options.examples < 0:
        return f"--examples must be 0 or more, not {options.examples}"
    return "" if config.mysql else "the configuration names no MySQL"


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 equal, 1 different, 2 could not tell."""
    if has_none(config, options.table or [], "compare"):
        if options.json:
            _say([], options)
        return EQUAL
    mistake = _mistake(config, options)
    if mistake or config.mysql is None:
        return _could_not_tell(mistake, options.json)
    database = Database(config.mysql, _STATEMENT, idle=600.0)
    target = open_target(config.redis, config.worker.io_timeout)
    try:
        reports = _Run(config, options, database, target).reports()
        if not options.quick:
            remember(database, reports, options.sample)
    except (DatabaseUnavailable, Unavailable, ValueError) as error:
        return _could_not_tell(str(error), options.json)
    except Exception as error:  # noqa: BLE001  # a status that says "different" would be a lie
        traceback.print_exc()
        return _could_not_tell(f"{type(error).__name__}: {error}", options.json)
    finally:
        database.close()
        target.close()
    _say(reports, options)
    return _status(reports)


def _could_not_tell(words: str, as_json: bool) -> int:
    print(f"could not tell: {words}", file=sys.stderr)
    if as_json:
        print(msgspec.json.encode({
            "time": time.time(), "status": COULD_NOT_TELL, "equal": False, "complete": False, "error": words, "tables": []}).decode())
    return COULD_NOT_TELL


def _status(reports: Sequence[Report]) -> int:
    if any(report.remaining for report in reports):
        return DIFFERENT
    return EQUAL if all(report.equal for report in reports) else COULD_NOT_TELL


def remember(database: Database, reports: list[Report], sample: float) -> None:
    """Keep what was found, for `gearsync status` and the exporter: the last result of a whole table, of a sample, and that nobody could tell."""
    for report in reports:
        kind = "failed" if report.error else "full" if sample >= 100.0 else "sample"
        # All kinds stand there, so that one that has ended is seen to have ended.
        different = {kind: report.remaining.get(kind, 0) for kind in KINDS}
        try:
            database.run(
                "REPLACE INTO gearsync.verification (table_name, kind, sample, rows_seen, different, unsettled, repaired, error)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                (report.table, kind, sample, report.rows, msgspec.json.encode(different), report.unsettled, report.repaired, report.error[:1000]))
        except DatabaseUnavailable as error:
            # What was found is told all the same.
            hint = "; the schema is of an earlier release, which site.yml migrates" if isinstance(error, StatementInvalid) else ""
            print(f"the result is not kept for gearsync status: {error}{hint}", file=sys.stderr)
            return


class _Run:
    """One verification of the chosen tables."""

    def __init__(self, config: Config, options: argparse.Namespace, database: Database, target: Target) -> None:
        """Raises ValueError for tables that cannot be verified, and DatabaseUnavailable."""
        self._config = config
        self._options = options
        self._database = database
        self._share = options.sample / 100.0
        self._patience = options.settle
        self._target = target
        self._servers = Servers(
            database, target.ask, lambda: target.scan(CHUNK), lambda key, scored: target.scan_members(key, scored, CHUNK), self._settle)
        self._names = declared(config, options.table or [])
        self._orphans: dict[str, _Spool] = {}
        self._files = contextlib.ExitStack()
        synced_tables = synced_table.load(database)
        hooks = transforms(config)
        self._verifiers = {
            table.table: Verifier(self._servers, table, synced_tables[table.table], hooks.get(table.table), options.examples)
            for table in config.durable_tables if table.table in synced_tables}
        self._unknown = [Expectation(table, []) for table in config.tables if table.table not in self._verifiers]
        self._absent = {name: Report(name, error=without_triggers(name)) for name in self._names if name not in self._verifiers}

    def _settle(self, table: str) -> None:
        if missing(self._config, self._database, self._target, [table], self._patience):
            seconds, self._patience = self._patience, min(self._patience, _IMPATIENT)
            raise Unsettled(f"changes of {table} have been waiting in the outbox for {seconds:g} s: {hindrance(self._config, self._target)}")

    def reports(self) -> list[Report]:
        """One for each chosen table: what is wrong with one, or with its rows, says nothing about the others."""
        chosen = [self._verifiers[name] for name in self._names if name in self._verifiers]
        try:
            with self._files, _bars(self._options.json) as bars:
                for verifier in chosen:
                    self._forward(verifier, bars)
                if not self._options.quick:
                    task = bars.add_task("Redis → MySQL", total=None)
                    looked_at = [verifier for verifier in chosen if not verifier.report.error]
                    others = [verifier for verifier in self._verifiers.values() if verifier not in looked_at]
                    self._backward(Declared(looked_at, others, self._unknown))
                    _finish(bars, task)
        except (DatabaseUnavailable, Unavailable) as error:
            # A server that is away is away for all of them.
            for verifier in chosen:
                verifier.report.error = verifier.report.error or str(error)
        return [self._absent.get(name) or self._verifiers[name].report for name in self._names]

    def _forward(self, verifier: Verifier, bars: Progress) -> None:
        """Raises DatabaseUnavailable and Unavailable when no other table can be looked at either."""
        with _only(verifier):
            words, total = f"{verifier.synced.table}: MySQL → Redis", estimate(self._database, verifier.synced) * self._share
            task = bars.add_task(words, total=total or None)
            with self._intact(verifier):
                for candidates in verifier.ends() if self._options.quick else verifier.forward(self._share):
                    self._handle(verifier, candidates)
                    bars.update(task, completed=verifier.report.rows)
            _finish(bars, task)

    @contextlib.contextmanager
    def _intact(self, verifier: Verifier) -> Iterator[None]:
        """Around a look at all rows: what Redis says of having lost nothing, before and after."""
        if not verifier.expectation.may_expire:
            yield
            return
        whole = Whole(self._target.ask, self._config.source, verifier.expectation.table)
        verifier.intact = whole.given()
        complete = self._share >= 1.0 and not self._options.quick
        if complete and not verifier.intact:
            whole.begin()
        yield
        if verifier.intact and not whole.given():
            verifier.report.error = "Redis has lost its data while the table was compared: gearsync resync --restart"
        elif complete and not verifier.intact and verifier.report.equal:
            whole.end()

    def _backward(self, declared: Declared) -> None:
        if not declared.chosen:
            return
        waiting: dict[str, list[Difference]] = {}
        for verifier, candidates in backward(declared, self._servers, self._share):
            found = waiting.setdefault(verifier.synced.table, [])
            found += candidates
            if len(found) >= CHUNK:
                self._note_orphans(verifier, waiting.pop(verifier.synced.table))
        for name, found in waiting.items():
            self._note_orphans(self._verifiers[name], found)
        if self._options.prune:
            for verifier in declared.chosen:
                self._prune(verifier, declared)

    def _note_orphans(self, verifier: Verifier, candidates: list[Difference]) -> None:
        if not verifier.report.error:
            with _only(verifier):
                found = verifier.note(verifier.confirm(candidates, orphans=True), mend=False)
                verifier.report.remaining.update(difference.kind for difference in found)
                if self._options.prune:
                    name = verifier.synced.table
                    if name not in self._orphans:
                        self._orphans[name] = _Spool(self._files.enter_context(tempfile.TemporaryFile()))  # noqa: SIM115  # it is closed with all others
                    self._orphans[name].add(found)

    def _prune(self, verifier: Verifier, declared: Declared) -> None:
        """Remove what was found, when all of it is known to be no more than may be removed."""
        report, most = verifier.report, self._options.max_prune
        number = report.remaining[ORPHANED]
        if not most.allows(number, report.walked):
            report.refused = (f"{number:,} of {report.walked:,} keys and members in Redis would be removed, more than --max-prune {most.words} allows; "
                              f"nothing was removed. If no row should have them, give --max-prune {number}")
        if report.may_prune:
            with _only(verifier):
                for orphans in self._orphans[report.table].read():
                    removed = len(orphans) - len(prune(orphans, verifier, declared))
                    report.repaired += removed
                    report.remaining[ORPHANED] -= removed
        # A kind of which nothing is left is none.
        report.remaining += type(report.remaining)()

    def _handle(self, verifier: Verifier, candidates: list[Difference]) -> None:
        mend = self._options.repair
        found = verifier.note(verifier.confirm(candidates, orphans=False), mend)
        left = verifier.repair(found, orphans=False) if mend else found
        verifier.report.repaired += len(found) - len(left)
        verifier.report.remaining.update(difference.kind for difference in left)


class _Spool:
    """Differences in a file, which may be more than memory holds."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, found: Sequence[Difference]) -> None:
        encoded = msgspec.msgpack.encode(found)
        self._file.write(b"%d\n%s" % (len(encoded), encoded))

    def read(self) -> Iterator[list[Difference]]:
        self._file.seek(0)
        for line in iter(self._file.readline, b""):
            yield [Difference(*each) for each in msgspec.msgpack.decode(self._file.read(int(line)))]


@contextlib.contextmanager
def _only(verifier: Verifier) -> Iterator[None]:
    """What is wrong with one table ends the look at that one."""
    try:
        yield
    except (*ABOUT_TABLE, NoKey, Refused, Unsettled) as error:
        verifier.report.error = str(error)
    except (DatabaseUnavailable, Unavailable):
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, the other tables can be looked at
        traceback.print_exc()
        verifier.report.error = f"{type(error).__name__}: {error}"


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


def _partial(report: Report, options: argparse.Namespace) -> list[str]:
    """What of a table was not compared, as far as it is known."""
    found = [f"{write} cannot be compared: it says nothing about a row as it is, or does not name the row" for write in report.unverifiable]
    found += [f"{write}: keys that no row asks for are not looked for, because they do not name the row" for write in report.untraced]
    found += [f"{report.absent:,} keys or members with a time to live, which are not in Redis: expired, or removed one by one"] if report.absent else []
    found += [f"{number:,} rows: {reason}" for reason, number in sorted(report.reasons.items())]
    found += [f"{report.shared:,} keys may be of another write, whose rows cannot be asked for"] if report.shared else []
    words = "keys or members, which can be taken apart in too many ways, or which MySQL refuses to look for"
    found += [f"{report.untraceable:,} {words}"] if report.untraceable else []
    found += [f"a sample of {options.sample:g} %"] if options.sample < 100.0 else []
    return found + (["only the first and the last rows, and no keys by themselves"] if options.quick else [])


def _say(reports: list[Report], options: argparse.Namespace) -> None:
    if options.json:
        answer = [
            {
                "table": report.table, "equal": report.equal, "rows": report.rows, "keys": report.keys, "different": dict(report.different),
                "repaired": report.repaired, "remaining": dict(+report.remaining), "unsettled": report.unsettled, "error": report.error or None,
                "refused": report.refused or None,
                "complete": not report.error and not _partial(report, options), "not_compared": _partial(report, options),
                "not_verifiable": report.unverifiable, "examples": [_words(found) for found in report.examples],
            }
            for report in reports
        ]
        status = _status(reports)
        print(msgspec.json.encode({
            "time": time.time(), "status": status, "equal": status == EQUAL, "complete": all(table["complete"] for table in answer), "tables": answer,
        }).decode())
        return
    for report in reports:
        print(f"{report.table}: {_result(report)} ({report.rows:,} rows, {report.keys:,} comparisons)")
        for found in report.examples:
            words = _words(found)
            print(f"    {words['kind'].replace('_', ' ')}: {words['key']}" + (f" member {words['member']}" if "member" in words else ""))
        for reason in _partial(report, options):
            print(f"    not compared: {reason}")


def _result(report: Report) -> str:
    found = ", ".join(f"{number:,} {kind.replace('_', ' ')}" for kind, number in sorted(report.different.items()))
    parts = [found] if found else [] if report.error or report.unsettled else ["equal"]
    parts += [f"{report.repaired:,} mended"] if report.repaired else []
    parts += [f"{report.unsettled:,} rows could not be compared"] if report.unsettled else []
    parts += [f"not pruned: {report.refused}"] if report.refused else []
    parts += [f"could not tell: {report.error}"] if report.error else []
    return "; ".join(parts)
