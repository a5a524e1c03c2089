# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker processes have applied in the last minute, by table. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

import msgspec

from gearsync.telemetry.metrics import CHANGES, Histogram, Report, Tally


class Activity(msgspec.Struct):
    """One table's changes per second, and their lag in seconds."""

    rate: float
    p50: Optional[float]
    p99: Optional[float]


def activity(reports: Iterable[Report]) -> dict[str, Activity]:
    """The sum of all processes' reports."""
    rates: dict[str, float] = {}
    tally = Tally()
    for report in reports:
        tally.add(report.tally)
        for table, number in report.tally.counters.get(CHANGES, {}).items():
            rates[table] = rates.get(table, 0.0) + (number / report.seconds if report.seconds else 0.0)
    nothing = Histogram()
    return {
        table: Activity(
            rate,
            tally.lags.get(table, nothing).percentile(0.5),
            tally.lags.get(table, nothing).percentile(0.99),
        )
        for table, rate in rates.items()
    }
