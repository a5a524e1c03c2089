# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the results of verifications in the database, for `gearsync status` and the exporter."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gearsync.operate.verify.report import Report
from gearsync.project.expectation import KINDS
from gearsync.servers.mysql import Database


def store(database: Database, reports: Sequence[Report], sample: float) -> None:
    """Keep the last result for a whole table, for a sample, and the last failure. Raises
    DatabaseUnavailable.
    """
    for report in reports:
        kind = "failed" if report.error else "full" if sample >= 100.0 else "sample"
        # All kinds of differences, also those that are gone: a metric must go back to 0.
        different = {kind: report.remaining.get(kind, 0) for kind in KINDS}
        database.run(
            "REPLACE INTO gearsync.verification (table_name, kind, sample, rows_seen, different, unsettled, "
            "repaired, error)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            (
                report.table,
                kind,
                sample,
                report.rows,
                msgspec.json.encode(different),
                report.unsettled,
                report.repaired,
                report.error[:1000],
            ),
        )
