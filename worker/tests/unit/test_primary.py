# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the threads that ask the members of a source."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Union

import pytest
from gearsync.declare.configuration import Member, MySQLSettings
from gearsync.servers import primary
from gearsync.servers.members import Seen
from gearsync.servers.mysql import Database
from gearsync.servers.primary import Members, Watch
from harness.waiting import until

A, B = Member(host="127.0.0.1", port=1), Member(host="127.0.0.1", port=2)
SETTINGS = MySQLSettings(user="none", members=[A, B])


def fail(_database: Database) -> Union[Seen, str]:
    raise KeyError("a bug")


@pytest.fixture(autouse=True)
def _bug(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(primary, "_ask", fail)


pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def error_of(call: Callable[[], object]) -> str:
    """The text of the RuntimeError of a call; empty without one."""
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return ""


def test_a_thread_that_has_ended_is_not_a_member_that_does_not_answer() -> None:
    # One that is about to end does not answer.
    members = Members(SETTINGS)
    ended = re.compile(r"the thread 'member 127\.0\.0\.1:[12]' has ended")
    until(lambda: bool(ended.fullmatch(error_of(members.ask))))


def test_a_drain_does_not_go_on_when_its_members_are_not_watched() -> None:
    watch = Watch(SETTINGS)
    until(lambda: error_of(watch.require_alive), "the thread 'members' has ended")
