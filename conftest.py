# SPDX-License-Identifier: GPL-3.0-or-later
"""For all tests: what a test started is watched, shown when the test fails, and ended with the run."""

from __future__ import annotations

import importlib.util
import os
import site
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if not importlib.util.find_spec("hypothesis"):
    # This pytest is not that of .work/venv. It can use the packages there when both belong to one version of
    # Python.
    environment = Path(__file__).parent / ".work/venv"
    packages = environment / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    if not packages.is_dir():
        pytest.exit(
            f"{sys.executable} lacks the packages of the tests: run `make unit` or `make setup`, then "
            ".work/venv/bin/pytest",
            returncode=4,
        )
    site.addsitedir(str(packages))
    # For what the tests start.
    sys.executable = str(environment / "bin/python")

from harness import process
from hypothesis import settings

# A busy machine is no failure.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load the plugin whose setting pytest.ini has, which only the pytest of .work/venv loads by itself."""
    if not pluginmanager.hasplugin("timeout"):
        pluginmanager.import_plugin("pytest_timeout")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Leave a report in the directory that tests/run names, unless the command line names one."""
    if directory := os.environ.get("GEARSYNC_REPORTS"):
        config.option.xmlpath = config.option.xmlpath or f"{directory}/pytest-{os.getpid()}.xml"


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A unit test starts no server: `make unit` has none."""
    process.Process.allowed = "unit" not in item.path.parts


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Append the end of each running process' log to the report of a test that failed."""
    report: Any = yield
    if report.failed:
        report.sections.extend(
            (f"the end of the log of {name}", text) for name, text in process.logs().items()
        )
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Report a process that ended during the test and that the test did not look at."""
    process.check_all()


def pytest_sessionfinish() -> None:
    process.kill_all()
