# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines of the log: what machines find in them."""

from __future__ import annotations

import json
import logging
import os
import pathlib
from collections.abc import Iterator

import pytest
from gearsync.telemetry import logs


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:] = before
    root.setLevel(level)


def test_json_lines_carry_what_a_record_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json", "main")
    logging.getLogger("x").error(
        "two are refused", extra={"action": "refused", "table": "s.t", "shard": 3, "count": 2}
    )
    line = json.loads(capsys.readouterr().err)
    assert {
        name: line[name] for name in ("level", "action", "source", "table", "shard", "count", "message")
    } == {
        "level": "error",
        "action": "refused",
        "source": "main",
        "table": "s.t",
        "shard": 3,
        "count": 2,
        "message": "two are refused",
    }


def test_the_journal_gets_each_lines_priority(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "in_journal", lambda _descriptor, _stream: True)
    logs.configure("info", "text")
    logging.getLogger("x").warning("one\ntwo", extra={"action": "a"})
    assert [line[:3] for line in capsys.readouterr().err.splitlines()] == ["<4>", "<4>"]
    monkeypatch.undo()
    logs.configure("info", "text")
    logging.getLogger("x").warning("one", extra={"action": "a"})
    assert capsys.readouterr().err.startswith("warning action=a")


def test_the_journal_is_known_by_its_inode(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "file").open("w") as file:
        found = os.fstat(file.fileno())
        assert logs.in_journal(file.fileno(), f"{found.st_dev}:{found.st_ino}")
        assert not logs.in_journal(file.fileno(), f"{found.st_dev}:{found.st_ino + 1}")
        assert not logs.in_journal(file.fileno(), "")
