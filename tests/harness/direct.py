# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations with direct delivery."""

from __future__ import annotations

from typing import Any

HASH = {"type": "hash", "key": "t:{id}"}
DECLARATION: dict[str, Any] = {
    "table": "shop.t",
    "delivery": "direct",
    "events": ["insert", "update", "delete"],
    "columns": ["id", "name"],
    "write": [HASH],
}


def declaration(**changes: Any) -> dict[str, Any]:
    """One of a table with columns id, a and b, with these changes."""
    return {
        "table": "s.t",
        "delivery": "direct",
        "function": "f",
        "events": ["insert", "update", "delete"],
        "columns": ["id", "a", "b"],
        "write": [HASH],
        **changes,
    }
