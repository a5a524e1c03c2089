# SPDX-License-Identifier: GPL-3.0-or-later
"""From results to Markdown: docs/performance.md and the figures in README.md. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional

from figures import BEST, FIGURES, NEIGHBOURS, OURS, Figure, Verdict, best, ratio, shown, verdicts

Results = Mapping[str, Any]
Values = dict[str, Optional[float]]

#: What no figure shows, from the projects' own documentation.
BEYOND = (
    (
        "A reader of the binary log adds nothing to the writers' transactions, and needs neither "
        "triggers nor an outbox in the schema."
    ),
    "Debezium can report a TRUNCATE (`skipped.operations`), which fires no trigger.",
    (
        "Debezium and Maxwell follow many tables by a pattern, and Debezium writes to a dozen other systems "
        "beside Redis."
    ),
    (
        "A stream keeps every change; a key keeps the present. With a stream the reader has still to "
        "apply the change, which is in none of these figures."
    ),
)
#: The plots that plots.py writes, with their titles.
PLOTS = {
    "latency": "Latency at 500 commits a second",
    "backlog": "Backlog of transactions of 1,000 rows",
    "lag": "Lag through a kill",
}
#: How each figure is measured.
HOW = (
    (
        "Latency: from the return of a commit until Redis has the value. A key is asked for every 0.1 "
        "ms, a stream is read by a blocking XREAD."
    ),
    "CPU when idle: from half a minute after the last change on; our worker looks less often by then.",
    (
        "Backlog: the process is stopped, rows are written, it starts: rows a second from the first "
        "that shows to the last. The plot begins with the start."
    ),
    (
        "8 writers: INSERT, UPDATE and DELETE in a closed loop, between two measurements of the same "
        "on a table that no system carries."
    ),
    (
        "INSERT: five rounds into a table that the system carries and into one that it does not, in "
        "turn; the ratio of the medians."
    ),
    (
        "Binary log: the bytes of the same INSERTs into both, with all that is written until the "
        "system is done with them."
    ),
    (
        "Crash: 800 changes a second by four writers; SIGKILL for the whole process group and a start "
        "at once, five times. Then both sides are compared."
    ),
    (
        "Plot of the lag: 500 commits a second, one SIGKILL at 0 s and a start at once; the largest "
        "delay of the commits of each tenth of a second."
    ),
    (
        "Transactions open for 50 ms: four writers of ten rows each; the age is that since the "
        "commit, every 5 ms while a committed change waits."
    ),
    "A look: what the server's slow log has as the time of a SELECT of the outbox.",
)
#: The figures that README.md shows.
README = (
    "latency_p50",
    "latency_p99",
    "burst_rate",
    "backlog_multi",
    "backlog_single",
    "writers_share",
    "recovery",
    "memory",
)
MARKS = ("<!-- figures of make bench -->", "<!-- end of the figures -->")


def values(results: Results, figure: Figure) -> Values:
    """A figure of ours and of each peer, by their names."""
    return {name: peer["figures"].get(figure.key) for name, peer in results["peers"].items()}


def figures_of(results: Results) -> Iterator[tuple[Figure, Values]]:
    """Every figure that this run has."""
    for figure in FIGURES:
        found = values(results, figure)
        if any(value is not None for value in found.values()):
            yield figure, found
    for figure in NEIGHBOURS:
        if figure.key in results.get("neighbours", {}):
            yield figure, {OURS: results["neighbours"][figure.key]}


def missed(results: Results) -> list[str]:
    """What missed a bar, or could not be measured."""
    found = [
        f"{figure.title}: {shown(row[OURS])}, bar {bar_text(verdict, figure, results)}"
        for figure, row in figures_of(results)
        for verdict in verdicts(figure, row)
        if not verdict.passed
    ]
    return found + [
        f"{peer['title']}: {failure}" for peer in results["peers"].values() for failure in peer["failures"]
    ]


def bar_text(verdict: Verdict, figure: Figure, results: Results) -> str:
    """A bar as the table has it, with what it amounts to."""
    bar, sign = verdict.bar, "≤" if figure.better == "less" else "≥"
    if not bar.of:
        return f"{sign} {shown(bar.limit)}"
    of = "the best peer" if bar.of == BEST else results["peers"][bar.of]["title"]
    words = of if bar.limit == 1 else f"{bar.limit:g} × {of}"
    plus = f" − {-bar.plus:g}" if bar.plus < 0 else ""
    return f"{sign} {words}{plus} ({shown(verdict.limit)})"


def bound(results: Results) -> str:
    """What bounds the drain of a backlog of ours, by the cores that were used."""
    used = results["peers"][OURS]["figures"]
    if "backlog_peer" not in used:
        return ""
    parts = {
        "the worker": used["backlog_peer"],
        "MariaDB": used["backlog_database"],
        "Redis": used["backlog_redis"],
    }
    name, most = max(parts.items(), key=lambda part: part[1])
    spent = ", ".join(f"{part} {shown(cores)}" for part, cores in parts.items())
    if sum(parts.values()) >= 0.9 * results["cores"]:
        return f"The machine bounds the drain of a backlog: of {results['cores']} cores {spent} were used."
    if most >= 0.85:
        return (
            f"One core of {name} bounds the drain of a backlog: of {results['cores']} cores {spent} "
            "were used."
        )
    return (
        "No part bounds the drain of a backlog by itself; its steps wait for each other: of "
        f"{results['cores']} cores {spent} were used."
    )


def table(results: Results) -> Iterator[str]:
    """The lines of the table: the figures of each system, ours divided by the best peer's, and the bars."""
    peers = results["peers"]
    columns = [
        "",
        *(f"{peer['title']} {peer['version']}" for peer in peers.values()),
        "ours ÷ best peer",
        "bar",
        "",
    ]
    yield "| " + " | ".join(columns) + " |"
    yield "|---|" + "---:|" * (len(peers) + 1) + "---|---|"
    for figure, row in figures_of(results):
        judged = list(verdicts(figure, row))
        cells = [
            f"{figure.title}{f' ({figure.unit})' if figure.unit else ''}",
            *(shown(row.get(name)) for name in peers),
            shown(ratio(figure, row)),
            "; ".join(bar_text(verdict, figure, results) for verdict in judged),
            "; ".join("pass" if verdict.passed else "**missed**" for verdict in judged),
        ]
        yield "| " + " | ".join(cells) + " |"


