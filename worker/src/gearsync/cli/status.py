# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync status`: the state of the pipeline now, once or continuously, as a screen or as JSON."""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import msgspec
from rich.console import Console
from rich.live import Live

from gearsync.cli.status_screen import screen
from gearsync.declare.configuration import Config
from gearsync.operate.pipeline.activity import activity
from gearsync.operate.pipeline.observer import Observer
from gearsync.operate.pipeline.problems import hints, problems
from gearsync.operate.pipeline.state import PipelineState

IN_ORDER, PROBLEMS = 0, 1
#: Seconds that one server may take to answer, and all of them together.
_TIMEOUT = 5.0
_BOUND = 15.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--watch", action="store_true", help="show the state continuously, until interrupted")
    parser.add_argument(
        "--interval",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="how often --watch asks the servers (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --watch one a line")


def run(config: Config, options: argparse.Namespace) -> int:
    """The exit status: 0 when the pipeline is in order, 1 when there are problems."""
    if options.interval <= 0:
        print(f"--interval must be more than 0, not {options.interval:g}", file=sys.stderr)
        return PROBLEMS
    observer = Observer(config, _TIMEOUT, _BOUND)
    try:
        state = observer.observe()
        if not options.watch:
            _show(state, config, options.json)
        elif options.json:
            while True:
                print(as_json(state, config), flush=True)
                time.sleep(options.interval)
                state = observer.observe()
        else:
            with Live(screen(state, config), console=Console(), screen=True, auto_refresh=False) as live:
                while True:
                    live.update(screen(state, config), refresh=True)
                    time.sleep(options.interval)
                    state = observer.observe()
    except KeyboardInterrupt:
        pass
    finally:
        observer.close()
    return PROBLEMS if problems(state, config) else IN_ORDER


def _show(state: PipelineState, config: Config, json: bool) -> None:
    if json:
        print(as_json(state, config))
        return
    console = Console()
    if not console.is_terminal:
        # A pipe has no width: cut nothing there.
        console = Console(width=200)
    console.print(screen(state, config))


def as_json(state: PipelineState, config: Config) -> str:
    """The state with its problems and hints, and the tables' activity."""
    members: dict[str, Any] = msgspec.to_builtins(state)
    members["mistakes"], members["hints"] = problems(state, config), hints(state)
    if state.database is not None:
        members["activity"] = msgspec.to_builtins(activity(state.database.reports.values()))
        del members["database"]["reports"]
    return msgspec.json.encode({"ok": not members["mistakes"], **members}).decode()
