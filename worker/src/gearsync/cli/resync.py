"""`gearsync resync`: loads tables one after the other."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Iterator
from typing import Callable

import msgspec

from gearsync.cli.durable_tables import deployed, has_none
from gearsync.cli.resync_progress import shown
from gearsync.declare.configuration import Config, MySQLSettings, parse_address
from gearsync.operate.resync.errors import Busy, LostMeanwhile, Redeclared, Stuck
from gearsync.operate.resync.limits import Limits, replica_lag
from gearsync.operate.resync.run_store import RunMarker, RunStore, letters_since, load_hash, never_loaded
from gearsync.operate.resync.table_resync import Progress, TableResync
from gearsync.operate.selftest import hindrance
from gearsync.operate.table_size import estimated_rows
from gearsync.outbox import synced_table
from gearsync.outbox.applied import missing
from gearsync.outbox.synced_table import NoKey, SyncedTable
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target, open_target

DONE, FAILED = 0, 1
#: Seconds that a statement may take.
_STATEMENT = 60.0
#: Seconds until MySQL is tried again, and how often it is.
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

    def store(table: SyncedTable) -> RunStore:
        marker = RunMarker(target, config.source, table.table, options.where)
        return RunStore(database, table, load_hash(tables[table.table], table), options.where, marker)

    def make(name: str, restart: bool) -> TableResync:
        # As it is deployed by now.
        (table,) = deployed(config, synced_table.load(database), [name])
        return TableResync(database, store(table), limits, restart)

    stores = [store(table) for table in deployed(config, synced_table.load(database), options.table or [])]
    if options.new:
        new = never_loaded(database, {each.table.table: each.load_hash for each in stores})
        stores = [each for each in stores if each.table.table in new]
    if options.dry_run:
        _show_plan(database, stores, options)
        return DONE
    began: dict[str, str] = {}
    with shown(options.json) as show:
        for name in [each.table.table for each in stores]:
            for resync, progress in _runs(functools.partial(make, name), options.restart):
                began[name] = resync.begun.started
                show(progress)
    status = _wait(config, database, target, list(began), options.wait) if began and options.wait else DONE
    return _report_letters(database, began) or status


def _show_plan(database: Database, stores: list[RunStore], options: argparse.Namespace) -> None:
    """Print which tables would be loaded."""
    for store in stores:
        table, rows = store.table.table, estimated_rows(database, store.table)
        interrupted = None if options.restart else store.interrupted()
        done, reason = (interrupted.rows, interrupted.reason) if interrupted else (0, "")
        if options.json:
            print(msgspec.json.encode({"table": table, "estimate": rows, "rows": done, "words": reason}).decode())
        else:
            print(f"{table}: about {rows:,} rows" + (f"; it {reason}" if reason else ""))


def _wait(config: Config, database: Database, target: Target, tables: list[str], seconds: float) -> int:
    """Wait until what was loaded is in Redis."""
    found = missing(config, database, target, tables, seconds)
    if not found:
        return DONE
    print(f"all rows are in the outbox, but after {seconds:g} s changes of {', '.join(sorted(found))} wait there: {hindrance(config, target)}; gearsync barrier"
          " waits on", file=sys.stderr)
    return FAILED


def _report_letters(database: Database, began: dict[str, str]) -> int:
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


def _runs(make: Callable[[bool], TableResync], restart: bool) -> Iterator[tuple[TableResync, Progress]]:
    """One table's progress, over lost connections and new declarations. Raises what does not end by itself."""
    failures, lost, begun = 0, 0, False
    while True:
        try:
            resync = make(restart)
            begun = True
            if resync.begun.reason:
                print(f"{resync.table.table}: {resync.begun.reason}", file=sys.stderr, flush=True)
            # From here on an interruption is one: what is done is not done again.
            restart = False
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
            restart = True
        except (DatabaseUnavailable, Unavailable, Busy) as error:
            # Our own lock may still be there, of the connection that was lost.
            if not begun and not isinstance(error, DatabaseUnavailable):
                raise
            failures += 1
            if isinstance(error, StatementInvalid) or failures > _ATTEMPTS:
                raise
            time.sleep(_AGAIN)