def _better(results: Results) -> Iterator[str]:
    """Each figure in which a peer is ahead."""
    for figure, row in figures_of(results):
        leader, ours = best(figure, row), row.get(OURS)
        if (
            leader
            and ours is not None
            and (leader[1] < ours if figure.better == "less" else leader[1] > ours)
        ):
            yield (
                f"* {figure.title}: {results['peers'][leader[0]]['title']} {shown(leader[1])}, ours "
                f"{shown(ours)}{f' {figure.unit}' if figure.unit else ''}"
            )


def page(results: Results) -> str:
    """docs/performance.md."""
    peers = results["peers"].values()
    failures = [f"* {peer['title']}: {failure}" for peer in peers for failure in peer["failures"]]
    lines = [
        "# Performance",
        "",
        (
            f"Written by `{results['command']}` on {results['date']}; do not edit. One run, all systems one "
            "after the other on the same machine,"
        ),
        "with the load and the measurement on it too:",
        "",
        f"* {results['machine']};",
        (
            f"* {next(iter(peers))['servers']}; ROW binary log, `sync_binlog=1`, "
            "`innodb_flush_log_at_trx_commit=1`, on disk;"
        ),
        "* Redis without persistence;",
        f"* {results['seconds']:g} s of 500 commits a second; the other works in proportion.",
        "",
        *table(results),
        "",
        (
            "A dash is what was not measured, or does not exist: 4 commits a second are measured for "
            "ours only, and a key has no entry that could come again."
        ),
        "",
        *([bound(results), ""] if bound(results) else []),
        *(line for name, title in PLOTS.items() for line in (f"![{title}](performance-{name}.png)", "")),
        *(["## What failed", "", *failures, ""] if failures else []),
        "## What peers do better",
        "",
        *_better(results),
        *(f"* {text}" for text in BEYOND),
        "",
        "## How it is measured",
        "",
        *(f"* {text}" for text in HOW),
    ]
    return "\n".join(lines) + "\n"


def _line(figure: Figure, row: Values, peers: Iterable[str]) -> str:
    """A line of the README's table, with the best figure in bold."""
    known = [value for value in row.values() if value is not None]
    bold = {min(known) if figure.better == "less" else max(known)} if known and figure.better else set()
    cells = [f"**{shown(row[name])}**" if row[name] in bold else shown(row[name]) for name in peers]
    return f"| {figure.title}{f' ({figure.unit})' if figure.unit else ''} | " + " | ".join(cells) + " |"


def readme(text: str, results: Results) -> str:
    """README.md with the figures of this run between its marks. Raises ValueError when it has none."""
    peers = results["peers"]
    lines = [
        "| | " + " | ".join(peer["title"] for peer in peers.values()) + " |",
        "|---|" + "---:|" * len(peers),
        *(_line(figure, values(results, figure), peers) for figure in FIGURES if figure.key in README),
        "",
        f"Measured by `{results['command']}` on {results['date']}; the best of each line is bold.",
    ]
    begin, end = map(re.escape, MARKS)
    block = "\n".join([MARKS[0], *lines, MARKS[1]])
    changed, count = re.subn(f"{begin}.*?{end}", lambda _match: block, text, flags=re.DOTALL)
    if not count:
        raise ValueError(f"README.md has no {MARKS[0]}")
    return changed
