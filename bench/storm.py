#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hostile calls of the functions cost those who write: the storm of udf/tests, and its ratio.

usage: bench/storm.py [--rounds 5] [--seconds 10]     with the environment of tests/setup test

Starts a private database, with the durability of a primary (--relaxed: without), and a gearmand. Four
sessions write, each write with a wake and a job; six sessions of an account without any right run statements
as fast as they can: with the functions, and the same statements with CONCAT in place of each function, so
that both take what CPU they get. GEARSYNC_SERVER is the path of another mysqld or mariadbd.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import sys
import time
from collections.abc import Callable

from servers import (
    JSON_LIBRARY,
    Database,
    Gearmand,
    arguments,
    cleaned_up,
    free_port,
    libraries,
    machine,
    storm,
)

#: The time of a write beside the storm, times that beside the same statements without the functions.
BAR = 1.1
_FUNCTION = re.compile(r"\b(gman_\w+|udf_json_object|json_members)(?=\()")
_NAMED = re.compile(r" AS \w+(?=[,)])")
_JSON_FUNCTIONS = [{"name": name} for name in ("json_members", "udf_json_object")]


def without_functions(sql: str) -> str:
    """The statement with CONCAT in place of each function."""
    return _NAMED.sub("", _FUNCTION.sub("CONCAT", sql)).replace("WITH ROLLUP", "")


def measure(database: Database, seconds: float, changed: Callable[[str], str] | None) -> tuple[float, float]:
    """Median and 99th percentile of a write, in milliseconds; ``changed``: for the attackers' statements,
    None for no attackers.
    """
    beside = (
        contextlib.nullcontext()
        if changed is None
        else storm.Attackers(database.connect, free_port(), changed)
    )
    with beside:
        time.sleep(1)
        with storm.writing(database.connect) as writers:
            time.sleep(seconds)
    took = sorted(1000 * each for writer in writers for each in writer.took)
    if errors := [writer.error for writer in writers if writer.error]:
        raise SystemExit(f"a write has failed: {errors[0]}")
    return statistics.median(took), took[len(took) * 99 // 100]


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0, help="of writes, for each measurement")
    options = parser.parse_args()
    with cleaned_up():
        gearmand, database = Gearmand(), Database("--max-connections=200", durable=not options.relaxed)
        database.add_functions(gearmand, job_timeout_ms=86_400_000)
        database.modules.ok(
            "mysql_udf", soname=JSON_LIBRARY, src=str(libraries() / JSON_LIBRARY), functions=_JSON_FUNCTIONS
        )
        database.execute(
            "CREATE USER guest@localhost",
            "CREATE DATABASE IF NOT EXISTS test",
            *storm.TABLE,
            "SELECT gman_configure('background_errors', 'error')",
            "SELECT gman_configure('locked', 'on')",
        )
        shapes: dict[str, Callable[[str], str] | None] = {
            "no other statements": None,
            "the statements without the functions": without_functions,
            "the storm": str,
        }
        rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in shapes}
        for _ in range(options.rounds):
            for name, changed in shapes.items():
                rounds[name].append(measure(database, options.seconds, changed))
        print(f"{machine()}; {database.engine} {database.version}")
        print("| a write beside | median (ms) | 99th percentile (ms) |\n|---|---:|---:|")
        medians = {}
        for name, figures in rounds.items():
            medians[name], high = (statistics.median(column) for column in zip(*figures))
            print(f"| {name} | {medians[name]:.2f} | {high:.2f} |")
        ratio = medians["the storm"] / medians["the statements without the functions"]
        print(f"the storm, times the statements without the functions: {ratio:.2f} (bar {BAR})")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
