# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for a condition, with a deadline that a slow machine meets too."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from harness.process import check_all

#: Seconds. What takes a second on an idle machine may take a minute on a busy one that is five times slower.
DEADLINE = 180.0


def until(look: Callable[[], Any], wanted: Any = True, seconds: float = DEADLINE) -> None:
    """Wait until ``look()`` equals ``wanted``; with ``wanted=True``, until it is true.

    Raises AssertionError with the last answer after ``seconds``, and at once when a process that a test
    started has ended.
    """
    deadline = time.monotonic() + seconds
    while True:
        check_all()
        answer = look()
        if answer == wanted or (wanted is True and answer):
            return
        assert time.monotonic() < deadline, f"after {seconds:g} s still {answer!r}, wanted {wanted!r}"
        time.sleep(0.02)
