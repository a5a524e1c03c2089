"""For all tests: what a test started is watched, shown when the test fails, and ended with the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from harness import process
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Leave a report in the directory that tests/run names, unless the command line names one."""
    if directory := os.environ.get("GEARSYNC_REPORTS"):
        config.option.xmlpath = config.option.xmlpath or f"{directory}/pytest-{os.getpid()}.xml"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Append the end of each running process' log to the report of a test that failed."""
    report: Any = yield
    if report.failed:
        report.sections.extend((f"the end of the log of {name}", text) for name, text in process.logs().items())
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Report a process that ended during the test and that the test did not look at."""
    process.check_all()


def pytest_sessionfinish() -> None:
    process.kill_all()
