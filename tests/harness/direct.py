# SPDX-License-Identifier: GPL-3.0-or-later
"""A declaration with direct delivery."""

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
