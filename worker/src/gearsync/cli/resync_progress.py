# SPDX-License-Identifier: GPL-3.0-or-later
"""The progress of `gearsync resync`: bars on a terminal, otherwise lines of text or JSON."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Callable

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from gearsync.operate.resync.table_resync import Progress

#: Seconds between two lines of progress.
_LINES = 5.0


@contextlib.contextmanager
def shown(as_json: bool) -> Iterator[Callable[[Progress], None]]:
    """A function that shows each progress."""
    console = Console(stderr=True)
    if console.is_terminal and not as_json:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[waiting]}"),
        )
        with Bars(*columns, console=console) as bars:
            yield _Bar(bars)
    else:
        yield _Lines(as_json)


class _Rate:
    """Rows per second since this process started."""

    def __init__(self, progress: Progress) -> None:
        self._began, self._first = time.monotonic(), progress.rows

    def of(self, progress: Progress) -> float:
        return (progress.rows - self._first) / max(time.monotonic() - self._began, 1e-6)


class _Bar:
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, tuple[int, _Rate]] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.table not in self._tasks:
            self._tasks[progress.table] = (
                self._bars.add_task(progress.table, total=progress.estimate, rate="", waiting=""),
                _Rate(progress),
            )
        task, rate = self._tasks[progress.table]
        # The estimate may be far off; a bar must not be full before the end.
        total = progress.rows if progress.done else max(progress.estimate, progress.rows + 1)
        waiting = f"waiting for {progress.waiting}" if progress.waiting else ""
        self._bars.update(
            task,  # type: ignore[arg-type]
            completed=progress.rows,
            total=total,
            rate=f"{rate.of(progress):,.0f} rows/s",
            waiting=waiting,
        )


class _Lines:
    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._next = 0.0
        self._rates: dict[str, _Rate] = {}

    def __call__(self, progress: Progress) -> None:
        rate = self._rates.setdefault(progress.table, _Rate(progress))
        if not progress.done and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LINES
        speed = rate.of(progress)
        left = max(progress.estimate - progress.rows, 0) / speed if speed and not progress.done else 0.0
        if self._json:
            print(
                msgspec.json.encode(
                    {
                        "table": progress.table,
                        "rows": progress.rows,
                        "estimate": progress.estimate,
                        "rows_per_second": round(speed, 1),
                        "seconds_left": round(left, 1),
                        "waiting_for": progress.waiting or None,
                        "done": progress.done,
                    }
                ).decode(),
                flush=True,
            )
        elif progress.done:
            print(f"{progress.table}: done, {progress.rows:,} rows at {speed:,.0f} rows/s", flush=True)
        else:
            waiting = f", waiting for {progress.waiting}" if progress.waiting else ""
            print(
                f"{progress.table}: {progress.rows:,} of about {progress.estimate:,} rows, {speed:,.0f} "
                f"rows/s, {left:.0f} s left{waiting}",
                flush=True,
            )
