# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync dead-letter`: list, show, retry and drop changes that could not be applied."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from gearsync.apply.agreed_term import require_drained
from gearsync.cli import sources
from gearsync.declare.configuration import Config
from gearsync.outbox import synced_table
from gearsync.outbox.dead_letter import DeadLetters, Letter, Outcome
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable
from gearsync.servers.primary import open_database
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import open_target
from gearsync.shapes import TYPES

DONE, NOT_ALL, WRONG_USE = 0, 1, 2
#: Seconds that a statement may take.
_STATEMENT = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    parsers = {
        "list": actions.add_parser("list", help="list the newest ones, a line each"),
        "show": actions.add_parser("show", help="show one with the values of its row"),
        "retry": actions.add_parser(
            "retry", help="have their rows read and written again, after the cause was repaired"
        ),
        "drop": actions.add_parser("drop", help="delete them"),
    }
    for action in parsers.values():
        sources.add_arguments(action, nested=True)
        action.add_argument("--json", action="store_true", help="print JSON")
    parsers["show"].add_argument("id", type=int)
    parsers["list"].add_argument(
        "--limit", type=int, default=50, metavar="N", help="at most so many (default: %(default)s)"
    )
    for name in ("retry", "drop"):
        parsers[name].add_argument("id", type=int, nargs="*")
        parsers[name].add_argument("--all", action="store_true", help="all of them, or all of --table")
    for name in ("list", "retry", "drop"):
        parsers[name].add_argument(
            "--table", default="", metavar="SCHEMA.TABLE", help="only those of this table"
        )
    parsers["retry"].add_argument(
        "--append",
        action="store_true",
        help="also append the change to its lists and streams, which then have it twice unless just "
        "this had failed",
    )
    parsers["drop"].add_argument("--yes", action="store_true", help="confirm that all are deleted")


def _wrong_options(config: Config, options: argparse.Namespace) -> str:
    if config.mysql is None:
        return "the configuration has no MySQL server: add mysql"
    if options.action == "list" and options.limit < 1:
        return f"--limit must be 1 or more, not {options.limit}"
    if options.action in ("retry", "drop"):
        if bool(options.id) == options.all:
            return "give the ids of dead letters, or --all"
        if options.id and options.table:
            return "--table has no effect beside ids: give it with --all"
    if options.action == "drop" and options.all and not options.yes:
        return "this deletes all of them, which cannot be undone: confirm it with --yes"
    return ""


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 done, 1 not done for all of them, 2 wrong options, no access to MySQL or Redis, or a
    server that is not the one that is drained.
    """
    problem = _wrong_options(config, options)
    if problem or config.mysql is None:
        print(problem, file=sys.stderr)
        return WRONG_USE
    database = open_database(config.mysql, _STATEMENT, idle=120.0)
    letters = DeadLetters(database)
    try:
        if options.action == "list":
            return _list(letters, options)
        if options.action == "show":
            return _show(letters, options)
        _require_drained(config, database)
        ids = sorted(set(options.id)) or letters.ids(options.table)
        if options.action == "drop":
            return _report(letters.drop(ids), "dropped", options.json)
        logged = [
            table.table for table in config.tables if any(TYPES[write.type].is_log for write in table.write)
        ]
        status = _report(
            letters.retry(ids, synced_table.load(database), logged if options.append else ()),
            "tried again",
            options.json,
        )
        if logged and not options.append and not options.json:
            print(
                f"nothing was appended to the lists and streams of {', '.join(logged)}: that needs --append"
            )
        return status
    except DatabaseUnavailable as error:
        print(f"MySQL: {error}", file=sys.stderr)
        return WRONG_USE
    except Unavailable as error:
        print(f"nothing was changed: {error}", file=sys.stderr)
        return WRONG_USE
    finally:
        database.close()


def _require_drained(config: Config, database: Database) -> None:
    """A former primary is not written to: it could not become a replica again. Raises DatabaseUnavailable and
    Unavailable.
    """
    target = open_target(config.redis, config.worker.io_timeout)
    try:
        require_drained(config, database, target)
    finally:
        target.close()


def _as_builtins(letter: Letter) -> dict[str, Any]:
    try:
        payload: Any = letter.payload.decode()
    except UnicodeDecodeError:
        payload = {"$hex": letter.payload.hex()}
    return {**letter._asdict(), "payload": payload}


def _list(letters: DeadLetters, options: argparse.Namespace) -> int:
    newest, number = letters.newest(options.limit, options.table), letters.count(options.table)
    if options.json:
        listed = [
            {name: value for name, value in _as_builtins(letter).items() if name != "payload"}
            for letter in newest
        ]
        print(msgspec.json.encode({"total": number, "letters": listed}).decode())
        return DONE
    for letter in newest:
        print(
            f"{letter.id}  {letter.failed_at[:19]}  {letter.operation:<7}  {letter.table}: "
            f"{letter.error.partition(chr(10))[0]}"
        )
    if number > len(newest):
        print(f"and {number - len(newest):,} older ones; --limit shows more")
    if not number:
        print("there are no dead letters")
    return DONE


def _show(letters: DeadLetters, options: argparse.Namespace) -> int:
    letter = letters.show(options.id)
    if letter is None:
        print(f"there is no dead letter {options.id}", file=sys.stderr)
        return NOT_ALL
    members = _as_builtins(letter)
    if options.json:
        print(msgspec.json.encode(members).decode())
    else:
        print("\n".join(f"{name:<11} {value}" for name, value in members.items()))
    return DONE


def _report(outcomes: Iterable[Outcome], done: str, as_json: bool) -> int:
    number, failed = 0, 0
    for outcome in outcomes:
        if as_json:
            print(
                msgspec.json.encode(
                    {"id": outcome.id, "ok": outcome.problem is None, "mistake": outcome.problem}
                ).decode()
            )
        elif outcome.problem is not None:
            print(f"{outcome.id}: not {done}: {outcome.problem}", file=sys.stderr)
        number += outcome.problem is None
        failed += outcome.problem is not None
    if not as_json:
        print(f"{number:,} {done}" if number or not failed else "none")
    return NOT_ALL if failed else DONE
