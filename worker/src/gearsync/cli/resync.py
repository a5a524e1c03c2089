# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync resync`: loads tables one after the other."""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Iterator
from typing import Callable

import msgspec

from gearsync.apply.agreed_term import require_drained
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
from gearsync.servers.primary import open_database
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target, open_target

DONE, FAILED = 0, 1
#: Seconds that a statement may take.
_STATEMENT = 60.0
#: Seconds until MySQL is tried again, and how often it is.
_AGAIN = 1.0
_ATTEMPTS = 60
#: What to do after an error.
_CONTINUE = "Start it again, and it continues where it stopped"
#: How often a load starts over because Redis was emptied meanwhile.
_LOSSES = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_selection(parser)
    _add_limits(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only show which tables would be loaded, and where an interrupted run would continue",
    )
    parser.add_argument(
        "--restart", action="store_true", help="start over instead of continuing an interrupted run"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        action="append",
        metavar="SCHEMA.TABLE",
        help="only this table; can be repeated (default: all with durable delivery)",
    )
    parser.add_argument(
        "--new",
        action="store_true",
        help="only tables that were never loaded completely as they are declared now",
    )
    parser.add_argument("--where", default="", metavar="SQL", help="only rows that meet this condition")


def _add_speed(parser: argparse.ArgumentParser, usual: Limits) -> None:
    parser.add_argument(
        "--chunk",
        type=int,
        default=usual.chunk,
        metavar="N",
        help="rows of one transaction, at most (default: %(default)s)",
    )
    parser.add_argument(
        "--nice-ratio",
        type=float,
        default=usual.nice_ratio,
        metavar="F",
        help="sleep F times as long as a transaction took before the next one (default: %(default)s)",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=usual.rate,
        metavar="R",
        help="rows per second, at most (default: no limit)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    usual = Limits()
    _add_speed(parser, usual)
    parser.add_argument(
        "--max-depth",
        type=int,
        default=usual.depth,
        metavar="N",
        help="wait while the outbox holds more rows (default: %(default)s)",
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=usual.patience,
        metavar="S",
        help="give up when the workers have taken none of these rows for S seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--replica",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="watch the lag of this replica, with the worker's account; can be repeated",
    )
    parser.add_argument(
        "--max-lag",
        type=float,
        default=5.0,
        metavar="S",
        help="wait while a watched replica is more than S seconds behind (default: %(default)g)",
    )
    parser.add_argument(
        "--wait",
        type=float,
        default=60.0,
        metavar="S",
        help="wait S seconds for the workers to take the last rows, 0 to not wait (default: %(default)g)",
    )


def _wrong_options(config: Config, options: argparse.Namespace) -> str:
    if config.mysql is None:
        return "the configuration has no MySQL server: add mysql"
    for name, value, least in (
        ("--chunk", options.chunk, 1),
        ("--nice-ratio", options.nice_ratio, 0),
        ("--rate", options.rate, 0),
        ("--max-depth", options.max_depth, 1),
        ("--patience", options.patience, 0),
    ):
        # Also refuses NaN, which is not less than anything.
        if not value >= least:
            return f"{name} must be {least} or more, not {value:g}"
    if options.max_lag <= 0:
        return f"--max-lag must be more than 0, not {options.max_lag:g}"
    for address in options.replica:
        try:
            parse_address(address)
        except ValueError:
            return f"--replica {address!r} is not an address: write host, host:port or [v6]:port"
    return ""


def _limits(config: Config, options: argparse.Namespace, replicas: list[Database]) -> Limits:
    return Limits(
        chunk=options.chunk,
        nice_ratio=options.nice_ratio,
        rate=options.rate,
        depth=options.max_depth,
        # Applied rows stay in the outbox for a while.
        patience=options.patience + config.worker.keep,
        tables=[table.table for table in config.tables],
        max_lag=options.max_lag if replicas else 0.0,
        lag=lambda: max((replica_lag(replica) for replica in replicas), default=0.0),
    )


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 when all tables are loaded, 1 when one is not, or when changes of one became
    dead letters meanwhile.
    """
    if has_none(config, options.table or [], "load"):
        return DONE
    problem = _wrong_options(config, options)
    if problem or config.mysql is None:
        print(problem, file=sys.stderr)
        return FAILED
    database = open_database(config.mysql, _STATEMENT, idle=60.0)
    target = open_target(config.redis, config.worker.io_timeout)
    replicas = [
        Database(_replica(config.mysql, address), config.worker.io_timeout, idle=60.0, any_state=True)
        for address in options.replica
    ]
    try:
        require_drained(config, database, target)
        return _load(config, options, database, target, _limits(config, options, replicas))
    except Busy as error:
        print(error, file=sys.stderr)
    except Stuck as error:
        print(f"not loaded: {error}: {hindrance(config, target)}\n{_CONTINUE}.", file=sys.stderr)
    except (DatabaseUnavailable, Unavailable, LostMeanwhile) as error:
        print(f"not loaded: {error}\n{_CONTINUE}, unless Redis has lost its data meanwhile.", file=sys.stderr)
    except (NoKey, ValueError) as error:
        print(f"not loaded: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"interrupted\n{_CONTINUE}.", file=sys.stderr)
    finally:
        for server in (database, *replicas):
            server.close()
        target.close()
    return FAILED


def _load(
    config: Config, options: argparse.Namespace, database: Database, target: Target, limits: Limits
) -> int:
    """The exit status. Raises everything that ends a resync."""
    tables = {table.table: table for table in config.tables}

    def store(synced: SyncedTable) -> RunStore:
        marker = RunMarker(target, config.source, synced.table, options.where)
        return RunStore(database, synced, load_hash(tables[synced.table], synced), options.where, marker)

    def make(name: str, restart: bool) -> TableResync:
        # As it is deployed by now.
        (synced,) = deployed(config, synced_table.load(database), [name])
        return TableResync(database, store(synced), limits, restart)

    stores = [store(synced) for synced in deployed(config, synced_table.load(database), options.table or [])]
    if options.new:
        new = never_loaded(database, {each.synced.table: each.load_hash for each in stores})
        stores = [each for each in stores if each.synced.table in new]
    if options.dry_run:
        _show_plan(database, stores, options)
        return DONE
    began: dict[str, str] = {}
    with shown(options.json) as show:
        for name in [each.synced.table for each in stores]:
            for resync, progress in _runs(functools.partial(make, name), options.restart):
                began[name] = resync.begun.started
                show(progress)
    status = _wait(config, database, target, list(began), options.wait) if began and options.wait else DONE
    return _report_letters(database, began) or status


def _show_plan(database: Database, stores: list[RunStore], options: argparse.Namespace) -> None:
    """Print which tables would be loaded."""
    for store in stores:
        table, rows = store.synced.table, estimated_rows(database, store.synced)
        interrupted = None if options.restart else store.interrupted()
        done, reason = (interrupted.rows, interrupted.reason) if interrupted else (0, "")
        if options.json:
            print(
                msgspec.json.encode(
                    {"table": table, "estimate": rows, "rows": done, "words": reason}
                ).decode()
            )
        else:
            print(f"{table}: about {rows:,} rows" + (f"; it {reason}" if reason else ""))


def _wait(config: Config, database: Database, target: Target, tables: list[str], seconds: float) -> int:
    """Wait until everything that was loaded is in Redis."""
    waiting = missing(config, database, target, tables, seconds)
    if not waiting:
        return DONE
    print(
        f"all rows are in the outbox, but after {seconds:g} s changes of {', '.join(sorted(waiting))} still "
        f"wait there: {hindrance(config, target)};"
        " gearsync barrier waits longer",
        file=sys.stderr,
    )
    return FAILED


def _report_letters(database: Database, began: dict[str, str]) -> int:
    """Report the changes that became dead letters since each table's run began; the exit status."""
    letters = {table: letters_since(database, table, moment) for table, moment in began.items()}
    for table, number in letters.items():
        if number:
            print(
                f"{table}: {number:,} changes became dead letters since the load began, so that Redis lacks "
                "them:"
                f" see gearsync dead-letter list --table {table}",
                file=sys.stderr,
            )
    return FAILED if any(letters.values()) else DONE


def _replica(settings: MySQLSettings, address: str) -> MySQLSettings:
    host, port = parse_address(address, settings.port)
    return msgspec.structs.replace(settings, host=host, port=port, unix_socket=None, members=[])


def _runs(make: Callable[[bool], TableResync], restart: bool) -> Iterator[tuple[TableResync, Progress]]:
    """One table's progress, across lost connections and new declarations. Raises errors that do not end
    by themselves.
    """
    failures, lost, begun = 0, 0, False
    while True:
        try:
            resync = make(restart)
            begun = True
            if resync.begun.reason:
                print(f"{resync.synced.table}: {resync.begun.reason}", file=sys.stderr, flush=True)
            # From here on an interrupted run continues: what is loaded is not loaded again.
            restart = False
            for progress in resync.run():
                failures = 0
                yield resync, progress
            return
        except Redeclared as error:
            print(f"{error}: the load continues with the new declaration", file=sys.stderr, flush=True)
        except LostMeanwhile as error:
            lost += 1
            if lost > _LOSSES:
                raise
            print(f"{error}: the load starts over", file=sys.stderr, flush=True)
            restart = True
        except (DatabaseUnavailable, Unavailable, Busy) as error:
            # The lock of the connection that was lost may still be held.
            if not begun and not isinstance(error, DatabaseUnavailable):
                raise
            failures += 1
            if isinstance(error, StatementInvalid) or failures > _ATTEMPTS:
                raise
            time.sleep(_AGAIN)
