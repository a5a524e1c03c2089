# SPDX-License-Identifier: GPL-3.0-or-later
"""The option --max-prune: how many keys and members of a table may be removed."""

from __future__ import annotations

import argparse
import re
from typing import NamedTuple

#: So many keys of a table may be removed whatever share of it they are.
_ALWAYS_ALLOWED = 10
_SHARE_OR_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?)%|([0-9]+)")


class PruneLimit(NamedTuple):
    """A share of a table's keys in percent, or a number of keys."""

    given: str
    share: float
    number: int

    def allows(self, orphans: int, keys: int) -> bool:
        return orphans <= max(self.number, keys * self.share / 100.0)


def prune_limit(given: str) -> PruneLimit:
    """A share like ``5%``, or a number. Raises ArgumentTypeError."""
    match = _SHARE_OR_NUMBER.fullmatch(given)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"{given!r} is neither a share of a table's keys, such as 5%, nor a number of keys"
        )
    share, number = match.groups()
    return PruneLimit(given, float(share), _ALWAYS_ALLOWED) if share else PruneLimit(given, 0.0, int(number))
