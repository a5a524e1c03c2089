# SPDX-License-Identifier: GPL-3.0-or-later
"""Which member of a source is drained: the one that is writable. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Union

from gearsync.declare.configuration import Member

#: The states of a member that answers.
ANSWERED = PRIMARY, READ_ONLY, WRITABLE = ("primary", "read-only", "writable")


class Seen(NamedTuple):
    """A member's answer."""

    server: str
    """Identifies the server, whatever address it was asked at."""
    is_writable: bool
    replicates: bool
    """Whether it applies the changes of another server; False when that is unknown."""


class Refusal(NamedTuple):
    """Why no member can be drained."""

    reason: str
    is_split: bool
    """Whether several members are writable."""


#: What is known of each member: its answer, or why there is none.
Answers = Mapping[Member, Union[Seen, str]]


def choose(answers: Answers) -> Union[Member, Refusal]:
    """The member to drain. Pure.

    It is the only one that is writable. A replica that its administrator has not made read-only does not
    count, as long as it is known to be a replica. Of several others none is taken: writes may go to each of
    them, and which one is to win is not known here.
    """
    writable: dict[str, Member] = {}
    replicas: dict[str, Member] = {}
    for member, seen in answers.items():
        if isinstance(seen, Seen) and seen.is_writable:
            # One server may have several addresses.
            (replicas if seen.replicates else writable).setdefault(seen.server, member)
    if len(writable) == 1:
        return next(iter(writable.values()))
    if writable:
        return Refusal(
            f"{_listed(writable.values())} are writable at once, and which of them is the primary is not "
            "guessed: set read_only on all others. Where all are meant to be writable (Galera, group "
            "replication in multi-primary mode), name a single one or a proxy's address",
            True,
        )
    # In a circle the primary replicates, too. A replica alone could be one whose primary is unreachable from
    # here, so all members must have answered.
    if len(replicas) == 1 and all(isinstance(seen, Seen) for seen in answers.values()):
        return next(iter(replicas.values()))
    return Refusal("; ".join(f"{member.name}: {_state(seen)}" for member, seen in answers.items()), False)


def _state(seen: Union[Seen, str]) -> str:
    if isinstance(seen, str):
        return seen
    return "is writable, and applies the changes of another server" if seen.is_writable else "is read-only"


def _listed(members: Iterable[Member]) -> str:
    names = [member.name for member in members]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def states(answers: Answers) -> dict[str, str]:
    """Each member's name and state, for `gearsync status`: ``primary``, ``read-only``, ``writable`` or why it
    does not answer. Pure.
    """
    chosen = choose(answers) if answers else None
    return {
        member.name: PRIMARY
        if member == chosen
        else (WRITABLE if seen.is_writable else READ_ONLY)
        if isinstance(seen, Seen)
        else seen
        for member, seen in answers.items()
    }
