"""The commands and their exit statuses."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Optional

from gearsync import __version__, logs
from gearsync.config import DEFAULT_PATH, Config, ConfigError, load
from gearsync.selftest import findings
from gearsync.supervise import run


class Exit(IntEnum):
    """What the exit status means."""

    OK = 0
    FAILED = 1
    BAD_CONFIG = 2


def _run(config: Config) -> int:
    logs.configure(config.worker.log_level, config.worker.log_format)
    return run(config)


def _check_config(config: Config) -> int:
    print(f"ok: {len(config.tables)} tables, {len(config.job_servers)} job servers")
    return Exit.OK


def _selftest(config: Config) -> int:
    failed = False
    for finding in findings(config):
        print(f"{'ok' if finding.ok else 'FAILED'}: {finding.server}: {finding.words}", flush=True)
        failed = failed or not finding.ok
    return Exit.FAILED if failed else Exit.OK


_COMMANDS = {
    "run": (_run, "take jobs and write to Redis until a signal says stop"),
    "check-config": (_check_config, "name every mistake of the configuration"),
    "selftest": (_selftest, "ask every configured server whether it can be used"),
}


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser(prog="gearsync", description="Keeps Redis in step with MySQL.")
    parser.add_argument("--version", action="version", version=f"gearsync {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_function, words) in _COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        command.add_argument("--config", default=DEFAULT_PATH, help="configuration file (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        config = load(options.config)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return Exit.BAD_CONFIG
    return int(_COMMANDS[options.command][0](config))
