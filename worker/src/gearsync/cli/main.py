# SPDX-License-Identifier: GPL-3.0-or-later
"""The subcommands and the meaning of their exit statuses. Each is a module of this package, which is
imported only to be run.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple, Optional

from gearsync import __version__
from gearsync.cli import sources
from gearsync.cli.several_sources import BAD_CONFIG, run_all
from gearsync.declare.configuration import ConfigError, load
from gearsync.project.transform import TransformError

#: The one command that accepts a configuration with problems: its module reads the file.
_CHECK = "check-config"
_STATUS = "status"
#: Those that are about all sources of the host, when none is named.
_OF_ALL = (_STATUS, "verify", _CHECK, "selftest")


#: The end of each help.
_ALL = (
    "Without --source and --config it is about all sources of the host; the exit status is then 1 when one "
    "source has it, else 2 when one has it."
)
_ONE = "--source can be left out on a host with one source."


class _Command(NamedTuple):
    description: str
    #: The meaning of its exit statuses, except that of wrong options.
    statuses: str


_COMMANDS = {
    "run": _Command("take jobs and write to Redis until a signal stops it", "0 stopped by a signal"),
    _STATUS: _Command(
        "show how far Redis is behind, which worker drains which shard, and all problems",
        "0 in order; 1 there are problems",
    ),
    "verify": _Command(
        "compare MySQL and Redis, and repair what differs",
        "0 equal; 1 different, also when nothing was removed because of --max-prune; 2 not everything could "
        "be compared",
    ),
    "resync": _Command(
        "load tables, or load them again, while the application writes",
        "0 loaded; 1 not loaded, or not completely",
    ),
    "dead-letter": _Command(
        "show changes that could not be applied, and try them again",
        "0 done; 1 not done for all of them; 2 no access to MySQL or Redis, or a former primary",
    ),
    "read-back": _Command(
        "compare Redis with one row from stdin, for the playbook smoke",
        "0 Redis holds the row; 1 it does not; 2 it could not be compared",
    ),
    "barrier": _Command(
        "wait until everything that is committed now is in Redis",
        "0 everything is in Redis; 1 it is not, or not in time",
    ),
    _CHECK: _Command("list every problem of the configuration, with its line", "0 no problem"),
    "selftest": _Command(
        "check that every configured server can be used", "0 all can; 1 at least one cannot"
    ),
}


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"gearsync.cli.{command.replace('-', '_')}")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="gearsync", description="Keeps Redis in step with MySQL.")
    parser.add_argument("--version", action="version", version=f"gearsync {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in _COMMANDS.items():
        epilog = f"Exit status: {command.statuses}; 2 for unknown options or an invalid configuration. " + (
            _ALL if name in _OF_ALL else _ONE
        )
        subparser = commands.add_parser(
            name, help=command.description, description=command.description, epilog=epilog
        )
        sources.add_arguments(subparser)
        if name in (sys.argv[1:] if arguments is None else arguments):
            _module(name).add_arguments(subparser)
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except (ConfigError, TransformError) as error:
        print(error, file=sys.stderr)
        return BAD_CONFIG


def _run(options: argparse.Namespace) -> int:
    """The exit status. Raises ConfigError and TransformError."""
    files = sources.chosen(options, several=options.command in _OF_ALL)
    module = _module(options.command)
    if options.command == _STATUS:
        return int(module.run_all(files, options))

    def run(file: sources.SourceFile) -> int:
        read = file if options.command == _CHECK else load(file.path, file.source)
        return int(module.run(read, options))

    return run(files[0]) if len(files) == 1 else run_all(files, run, getattr(options, "json", False))
