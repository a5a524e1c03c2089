# SPDX-License-Identifier: GPL-3.0-or-later
"""The plots of docs/performance.md, from the series of the results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot


def write(results: Mapping[str, Any], directory: Path) -> None:
    """Write one PNG a plot."""
    for name, title, across, up, options in (
        (
            "latency",
            "Commit → visible at 500 commits a second",
            "ms",
            "% of the changes",
            {"xscale": "log", "ylim": (0, 100)},
        ),
        (
            "backlog",
            "A backlog of transactions of 1,000 rows, from the start of the process",
            "s",
            "rows in Redis",
            {"xlim": (0, None), "ylim": (0, None)},
        ),
        (
            "lag",
            "Commit → visible at 500 commits a second, SIGKILL and a start at 0 s",
            "s",
            "s until visible",
            {"yscale": "log"},
        ),
    ):
        figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
        for peer in results["peers"].values():
            points = peer["series"].get(name, [])
            # A logarithmic axis has no zero.
            least = 0.0001 if name == "lag" else 0.01 if name == "latency" else 0.0
            x = [max(point[0], least) if name == "latency" else point[0] for point in points]
            y = [max(point[1], least) if name == "lag" else point[1] for point in points]
            axes.plot(x, y, label=f"{peer['title']} {peer['version']}", linewidth=1.5)
        axes.set(title=title, xlabel=across, ylabel=up, **options)
        axes.grid(alpha=0.3)
        axes.legend()
        # Without the version of matplotlib and the date in it, so that the same results make the same file.
        figure.savefig(directory / f"performance-{name}.png", dpi=110, metadata={"Software": None})
        pyplot.close(figure)
