"""The subcommands, and what their exit statuses mean. Each is a module of this package, which is imported when it is the one to be run."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NamedTuple, Optional

from gearsync import __version__
from gearsync.declare.configuration import DEFAULT_PATH, ConfigError, load
from gearsync.project.transform import TransformError

_BAD_CONFIG = 2
#: The one command that takes a configuration that cannot be used: its module reads the file.
_CHECK = "check-config"


class _Command(NamedTuple):
    words: str
    #: What its exit statuses mean, but for wrong use.
    statuses: str


_COMMANDS = {
    "run": _Command("take jobs and write to Redis until a signal says stop", "0 stopped by a signal"),
    "status": _Command("show how far behind it is, who drains what, and what somebody should look at", "0 in order; 1 something is to be looked at"),
    "verify": _Command("compare MySQL and Redis, and mend what differs",
                       "0 equal; 1 different, also when it was not removed because of --max-prune; 2 could not tell"),
    "resync": _Command("load tables, or load them again, while the application writes", "0 loaded; 1 not, or not all of it"),
    "dead-letter": _Command("look at changes that could not be applied, and try them again", "0 done; 1 not with all of them; 2 no MySQL"),
    "read-back": _Command("compare Redis with one row, given on stdin: for the playbook smoke", "0 Redis is as the row says; 1 it is not; 2 could not tell"),
    "barrier": _Command("wait until everything that is committed now is in Redis", "0 it is; 1 it is not, or not in time"),
    _CHECK: _Command("name every mistake of the configuration, with its line", "0 no mistake"),
    "selftest": _Command("ask every configured server whether it can be used", "0 all can; 1 one cannot"),
}


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"gearsync.cli.{command.replace('-', '_')}")


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="gearsync", description="Keeps Redis in step with MySQL.")
    parser.add_argument("--version", action="version", version=f"gearsync {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, found in _COMMANDS.items():
        statuses = f"Exit status: {found.statuses}; 2 for unknown options or a wrong configuration."
        command = commands.add_parser(name, help=found.words, description=found.words, epilog=statuses)
        command.add_argument("--config", default=DEFAULT_PATH, help="configuration file (default: %(default)s)")
        if name in (sys.argv[1:] if arguments is None else arguments):
            _module(name).add_arguments(command)
    options = parser.parse_args(arguments)
    run = _module(options.command).run
    try:
        return int(run(options.config if options.command == _CHECK else load(options.config), options))
    except (ConfigError, TransformError) as error:
        print(error, file=sys.stderr)
        return _BAD_CONFIG
