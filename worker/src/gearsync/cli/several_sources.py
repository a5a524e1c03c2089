# SPDX-License-Identifier: GPL-3.0-or-later
"""A command about all sources of a host: one after the other, each under its name."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Callable

import msgspec

from gearsync.cli.sources import SourceFile
from gearsync.declare.configuration import ConfigError
from gearsync.project.transform import TransformError

#: The exit status for a configuration that cannot be used.
BAD_CONFIG = 2


def worst(statuses: Iterable[int]) -> int:
    """The exit status for all sources: 1 when one is known to be wrong, else 2 when one is unknown."""
    return min(filter(None, statuses), default=0)


def as_json(status: int, answers: Mapping[str, Any]) -> str:
    """The answer about several sources, as it is printed."""
    return msgspec.json.encode({"status": status, "sources": answers}).decode()


def failure(error: str) -> dict[str, str]:
    """The answer for a source whose configuration cannot be used."""
    return {"error": error}


def run_all(files: Sequence[SourceFile], run: Callable[[SourceFile], int], json: bool) -> int:
    """Run a command for each source; the worst exit status. An invalid configuration concerns its source
    alone.
    """
    statuses: list[int] = []
    answers: dict[str, Any] = {}
    for file in files:
        output = io.StringIO()
        if not json:
            print(f"{chr(10) if statuses else ''}source {file.name}", flush=True)
        try:
            with contextlib.redirect_stdout(output) if json else contextlib.nullcontext():
                statuses.append(run(file))
            answers[file.name] = msgspec.Raw(output.getvalue().encode())
        except (ConfigError, TransformError) as error:
            print(error, file=sys.stderr, flush=True)
            statuses.append(BAD_CONFIG)
            answers[file.name] = failure(str(error))
    if json:
        print(as_json(worst(statuses), answers))
    return worst(statuses)
