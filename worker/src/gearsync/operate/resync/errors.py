# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends a resync before its end."""

from __future__ import annotations


class Busy(Exception):
    """Another resync of the table is running."""


class LostMeanwhile(Exception):
    """Redis has lost what was loaded: the resync has to start over."""


class Stuck(Exception):
    """The workers do not take the changes that wait in the outbox; the message names the tables."""


class Redeclared(Exception):
    """The table was deployed with another declaration while it was loaded: the resync continues with the
    new one, or starts over.
    """
