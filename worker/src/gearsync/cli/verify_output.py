# SPDX-License-Identifier: GPL-3.0-or-later
"""What `gearsync verify` prints about its results, as text or as JSON."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from gearsync.operate.verify.report import Difference, Report

EQUAL, DIFFERENT, NOT_COMPARED = 0, 1, 2


def exit_status(reports: Sequence[Report]) -> int:
    if any(report.remaining for report in reports):
        return DIFFERENT
    return EQUAL if all(report.equal for report in reports) else NOT_COMPARED


def show(reports: Sequence[Report], options: argparse.Namespace) -> None:
    """Print the results for all tables."""
    if options.json:
        print(as_json(reports, options))
        return
    for report in reports:
        print(f"{report.table}: {_result(report)} ({report.rows:,} rows, {report.keys:,} comparisons)")
        for example in report.examples:
            members = _place(example)
            print(
                f"    {members['kind'].replace('_', ' ')}: {members['key']}"
                + (f" member {members['member']}" if "member" in members else "")
            )
        for reason in _not_compared(report, options):
            print(f"    not compared: {reason}")


def as_json(reports: Sequence[Report], options: argparse.Namespace) -> str:
    tables = [
        {
            "table": report.table,
            "equal": report.equal,
            "rows": report.rows,
            "keys": report.keys,
            "different": dict(report.different),
            "repaired": report.repaired,
            "remaining": dict(+report.remaining),
            "unsettled": report.unsettled,
            "error": report.error or None,
            "refused": report.refused or None,
            "complete": not report.error and not _not_compared(report, options),
            "not_compared": _not_compared(report, options),
            "not_verifiable": report.unverifiable,
            "examples": [_place(example) for example in report.examples],
        }
        for report in reports
    ]
    status = exit_status(reports)
    return msgspec.json.encode(
        {
            "time": time.time(),
            "status": status,
            "equal": status == EQUAL,
            "complete": all(table["complete"] for table in tables),
            "tables": tables,
        }
    ).decode()


def failure_as_json(error: str) -> str:
    """The answer when no table could be compared."""
    return msgspec.json.encode(
        {
            "time": time.time(),
            "status": NOT_COMPARED,
            "equal": False,
            "complete": False,
            "error": error,
            "tables": [],
        }
    ).decode()


def _place(difference: Difference) -> dict[str, Any]:
    """The kind of a difference and where it is, as text."""
    place = {"kind": difference.kind, "key": difference.key.decode(errors="backslashreplace")}
    return (
        place
        if difference.member is None
        else {**place, "member": difference.member.decode(errors="backslashreplace")}
    )


def _not_compared(report: Report, options: argparse.Namespace) -> list[str]:
    """What of a table was not compared, as far as it is known."""
    reasons = [
        f"{write} cannot be compared: it is a list or a stream, or its key does not name the row"
        for write in report.unverifiable
    ]
    reasons += [
        f"{write}: orphaned keys are not looked for, because its keys do not name the row"
        for write in report.untraced
    ]
    if report.absent:
        reasons.append(
            f"{report.absent:,} keys or members with a time to live, which are not in Redis: expired, or "
            "removed one by one"
        )
    reasons += [f"{number:,} rows: {reason}" for reason, number in sorted(report.reasons.items())]
    if report.shared:
        reasons.append(f"{report.shared:,} keys may belong to another write, whose rows cannot be looked up")
    if report.untraceable:
        reasons.append(
            f"{report.untraceable:,} keys or members, which can be parsed in too many ways, or which MySQL "
            "refuses to look up"
        )
    if options.sample < 100.0:
        reasons.append(f"a sample of {options.sample:g} %")
    if options.quick:
        reasons.append("only the first and the last rows, and no orphaned keys")
    return reasons


def _result(report: Report) -> str:
    different = ", ".join(
        f"{number:,} {kind.replace('_', ' ')}" for kind, number in sorted(report.different.items())
    )
    parts = [different] if different else [] if report.error or report.unsettled else ["equal"]
    parts += [f"{report.repaired:,} repaired"] if report.repaired else []
    parts += [f"{report.unsettled:,} rows could not be compared"] if report.unsettled else []
    parts += [f"not pruned: {report.refused}"] if report.refused else []
    parts += [f"could not be compared: {report.error}"] if report.error else []
    return "; ".join(parts)
