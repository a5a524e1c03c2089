"""The commands and their exit statuses."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Callable, NamedTuple, Optional

import msgspec

from gearsync import __version__, logs
from gearsync.applied import barrier
from gearsync.barrier import TIMEOUT, wait
from gearsync.cluster import open_target
from gearsync.config import DEFAULT_PATH, Config, ConfigError, inspect, load
from gearsync.database import Database
from gearsync.selftest import findings
from gearsync.supervise import run
from gearsync.transform import TransformError, mistakes, transforms


class Exit(IntEnum):
    """What the exit status means."""

    OK = 0
    FAILED = 1
    BAD_CONFIG = 2


def _run(config: Config, _options: argparse.Namespace) -> int:
    transforms(config)  # a mistake in one is the configuration's, not a process's that dies again and again
    logs.configure(config.worker.log_level, config.worker.log_format, config.source)
    return run(config)


def _check_config(options: argparse.Namespace) -> int:
    config, found = inspect(options.config, mistakes)
    if options.json:
        print(msgspec.json.encode([mistake._asdict() for mistake in found]).decode())
    elif config is not None and not found:
        print(f"ok: {len(config.tables)} tables, {len(config.job_servers)} job servers")
    else:
        print("\n".join(map(str, found)), file=sys.stderr)
    return Exit.BAD_CONFIG if found else Exit.OK


def _barrier(config: Config, options: argparse.Namespace) -> int:
    if config.mysql is None:
        raise ConfigError(["mysql: is needed for a barrier"])
    database = Database(config.mysql, config.worker.io_timeout)
    target = open_target(config.redis, config.worker.io_timeout)
    answer = wait(barrier(config, database, target, options.timeout))
    database.close()
    target.close()
    if options.json:
        print(msgspec.json.encode(answer).decode())
    elif answer["ok"]:
        print(f"ok: everything that was committed is in Redis, after {answer['seconds']:.3f} s")
    else:
        missing = ", ".join(f"{number} of {table}" for table, number in answer.get("missing", {}).items())
        reasons = [answer.get("error"), missing and f"changes that are not in Redis yet: {missing}",
                   answer.get("dead") and f"changes that could not be applied, see gearsync dead-letter list: {answer['dead']}"]
        print(f"FAILED after {answer['seconds']:.3f} s: {'; '.join(filter(None, reasons))}")
    return Exit.OK if answer["ok"] else Exit.FAILED


def _selftest(config: Config, _options: argparse.Namespace) -> int:
    failed = False
    for finding in findings(config):
        print(f"{'ok' if finding.ok else 'FAILED'}: {finding.server}: {finding.words}", flush=True)
        failed = failed or not finding.ok
    return Exit.FAILED if failed else Exit.OK


def _barrier_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--timeout", type=float, default=TIMEOUT, metavar="SECONDS", help="how long to wait (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")


def _no_arguments(_parser: argparse.ArgumentParser) -> None:
    pass


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print them as a JSON list")


_CHECK = "check-config"


_Run = Callable[[Config, argparse.Namespace], int]
_AddArguments = Callable[[argparse.ArgumentParser], None]


class _Command(NamedTuple):
    words: str
    #: What its exit statuses mean, but for wrong use.
    statuses: str
    #: None for the one command that takes a wrong configuration.
    run: Optional[_Run] = None
    add_arguments: _AddArguments = _no_arguments
    #: The module with ``run`` and ``add_arguments``, where it costs memory that the worker can do without.
    module: Optional[str] = None

    def functions(self) -> tuple[Optional[_Run], _AddArguments]:
        if self.module is None:
            return self.run, self.add_arguments
        module = importlib.import_module(f"gearsync.{self.module}")
        return module.run, module.add_arguments


_COMMANDS = {
    "run": _Command("take jobs and write to Redis until a signal says stop", "0 stopped by a signal", _run),
    "status": _Command("show how far behind it is, who drains what, and what somebody should look at", "0 in order; 1 something is to be looked at",
                       module="status_command"),
    "verify": _Command("compare MySQL and Redis, and mend what differs",
                       "0 equal; 1 different, also when it was not removed because of --max-prune; 2 could not tell", module="verify_command"),
    "resync": _Command("load tables, or load them again, while the application writes", "0 loaded; 1 not, or not all of it", module="resync_command"),
    "dead-letter": _Command("look at changes that could not be applied, and try them again", "0 done; 1 not with all of them; 2 no MySQL",
                            module="dead_letter_command"),
    "read-back": _Command("compare Redis with one row, given on stdin: for the playbook smoke", "0 Redis is as the row says; 1 it is not; 2 could not tell",
                          module="read_back_command"),
    "barrier": _Command("wait until everything that is committed now is in Redis", "0 it is; 1 it is not, or not in time", _barrier, _barrier_arguments),
    _CHECK: _Command("name every mistake of the configuration, with its line", "0 no mistake", None, _check_arguments),
    "selftest": _Command("ask every configured server whether it can be used", "0 all can; 1 one cannot", _selftest),
}


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
            found.functions()[1](command)
    options = parser.parse_args(arguments)
    run_command = _COMMANDS[options.command].functions()[0]
    try:
        return int(_check_config(options) if run_command is None else run_command(load(options.config), options))
    except (ConfigError, TransformError) as error:
        print(error, file=sys.stderr)
        return Exit.BAD_CONFIG
