# SPDX-License-Identifier: GPL-3.0-or-later
"""How long it is assumed that a table has durable delivery or has not."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
from gearsync.apply import late_jobs


def test_that_a_table_is_not_durable_is_assumed_for_one_batch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[dict[str, Any]] = [{}, {"shop.item": object()}]
    monkeypatch.setattr(late_jobs.synced_table, "load", lambda _database: answers.pop(0))
    jobs = late_jobs.LateJobs(mock.Mock(), ["shop.item"])
    jobs.begin()
    assert [jobs.is_durable("shop.item"), jobs.is_durable("shop.item"), jobs.is_durable("shop.other")] == [
        False,
        False,
        False,
    ]
    for _batch in range(2):
        # Asked once more, and then assumed.
        jobs.begin()
        assert jobs.is_durable("shop.item")
    assert answers == []
