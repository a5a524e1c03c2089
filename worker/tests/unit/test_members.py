# SPDX-License-Identifier: GPL-3.0-or-later
"""Which member is drained, by what each of them has answered."""

from __future__ import annotations

from typing import Union

import pytest
from gearsync.declare.configuration import Member
from gearsync.servers.members import Refusal, Seen, choose, states
from gearsync.servers.mysql import identity_of

A, B, C = (Member(host=name) for name in "abc")
PRIMARY, READ_ONLY = Seen("1", True, False), Seen("2", False, False)
#: A replica that takes writes.
OPEN_REPLICA = Seen("3", True, True)
SILENT = "does not answer"


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        ({A: PRIMARY}, A),
        ({A: PRIMARY, B: READ_ONLY}, A),
        ({A: READ_ONLY, B: PRIMARY}, B),
        ({A: SILENT, B: PRIMARY}, B),
        # Whatever its administrator has forgotten, a replica is none.
        ({A: PRIMARY, B: OPEN_REPLICA, C: READ_ONLY}, A),
        # Two addresses of one server.
        ({A: PRIMARY, B: PRIMARY, C: READ_ONLY}, A),
        # A primary in a circle replicates, too.
        ({A: OPEN_REPLICA, B: READ_ONLY}, A),
    ],
)
def test_the_only_writable_member_is_drained(answers: dict[Member, Union[Seen, str]], chosen: Member) -> None:
    assert choose(answers) == chosen


@pytest.mark.parametrize(
    ("answers", "parts"),
    [
        ({A: READ_ONLY}, ["a:3306: is read-only"]),
        ({A: READ_ONLY, B: SILENT}, ["a:3306: is read-only", "b:3306: does not answer"]),
        # Its primary may live, where this host does not see it.
        ({A: SILENT, B: OPEN_REPLICA}, ["a:3306: does not answer", "b:3306: is writable, and applies"]),
        (
            {A: OPEN_REPLICA, B: Seen("4", True, True)},
            ["a:3306: is writable, and applies", "b:3306: is writable, and applies"],
        ),
    ],
)
def test_without_a_primary_the_reason_names_each_member(
    answers: dict[Member, Union[Seen, str]], parts: list[str]
) -> None:
    refusal = choose(answers)
    assert isinstance(refusal, Refusal)
    assert not refusal.is_split
    assert [part in refusal.reason for part in parts] == [True] * len(parts), refusal.reason


def test_of_several_writable_members_none_is_drained() -> None:
    refusal = choose({A: PRIMARY, B: Seen("5", True, False), C: READ_ONLY})
    assert isinstance(refusal, Refusal)
    assert refusal.is_split
    assert refusal.reason.startswith("a:3306 and b:3306 are writable at once")


def test_the_states_of_all_members_are_shown() -> None:
    answers: dict[Member, Union[Seen, str]] = {A: PRIMARY, B: READ_ONLY, C: SILENT}
    assert states(answers) == {"a:3306": "primary", "b:3306": "read-only", "c:3306": "does not answer"}
    answers[B] = Seen("5", True, False)
    assert states(answers)["a:3306"] == states(answers)["b:3306"] == "writable"


def test_a_server_is_the_same_at_each_of_its_addresses() -> None:
    variables = {"hostname": b"h", "port": b"3306", "server_id": b"1", "datadir": b"/d"}
    assert identity_of(variables) == identity_of({**variables, "read_only": b"ON"})
    assert identity_of(variables) != identity_of({**variables, "server_id": b"2"})
    assert identity_of({**variables, "server_uuid": b"u"}) == "u"
