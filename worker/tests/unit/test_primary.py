# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of the threads that ask the members of a source."""

from __future__ import annotations

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


def test_a_thread_that_has_ended_is_not_a_member_that_does_not_answer() -> None:
    with pytest.raises(RuntimeError, match=r"'member 127\.0\.0\.1:[12]' has ended"):
        Members(SETTINGS).ask()


def test_a_drain_does_not_go_on_when_its_members_are_not_watched() -> None:
    watch = Watch(SETTINGS)

    def error() -> str:
        try:
            watch.require_alive()
        except RuntimeError as ended:
            return str(ended)
        return ""

    until(error, "the thread 'members' has ended")
