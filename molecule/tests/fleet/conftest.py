# SPDX-License-Identifier: GPL-3.0-or-later
"""What holds after each of the tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness.deployed_member import DeployedMember

#: The members of each source.
SOURCES = {
    "main": [DeployedMember("fleet-db"), DeployedMember("fleet-replica")],
    "users": [DeployedMember("fleet-users1"), DeployedMember("fleet-users2")],
}


@pytest.fixture(scope="session")
def members() -> dict[str, list[DeployedMember]]:
    return SOURCES


@pytest.fixture(autouse=True)
def replication_is_healthy(members: dict[str, list[DeployedMember]]) -> Iterator[None]:
    """Each replica has what its primary has, and nothing of its own, whatever a test ran."""
    yield
    for pair in members.values():
        running = [member for member in pair if member.is_running]
        (primary,) = [member for member in running if member.is_writable]
        for replica in running:
            if replica is not primary:
                replica.require_same(primary)
