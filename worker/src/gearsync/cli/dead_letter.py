"""`gearsync dead-letter`: list, show, retry and drop changes that could not be applied."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

import msgspec

from gearsync.declare.configuration import Config
from gearsync.outbox import synced_table
from gearsync.outbox.dead_letter import DeadLetters, Letter, Outcome
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable
from gearsync.shapes import TYPES

DONE, NOT_ALL, WRONG_USE = 0, 1, 2
#: Seconds that a statement may take.
_STATEMENT = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    found = {
        "list": actions.add_parser("list", help="the newest ones, a line each"),
        "show": actions.add_parser("show", help="all of one, with its row's values"),
        "retry": actions.add_parser("retry", help="have their rows read and written again, when the cause is mended"),
        "drop": actions.add_parser("drop", help="remove them for ever"),
    }
    for action in found.values():
        action.add_argument("--config", default=argparse.SUPPRESS, help="configuration file")
        action.add_argument("--json", action="store_true", help="JSON on stdout")
    found["show"].add_argument("id", type=int)
    found["list"].add_argument("--limit", type=int, default=50, metavar="N", help="how many at most (default: %(default)s)")
    for name in ("retry", "drop"):
        found[name].add_argument("id", type=int, nargs="*")
        found[name].add_argument("--all", action="store_true", help="all of them, or all of --table")
    for name in ("list", "retry", "drop"):
        found[name].add_argument("--table", default="", metavar="SCHEMA.TABLE", help="only those of this table")
    found["retry"].add_argument(
        "--append", action="store_true", help="append the change to its lists and streams too; it stands there twice if that was not what had failed")
    found["drop"].add_argument("--yes", action="store_true", help="really, all of them")


def _mistake(config: Config, options: argparse.Namespace) -> str:
    if config.mysql is None:
        return "the configuration names no MySQL"
    if options.action == "list" and options.limit < 1:
        return f"--limit must be 1 or more, not {options.limit}"
    if options.action in ("retry", "drop"):
        if bool(options.id) == options.all:
            return "give the ids of letters, or --all"
        if options.id and options.table:
            return "--table goes with --all"
    if options.action == "drop" and options.all and not options.yes:
        return "this removes them for ever; if that is meant, say --yes"
    return ""


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 done, 1 not with all of them, 2 wrong use or no database."""
    mistake = _mistake(config, options)
    if mistake or config.mysql is None:
        print(mistake, file=sys.stderr)
        return WRONG_USE
    database = Database(config.mysql, _STATEMENT, idle=120.0)
    letters = DeadLetters(database)
    try:
        if options.action == "list":
            return _list(letters, options)
        if options.action == "show":
            return _show(letters, options)
        ids = sorted(set(options.id)) or letters.ids(options.table)
        if options.action == "drop":
            return _tell(letters.drop(ids), "dropped", options.json)
        logged = [table.table for table in config.tables if any(TYPES[write.type].is_log for write in table.write)]
        status = _tell(letters.retry(ids, synced_table.load(database), logged if options.append else ()), "tried again", options.json)
        if logged and not options.append and not options.json:
            print(f"lists and streams of {', '.join(logged)} get no entry by this; --append does that")
        return status
    except DatabaseUnavailable as error:
        print(f"the database does not do it: {error}", file=sys.stderr)
        return WRONG_USE
    finally:
        database.close()


def _words(letter: Letter) -> dict[str, Any]:
    found = {**letter._asdict()}
    try:
        found["payload"] = letter.payload.decode()
    except UnicodeDecodeError:
        found["payload"] = {"$hex": letter.payload.hex()}
    return found


def _list(letters: DeadLetters, options: argparse.Namespace) -> int:
    found, number = letters.newest(options.limit, options.table), letters.count(options.table)
    if options.json:
        listed = [{name: value for name, value in _words(letter).items() if name != "payload"} for letter in found]
        print(msgspec.json.encode({"total": number, "letters": listed}).decode())
        return DONE
    for letter in found:
        print(f"{letter.id}  {letter.failed_at[:19]}  {letter.operation:<7}  {letter.table}: {letter.error.partition(chr(10))[0]}")
    if number > len(found):
        print(f"and {number - len(found):,} older ones; --limit shows more")
    if not number:
        print("there is none")
    return DONE


def _show(letters: DeadLetters, options: argparse.Namespace) -> int:
    letter = letters.show(options.id)
    if letter is None:
        print(f"there is no letter {options.id}", file=sys.stderr)
        return NOT_ALL
    words = _words(letter)
    if options.json:
        print(msgspec.json.encode(words).decode())
    else:
        print("\n".join(f"{name:<11} {value}" for name, value in words.items()))
    return DONE


def _tell(outcomes: Iterable[Outcome], done: str, as_json: bool) -> int:
    number, failed = 0, 0
    for outcome in outcomes:
        if as_json:
            print(msgspec.json.encode({"id": outcome.id, "ok": outcome.mistake is None, "mistake": outcome.mistake}).decode())
        elif outcome.mistake is not None:
            print(f"{outcome.id}: left: {outcome.mistake}", file=sys.stderr)
        number += outcome.mistake is None
        failed += outcome.mistake is not None
    if not as_json:
        print(f"{number:,} {done}" if number or not failed else "none")
    return NOT_ALL if failed else DONE
