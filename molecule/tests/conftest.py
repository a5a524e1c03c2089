# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests that look at deployed hosts."""

from __future__ import annotations

import os

import pytest
from harness.hosts import Host, Playbooks, names


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "host" in metafunc.fixturenames:
        assert names(), "GEARSYNC_HOSTS names no host: run these tests by `molecule verify`"
        metafunc.parametrize("host", [Host(name) for name in names()], ids=names())


@pytest.fixture(scope="session")
def playbooks() -> Playbooks:
    return Playbooks(os.environ["GEARSYNC_INVENTORIES"].split())
