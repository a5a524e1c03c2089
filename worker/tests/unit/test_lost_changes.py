# SPDX-License-Identifier: GPL-3.0-or-later
"""What a batch with changes that cannot be applied logs."""

from __future__ import annotations

import logging

import pytest
from gearsync.apply.applier import log_dead_letters
from gearsync.outbox.changes import Entry
from gearsync.values import Malformed


def test_the_dead_letters_of_a_batch_are_one_message_for_each_table(caplog: pytest.LogCaptureFixture) -> None:
    entries = [
        Entry(number, 0, "shop.a" if number % 2 else "shop.b", "insert", b"{}") for number in range(100)
    ]
    dead = {number: Malformed(f"why {number}") for number in range(100) if number != 1}
    with caplog.at_level(logging.ERROR):
        log_dead_letters(entries, dead)
    a, b = (record.__dict__ for record in caplog.records)
    assert (a["table"], a["count"], a["ids"]) == ("shop.a", 49, [3, 5, 7, 9, 11])
    assert (b["table"], b["count"], b["ids"][0]) == ("shop.b", 50, 0)
    assert "why 3" in caplog.records[0].getMessage()
