# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync verify`: compares the declared tables with Redis, and repairs what differs."""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
from collections.abc import Sequence

from gearsync.apply.agreed_term import require_drained
from gearsync.cli.durable_tables import has_none
from gearsync.cli.prune_limit import prune_limit
from gearsync.cli.verify_output import EQUAL, NOT_COMPARED, exit_status, failure_as_json, show
from gearsync.cli.verify_run import VerifyRun
from gearsync.declare.configuration import Config
from gearsync.operate.verify.report import Report
from gearsync.operate.verify.stored_results import store
from gearsync.operate.verify.table_verifier import EXAMPLES
from gearsync.outbox.lost_tables import Marks, marks, unmark
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, StatementInvalid
from gearsync.servers.primary import open_database
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target, open_target

#: Seconds that a statement of the verification may take, and that changes on their way are waited for.
_STATEMENT = 60.0
_SETTLE = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_selection(parser)
    _add_repairs(parser)
    parser.add_argument(
        "--examples",
        type=int,
        default=EXAMPLES,
        metavar="N",
        help="show N keys of each table; keys contain data (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--table",
        action="append",
        metavar="SCHEMA.TABLE",
        help="only this table; can be repeated (default: all with durable delivery)",
    )
    parser.add_argument(
        "--sample",
        type=float,
        default=100.0,
        metavar="PERCENT",
        help="compare this share of the rows and keys (default: %(default)g)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="compare only the first and the last thousand rows of each table, which takes a moment",
    )
    parser.add_argument(
        "--settle",
        type=float,
        default=_SETTLE,
        metavar="S",
        help="wait S seconds for changes on their way to Redis (default: %(default)g)",
    )


def _add_repairs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repair",
        action="store_true",
        help="have the worker write again what is missing, stale or of another type",
    )
    parser.add_argument(
        "--prune", action="store_true", help="have the worker remove keys and members that no row asks for"
    )
    parser.add_argument(
        "--max-prune",
        type=prune_limit,
        default="5%",
        metavar="LIMIT",
        help="remove nothing from a table of which more than this number, or share such as 20%%, would "
        "be removed; a share always allows 10 (default: 5%%)",
    )


def _wrong_options(config: Config, options: argparse.Namespace) -> str:
    if not 0.0 < options.sample <= 100.0:
        return f"--sample {options.sample:g} is not a share: give more than 0 and at most 100"
    if options.quick and (options.prune or options.sample < 100.0):
        return "--quick does not walk the keys of Redis and takes no sample: leave out --prune and --sample"
    if options.examples < 0:
        return f"--examples must be 0 or more, not {options.examples}"
    return "" if config.mysql else "the configuration has no MySQL server: add mysql"


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 equal, 1 different, 2 when not everything could be compared."""
    if has_none(config, options.table or [], "compare"):
        if options.json:
            show([], options)
        return EQUAL
    problem = _wrong_options(config, options)
    if problem or config.mysql is None:
        return _not_compared(problem, options.json)
    database = open_database(config.mysql, _STATEMENT, idle=600.0)
    target = open_target(config.redis, config.worker.io_timeout)
    try:
        require_drained(config, database, target)
        lost = _marks(config, target)
        reports = VerifyRun(config, options, database, target).reports()
        if not options.quick:
            _store(database, reports, options.sample)
        if not options.quick and options.sample >= 100.0:
            for report in reports:
                if report.equal:
                    unmark(target, config.source, report.table, lost)
    except (DatabaseUnavailable, Unavailable, ValueError) as error:
        return _not_compared(str(error), options.json)
    except Exception as error:  # noqa: BLE001  # Python's own status 1 would mean "different"
        traceback.print_exc()
        return _not_compared(f"{type(error).__name__}: {error}", options.json)
    finally:
        database.close()
        target.close()
    show(reports, options)
    return exit_status(reports)


def _marks(config: Config, target: Target) -> Marks:
    """The marks of lost changes; none when Redis does not answer, which the verification reports."""
    with contextlib.suppress(Unavailable):
        return marks(target, config.source)
    return {}


def _not_compared(error: str, as_json: bool) -> int:
    print(f"could not compare: {error}", file=sys.stderr)
    if as_json:
        print(failure_as_json(error))
    return NOT_COMPARED


def _store(database: Database, reports: Sequence[Report], sample: float) -> None:
    try:
        store(database, reports, sample)
    except DatabaseUnavailable as error:
        # The results are printed all the same.
        hint = (
            "; the schema is of an earlier release: run site.yml"
            if isinstance(error, StatementInvalid)
            else ""
        )
        print(f"the result is not stored for gearsync status: {error}{hint}", file=sys.stderr)
