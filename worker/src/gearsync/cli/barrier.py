# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync barrier`: waits until everything that is committed now is in Redis."""

from __future__ import annotations

import argparse

import msgspec

from gearsync.declare.configuration import Config, ConfigError
from gearsync.outbox.applied import barrier
from gearsync.outbox.barrier import TIMEOUT, wait
from gearsync.servers.primary import open_database
from gearsync.servers.target import open_target

OK, FAILED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help="how long to wait (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the answer as one JSON object")


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 when all is in Redis. Raises ConfigError."""
    if config.mysql is None:
        raise ConfigError(["mysql: is required for a barrier"])
    database = open_database(config.mysql, config.worker.io_timeout)
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
        reasons = [
            answer.get("error"),
            missing and f"changes that are not in Redis yet: {missing}",
            answer.get("dead")
            and f"changes that could not be applied, see gearsync dead-letter list: {answer['dead']}",
        ]
        print(f"FAILED after {answer['seconds']:.3f} s: {'; '.join(filter(None, reasons))}")
    return OK if answer["ok"] else FAILED
