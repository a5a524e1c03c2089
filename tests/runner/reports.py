# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step leaves behind: JUnit reports of its tests and of Ansible's tasks."""

from __future__ import annotations

import collections
import dataclasses
import xml.etree.ElementTree as ET
from pathlib import Path

#: pytest's own words, or "[host] play: task" and the seconds that it took.
Timing = tuple[float, str]


@dataclasses.dataclass
class Outcomes:
    """How the tests of one step ended."""

    passed: int = 0
    failed: int = 0
    #: Reason → number of tests skipped for it.
    skipped: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    timings: list[Timing] = dataclasses.field(default_factory=list)
    #: Reports that cannot be read, as of a pytest that was killed while it wrote.
    broken: list[str] = dataclasses.field(default_factory=list)

    @property
    def ran(self) -> int:
        return self.passed + self.failed

    def __str__(self) -> str:
        parts = [(self.passed, "passed"), (self.failed, "failed"), (self.skipped.total(), "skipped")]
        return ", ".join(f"{number} {word}" for number, word in parts if number)


def outcomes(directory: Path) -> Outcomes:
    """The sum of all of pytest's reports in a directory."""
    result = Outcomes()
    for path in sorted(directory.glob("*.xml")):
        try:
            cases = list(ET.parse(path).iter("testcase"))
        except ET.ParseError as error:
            result.broken.append(f"{path.name}: {error}")
            continue
        for case in cases:
            result.timings.append(
                (float(case.get("time") or 0), f"{case.get('classname')}::{case.get('name')}")
            )
            skipped = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                result.failed += 1
            elif skipped is not None:
                result.skipped[skipped.get("message") or "no reason given"] += 1
            else:
                result.passed += 1
    return result


def tasks(directory: Path) -> list[Timing]:
    """How long each task of Ansible's took on each host, from the reports of its callback ``junit``."""
    timings: list[Timing] = []
    for path in sorted(directory.glob("*.xml")):
        try:
            cases = list(ET.parse(path).iter("testcase"))
        except ET.ParseError:
            continue  # of a playbook that was killed; its step has failed
        timings.extend((float(case.get("time") or 0), str(case.get("name"))) for case in cases)
    return timings
