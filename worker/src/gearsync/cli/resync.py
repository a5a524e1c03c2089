"""`gearsync resync`: runs resyncs one table after the other and shows how far they are, for people or for machines."""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Iterator
from typing import Callable

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from gearsync.cli.durable_tables import deployed, has_none
from gearsync.declare.configuration import Config, MySQLSettings, parse_address
from gearsync.operate.resync import (
    Busy,
    Limits,
    LostMeanwhile,
    Mark,
    Progress,
    Redeclared,
    Resync,
    Store,
    Stuck,
    estimate,
    letters_since,
    never_loaded,
    replica_lag,
    shape,
)
from gearsync.operate.selftest import hindrance
from gearsync.outbox import synced_table
from gearsync.outbox.applied import missing
from gearsync.outbox.synced_table import NoKey, SyncedTable
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target, open_target

DONE, FAILED = 0, 1
#: Seconds that a statement may take; between two lines of progress without a terminal; until MySQL is tried again.
_STATEMENT = 60.0
_LINES = 5.0
_AGAIN = 1.0
_ATTEMPTS = 60
#: How often a table is loaded anew because Redis was emptied meanwhile.
_LOSSES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    usual = Limits()
    parser.add_argument("--table", action="append", metavar="SCHEMA.TABLE", help="only this table; may be given again (default: all durable ones)")
    parser.add_argument("--new", action="store_true", help="only tables that were never loaded as a whole as they are declared now")
    parser.add_argument("--where", default="", metavar="SQL", help="only rows that meet this condition")
    parser.add_argument("--chunk", type=int, default=usual.chunk, metavar="N", help="rows of one transaction at most (default: %(default)s)")
    parser.add_argument("--nice-ratio", type=float, default=usual.nice_ratio, metavar="F",
                        help="sleep F times as long as a transaction took, before the next one (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=usual.rate, metavar="R", help="rows per second at most (default: no limit)")
    parser.add_argument("--max-depth", type=int, default=usual.depth, metavar="N", help="wait while the outbox holds more rows (default: %(default)s)")
    parser.add_argument("--patience", type=float, default=usual.patience, metavar="S",
                        help="give up when the workers have taken none of these rows for so long (default: %(default)g)")
    parser.add_argument("--replica", action="append", default=[], metavar="HOST[:PORT]", help="watch this replica's lag, with the worker's account")
    parser.add_argument("--max-lag", type=float, default=5.0, metavar="S", help="wait while a watched replica is further behind (default: %(default)g)")
    parser.add_argument("--wait", type=float, default=60.0, metavar="S", help="for the workers to take the last rows; 0 for not at all (default: %(default)g)")
    parser.add_argument("--dry-run", action="store_true", help="only tell which tables would be loaded, and where an interrupted run would go on")
    parser.add_argument("--restart", action="store_true", help="begin anew where an interrupted run would go on")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def _mistake(config: Config, options: argparse.Namespace) -> str:
    if config.mysql is None:
        return "the configuration names no MySQL"
    for name, value, least in (("--chunk", options.chunk, 1), ("--nice-ratio", options.nice_ratio, 0), ("--rate", options.rate, 0),
                               ("--max-depth", options.max_depth, 1), ("--patience", options.patience, 0)):
        # A number that is none is not less than any.
        if not value >= least:
            return f"{name} must be {least} or more, not {value:g}"
    if options.max_lag <= 0:
        return f"--max-lag must be more than 0, not {options.max_lag:g}"
    for address in options.replica:
        try:
            parse_address(address)
        except ValueError:
            return f"--replica {address!r} is no address; write host, host:port or [v6]:port"
    return ""


def _limits(config: Config, options: argparse.Namespace, replicas: list[Database]) -> Limits:
    return Limits(
        chunk=options.chunk, nice_ratio=options.nice_ratio, rate=options.rate, depth=options.max_depth,
        # What is applied is kept for a while.
        patience=options.patience + config.worker.keep, tables=[table.table for table in config.tables],
        max_lag=options.max_lag if replicas else 0.0, lag=lambda: max((replica_lag(replica) for replica in replicas), default=0.0),
    )


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 when all tables are done, 1 when one is not, or when changes of one became dead letters meanwhile."""
    if has_none(config, options.table or [], "load"):
        return DONE
    mistake = _mistake(config, options)
    if mistake or config.mysql is None:
        print(mistake, file=sys.stderr)
        return FAILED
    database = Database(config.mysql, _STATEMENT, idle=60.0)
    target = open_target(config.redis, config.worker.io_timeout)
    replicas = [Database(_replica(config.mysql, address), config.worker.io_timeout, idle=60.0) for address in options.replica]
    try:
        return _load(config, options, database, target, _limits(config, options, replicas))
    except Busy as error:
        print(error, file=sys.stderr)
    except Stuck as error:
        print(f"not done: {error}: {hindrance(config, target)}. Started again, it goes on where it stopped.", file=sys.stderr)
    except (DatabaseUnavailable, Unavailable, LostMeanwhile, NoKey, ValueError) as error:
        print(f"not done: {error}. Started again, it goes on where it stopped, unless Redis has lost its data meanwhile.", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted. Started again, it goes on where it stopped.", file=sys.stderr)
    finally:
        for server in (database, *replicas):
            server.close()
        target.close()
    return FAILED


def _load(config: Config, options: argparse.Namespace, database: Database, target: Target, limits: Limits) -> int:
    """The exit status. Raises what the parts raise."""
    tables = {table.table: table for table in config.tables}

    def store(found: SyncedTable) -> Store:
        return Store(database, found, shape(tables[found.table], found), options.where, Mark(target, config.source, found.table, options.where))

    def make(table: str, again: bool) -> Resync:
        # As it is declared by now.
        (found,) = deployed(config, synced_table.load(database), [table])
        return Resync(database, store(found), limits, again)

    stores = [store(found) for found in deployed(config, synced_table.load(database), options.table or [])]
    if options.new:
        new = never_loaded(database, {store.synced.table: store.shape for store in stores})
        stores = [store for store in stores if store.synced.table in new]
    if options.dry_run:
        _tell(database, stores, options)
        return DONE
    began: dict[str, str] = {}
    with _shown(options.json) as show:
        for each in stores:
            table = each.synced.table
            for resync, progress in _runs(functools.partial(make, table), options.restart):
                began[table] = resync.begun.started
                show(progress)
    status = _wait(config, database, target, list(began), options.wait) if began and options.wait else DONE
    return _tell_letters(database, began) or status


def _tell(database: Database, stores: list[Store], options: argparse.Namespace) -> None:
    """What a run would do."""
    for store in stores:
        rows, begun = estimate(database, store.synced), None if options.restart else store.interrupted()
        if options.json:
            words = {"table": store.synced.table, "estimate": rows, "rows": begun.rows if begun else 0, "words": begun.words if begun else ""}
            print(msgspec.json.encode(words).decode())
        else:
            print(f"{store.synced.table}: about {rows:,} rows" + (f"; it {begun.words}" if begun and begun.words else ""))


def _wait(config: Config, database: Database, target: Target, tables: list[str], seconds: float) -> int:
    """Wait until what was loaded is in Redis."""
    found = missing(config, database, target, tables, seconds)
    if not found:
        return DONE
    print(f"all rows are in the outbox, but after {seconds:g} s changes of {', '.join(sorted(found))} wait there: {hindrance(config, target)}; gearsync barrier"
          " waits on", file=sys.stderr)
    return FAILED


def _tell_letters(database: Database, began: dict[str, str]) -> int:
    """Which tables have dead letters of a time since their runs began; the exit status."""
    found = {table: letters_since(database, table, moment) for table, moment in began.items()}
    for table, number in found.items():
        if number:
            print(f"{table}: {number:,} changes became dead letters since it began, so that Redis lacks them; gearsync dead-letter list --table {table}"
                  " says why", file=sys.stderr)
    return FAILED if any(found.values()) else DONE


def _replica(settings: MySQLSettings, address: str) -> MySQLSettings:
    host, port = parse_address(address, settings.port)
    return MySQLSettings(user=settings.user, password=settings.password, host=host, port=port)


def _runs(make: Callable[[bool], Resync], again: bool) -> Iterator[tuple[Resync, Progress]]:
    """One table's progress, over lost connections and new declarations. Raises what does not end by itself."""
    failures, lost, begun = 0, 0, False
    while True:
        try:
            resync = make(again)
            begun = True
            if resync.begun.words:
                print(f"{resync.synced.table}: {resync.begun.words}", file=sys.stderr, flush=True)
            # From here on an interruption is one: what is done is not done again.
            again = False
            for progress in resync.run():
                failures = 0
                yield resync, progress
            return
        except Redeclared as error:
            print(f"{error}: it goes on by the new declaration", file=sys.stderr, flush=True)
        except LostMeanwhile as error:
            lost += 1
            if lost > _LOSSES:
                raise
            print(f"{error}: it begins anew", file=sys.stderr, flush=True)
            again = True
        except (DatabaseUnavailable, Unavailable, Busy) as error:
            # Our own lock may still be there, of the connection that was lost.
            if not begun and not isinstance(error, DatabaseUnavailable):
                raise
            failures += 1
            if isinstance(error, StatementInvalid) or failures > _ATTEMPTS:
                raise
            time.sleep(_AGAIN)


@contextlib.contextmanager
def _shown(as_json: bool) -> Iterator[Callable[[Progress], None]]:
    console = Console(stderr=True)
    if console.is_terminal and not as_json:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
                   TextColumn("{task.fields[waiting]}"))
        with Bars(*columns, console=console) as bars:
            yield _Bar(bars)
    else:
        yield _Lines(as_json)


