# SPDX-License-Identifier: GPL-3.0-or-later
"""How the processes of one service pass their counters to the exporter: each writes a file of its own."""

from __future__ import annotations

import contextlib
import os
import pathlib

import msgspec

from gearsync.telemetry.metrics import Tally


def save(path: pathlib.Path, tally: Tally) -> None:
    """Write a process's tally. A full disk must not stop the process: then the file stays as it was."""
    beside = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        beside.write_bytes(msgspec.json.encode(tally))
        os.replace(beside, path)


def load(path: pathlib.Path) -> Tally:
    """The tally that a process has saved; an empty one when there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Tally)
    except (OSError, msgspec.DecodeError):
        return Tally()


def load_all(directory: pathlib.Path) -> dict[str, Tally]:
    """All tallies, by the names of their processes."""
    return {path.stem: load(path) for path in sorted(directory.glob("*.json"))}
