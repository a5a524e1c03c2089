# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of docs/performance.md, each with its bars. No I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Optional

OURS = "gearsync"
#: A bar that is relative to the best of the peers.
BEST = "best"


class Bar(NamedTuple):
    """A limit: ``limit``, or with ``of`` so many times the figure of that peer (BEST: the best peer's),
    plus ``plus``.
    """

    limit: float
    of: str = ""
    plus: float = 0.0


class Figure(NamedTuple):
    """One line of the table."""

    key: str
    title: str
    unit: str
    better: Literal["less", "more", ""]
    bars: tuple[Bar, ...] = ()


class Verdict(NamedTuple):
    """A bar, what it amounts to in this run, and whether it was passed."""

    bar: Bar
    limit: float
    passed: bool


DEBEZIUM = "debezium"
FIGURES = (
    Figure("latency_p50", "commit → visible at 500/s, p50", "ms", "less", (Bar(1.5), Bar(0.35, DEBEZIUM))),
    Figure("latency_p99", "commit → visible at 500/s, p99", "ms", "less", (Bar(5), Bar(0.35, DEBEZIUM))),
    Figure("burst_rate", "commits reached of 4 × 500/s", "commits/s", "more", (Bar(0.9, BEST),)),
    Figure("burst_p99", "commit → visible at 4 × 500/s, p99", "ms", "less", (Bar(1, BEST),)),
    Figure("quiet_p99", "commit → visible at 4/s, p99", "ms", "less", (Bar(10),)),
    Figure("no_wakes_p99", "the same with gearmand stopped", "ms", "less", (Bar(60),)),
    Figure("cpu_peer", "CPU in 30 s at 500/s: the process (ours: with gearmand)", "s", "less", (Bar(5),)),
    Figure("cpu_database", "CPU in 30 s at 500/s: MariaDB", "s", "less", (Bar(9),)),
    Figure("idle", "CPU when idle, MariaDB and Redis included", "% of a core", "less", (Bar(1),)),
    Figure("memory", "memory after the latency run, PSS (ours: with gearmand)", "MiB", "less", (Bar(50),)),
    Figure(
        "backlog_multi",
        "backlog of transactions of 1,000 rows",
        "rows/s",
        "more",
        (Bar(45_000), Bar(2, DEBEZIUM)),
    ),
    Figure(
        "backlog_single",
        "backlog of single-row transactions",
        "rows/s",
        "more",
        (Bar(45_000), Bar(2, DEBEZIUM)),
    ),
    Figure("backlog_peer", "cores in the backlog by 1,000: the process", "", ""),
    Figure("backlog_database", "cores in the backlog by 1,000: MariaDB", "", ""),
    Figure("backlog_redis", "cores in the backlog by 1,000: Redis", "", ""),
    Figure(
        "writers_share", "8 writers, share of their rate without", "", "more", (Bar(0.8), Bar(1, BEST, -0.02))
    ),
    Figure(
        "multi_stopped",
        "INSERT of 1,000 rows, share of the rate without; process stopped",
        "",
        "more",
        (Bar(1 / 3),),
    ),
    Figure(
        "multi_running",
        "INSERT of 1,000 rows, share of the rate without; process running",
        "",
        "more",
        (Bar(1 / 3),),
    ),
    Figure(
        "single_stopped",
        "autocommit INSERT, times the time without; process stopped",
        "×",
        "less",
        (Bar(1.25),),
    ),
    Figure(
        "single_running",
        "autocommit INSERT, times the time without; process running",
        "×",
        "less",
        (Bar(1.25),),
    ),
    Figure("binary_log", "binary log of single-row INSERTs, times that without", "×", "less", (Bar(3),)),
    Figure("recovery", "kill -9 and a new start → next change, median of 5", "s", "less", (Bar(1.5),)),
    Figure("crash_changes", "changes in the run with 5 kills", "", ""),
    Figure("lost", "rows that differ after it", "", "less", (Bar(0),)),
    Figure("repeated", "entries that came again in it", "", "less"),
)
NEIGHBOURS = (
    Figure(
        "open_p50",
        "transactions open for 50 ms: age of the oldest committed waiting change, p50",
        "ms",
        "less",
        (Bar(20),),
    ),
    Figure("open_worst", "the same, at worst", "ms", "less", (Bar(100),)),
    Figure("open_waits", "the same: waits for row locks in the server", "", "less", (Bar(0),)),
    Figure("open4_p50", "the same with 4 drainers, p50", "ms", "less", (Bar(20),)),
    Figure("open4_worst", "the same with 4 drainers, at worst", "ms", "less", (Bar(100),)),
    Figure(
        "open4_waits", "the same with 4 drainers: waits for row locks in the server", "", "less", (Bar(0),)
    ),
    Figure("snapshot_rows", "changes drained under an open snapshot", "", ""),
    Figure("look_before", "a look at the outbox, median, without a snapshot", "ms", "less"),
    Figure("look_times", "a look beside the snapshot, times that", "×", "less", (Bar(2),)),
    Figure("drain_before", "backlog by 1,000 without a snapshot", "rows/s", "more"),
    Figure("drain_share", "backlog beside the snapshot, share of that", "", "more", (Bar(0.8),)),
)


def best(figure: Figure, values: Mapping[str, Optional[float]]) -> Optional[tuple[str, float]]:
    """The best of the peers, with its figure. ``values``: the figure of each, by its name, ours included."""
    others = [(value, name) for name, value in values.items() if name != OURS and value is not None]
    if not others or not figure.better:
        return None
    value, name = min(others) if figure.better == "less" else max(others)
    return name, value


def verdicts(figure: Figure, values: Mapping[str, Optional[float]]) -> Iterator[Verdict]:
    """Each bar of ours that can be judged: not one relative to a peer that has no figure."""
    ours, leader = values.get(OURS), best(figure, values)
    for bar in figure.bars:
        of = 1.0 if not bar.of else leader[1] if bar.of == BEST and leader else values.get(bar.of)
        if ours is not None and of is not None:
            limit = bar.limit * of + bar.plus
            # As they are shown: a limit that was met to the last digit that counts is met.
            yield Verdict(
                bar,
                limit,
                round(ours - limit, 9) <= 0 if figure.better == "less" else round(limit - ours, 9) <= 0,
            )


def ratio(figure: Figure, values: Mapping[str, Optional[float]]) -> Optional[float]:
    """Ours divided by the best peer's."""
    ours, leader = values.get(OURS), best(figure, values)
    return ours / leader[1] if ours is not None and leader and leader[1] else None


def shown(value: Optional[float]) -> str:
    """A figure with the digits that count."""
    if value is None:
        return "–"
    return (
        f"{value:,.0f}"
        if value == int(value) or abs(value) >= 100
        else f"{value:,.1f}"
        if abs(value) >= 10
        else f"{value:.2f}"
    )
