# SPDX-License-Identifier: GPL-3.0-or-later
"""`gearsync status`: the state of the pipeline now, once or continuously, as a screen or as JSON."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any, Optional

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from gearsync.cli.several_sources import BAD_CONFIG, as_json, failure, worst
from gearsync.cli.sources import SourceFile
from gearsync.cli.status_screen import failed_screen, screen
from gearsync.declare.configuration import Config, ConfigError, load
from gearsync.operate.pipeline.activity import activity
from gearsync.operate.pipeline.observer import Observer, Question
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


def run_all(files: Sequence[SourceFile], options: argparse.Namespace) -> int:
    """The exit status: 0 when the pipelines of all sources are in order, 1 when one has problems, 2 when
    the configuration of one cannot be used. Raises ConfigError when there is no other.
    """
    if options.interval <= 0:
        print(f"--interval must be more than 0, not {options.interval:g}", file=sys.stderr)
        return PROBLEMS
    sources = [_Source(file) for file in files]
    if len(sources) == 1 and sources[0].error is not None:
        raise sources[0].error
    try:
        _observe(sources)
        if not options.watch:
            _show(sources, options.json)
        elif options.json:
            while True:
                print(_as_json(sources), flush=True)
                time.sleep(options.interval)
                _observe(sources)
        else:
            with Live(_screen(sources), console=Console(), screen=True, auto_refresh=False) as live:
                while True:
                    live.update(_screen(sources), refresh=True)
                    time.sleep(options.interval)
                    _observe(sources)
    except KeyboardInterrupt:
        pass
    finally:
        for source in sources:
            source.close()
    return worst(source.status for source in sources)


class _Source:
    """One source, as it was seen last."""

    def __init__(self, file: SourceFile) -> None:
        self.name = file.name
        self.error: Optional[ConfigError] = None
        self._observer: Optional[Observer] = None
        self._state: Optional[PipelineState] = None
        try:
            self._config = load(file.path, file.source)
            self._observer = Observer(self._config, _TIMEOUT, _BOUND)
        except ConfigError as error:
            self.error = error

    def observe(self) -> None:
        if self._observer is not None:
            self._state = self._observer.observe()

    def close(self) -> None:
        if self._observer is not None:
            self._observer.close()

    @property
    def status(self) -> int:
        """The exit status."""
        if self._state is None:
            return BAD_CONFIG
        return PROBLEMS if problems(self._state, self._config) else IN_ORDER

    def screen(self) -> RenderableType:
        if self._state is None:
            return failed_screen(self.name, str(self.error))
        return screen(self._state, self._config)

    def answer(self) -> dict[str, Any]:
        """What is printed as JSON."""
        return failure(str(self.error)) if self._state is None else answer(self._state, self._config)


def _observe(sources: Sequence[_Source]) -> None:
    """Look at all sources at once, so that one whose servers do not answer delays no other."""
    for question in [Question(source.observe) for source in sources]:
        question.done.wait()
        question.answer()


def _screen(sources: Sequence[_Source]) -> RenderableType:
    first, *others = (source.screen() for source in sources)
    return Group(first, *(part for each in others for part in (Text(), each))) if others else first


def _as_json(sources: Sequence[_Source]) -> str:
    if len(sources) == 1:
        return msgspec.json.encode(sources[0].answer()).decode()
    answers = {source.name: source.answer() for source in sources}
    return as_json(worst(source.status for source in sources), answers)


def _show(sources: Sequence[_Source], json: bool) -> None:
    if json:
        print(_as_json(sources))
        return
    console = Console()
    if not console.is_terminal:
        # A pipe has no width: cut nothing there.
        console = Console(width=200)
    console.print(_screen(sources))


def answer(state: PipelineState, config: Config) -> dict[str, Any]:
    """The state with its problems and hints, and the tables' activity."""
    members: dict[str, Any] = msgspec.to_builtins(state)
    members["mistakes"], members["hints"] = problems(state, config), hints(state)
    if state.database is not None:
        members["activity"] = msgspec.to_builtins(activity(state.database.reports.values()))
        del members["database"]["reports"]
    return {"ok": not members["mistakes"], **members}
