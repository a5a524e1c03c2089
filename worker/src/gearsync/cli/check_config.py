# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync check-config`: every problem of the configuration file, each with its line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping

import msgspec

from gearsync.cli.sources import SourceFile
from gearsync.declare.configuration import WorkerSettings, inspect
from gearsync.declare.problem import Problem
from gearsync.operate.metrics_tls import file_problems
from gearsync.project.transform import problems

OK, BAD_CONFIG = 0, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the problems as a JSON list")


def _look(worker: WorkerSettings, transforms: Mapping[int, str]) -> Iterator[Problem]:
    yield from problems(worker.python_path, transforms)
    yield from file_problems(worker)


def run(file: SourceFile, options: argparse.Namespace) -> int:
    """The exit status: 0 when the ``file`` can be used."""
    config, listed = inspect(file.path, _look, file.source)
    if options.json:
        print(msgspec.json.encode([problem._asdict() for problem in listed]).decode())
    elif config is not None and not listed:
        print(f"ok: {len(config.tables)} tables, {len(config.job_servers)} job servers")
    else:
        print("\n".join(map(str, listed)), file=sys.stderr)
    return BAD_CONFIG if listed else OK