class _Rate:
    """Rows per second since this run began."""

    def __init__(self, progress: Progress) -> None:
        self._began, self._first = time.monotonic(), progress.rows

    def of(self, progress: Progress) -> float:
        return (progress.rows - self._first) / max(time.monotonic() - self._began, 1e-6)


class _Bar:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, tuple[int, _Rate]] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.table not in self._tasks:
            self._tasks[progress.table] = (self._bars.add_task(progress.table, total=progress.estimate, rate="", waiting=""), _Rate(progress))
        task, rate = self._tasks[progress.table]
        # The estimate may be far off; a bar that is full before the end would be a lie.
        total = progress.rows if progress.done else max(progress.estimate, progress.rows + 1)
        waiting = f"waits for {progress.waiting}" if progress.waiting else ""
        self._bars.update(task, completed=progress.rows, total=total, rate=f"{rate.of(progress):,.0f} rows/s", waiting=waiting)  # type: ignore[arg-type]


class _Lines:
    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._next = 0.0
        self._rates: dict[str, _Rate] = {}

    def __call__(self, progress: Progress) -> None:
        rate = self._rates.setdefault(progress.table, _Rate(progress))
        if not progress.done and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LINES
        speed = rate.of(progress)
        left = max(progress.estimate - progress.rows, 0) / speed if speed and not progress.done else 0.0
        if self._json:
            print(msgspec.json.encode({
                "table": progress.table, "rows": progress.rows, "estimate": progress.estimate, "rows_per_second": round(speed, 1),
                "seconds_left": round(left, 1), "waiting_for": progress.waiting or None, "done": progress.done,
            }).decode(), flush=True)
        elif progress.done:
            print(f"{progress.table}: done, {progress.rows:,} rows at {speed:,.0f} rows/s", flush=True)
        else:
            waiting = f", waits for {progress.waiting}" if progress.waiting else ""
            print(f"{progress.table}: {progress.rows:,} of about {progress.estimate:,} rows, {speed:,.0f} rows/s, {left:.0f} s left{waiting}", flush=True)
