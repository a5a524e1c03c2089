# SPDX-License-Identifier: GPL-3.0-or-later
"""Triggers that wake no worker, for a server on which no function can be registered."""

import pytest
from harness.durable import DECLARATION, changes


@pytest.mark.usefixtures("table")
def test_triggers_without_a_wake_call_no_function(database, modules):
    made = modules.ok("sync_table", **DECLARATION, wake=False)
    assert made["changed"]
    bodies = database.execute(
        "SELECT ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = 'shop'"
    )
    assert len(bodies) == 3
    assert not any("gman_" in body for (body,) in bodies)
    assert not any("gman_wake" in warning for warning in made.get("warnings", []))
    database.execute(
        "INSERT INTO shop.t (id, name) VALUES (1, 'a')", "UPDATE shop.t SET name = 'b'", "DELETE FROM shop.t"
    )
    assert [operation for operation, _change in changes(database)] == ["insert", "update", "delete"]
    assert not modules.ok("sync_table", **DECLARATION, wake=False)["changed"]
    # From one to the other at any time.
    assert modules.ok("sync_table", **DECLARATION)["changed"]
    assert modules.ok("sync_table", **DECLARATION, wake=False)["changed"]


@pytest.mark.usefixtures("table")
def test_direct_delivery_needs_its_function(modules):
    refused = modules.refused("sync_table", **{**DECLARATION, "delivery": "direct"}, wake=False)
    assert "wake: must be true with delivery: direct" in refused
