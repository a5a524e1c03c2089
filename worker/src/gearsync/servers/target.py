# SPDX-License-Identifier: GPL-3.0-or-later
"""What the worker needs of Redis, whether it is one server or a cluster."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Callable, ClassVar, Optional, Union

from gearsync.declare.configuration import RedisSettings
from gearsync.servers.hops import Hop
from gearsync.servers.redis_errors import Unavailable, message_of, text
from gearsync.shapes.shape import Command, Step


class Script:
    """A Lua script, and the hash by which Redis knows it."""

    def __init__(self, text: str, waits: bool = False) -> None:
        """``waits``: its answer counts only when as many replicas have its writes as the settings require."""
        self.text = text
        self.waits = waits
        self.sha = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324  # Redis uses SHA-1 for EVALSHA


class Target(ABC):
    """The Redis that changes are applied to."""

    #: Whether a part of it can be unreachable while the rest is not.
    is_parted: ClassVar[bool] = False
    #: Its address, for messages.
    name: str

    @abstractmethod
    def apply(self, commands: Sequence[Command]) -> list[Optional[str]]:
        """Execute ``commands`` in order, in one round trip. Returns for each None or its error. Raises
        Unavailable.
        """

    @abstractmethod
    def by_slot(self, steps: Sequence[Step]) -> dict[int, list[Step]]:
        """The steps by the slot of their keys, each slot's in order: a script writes to one slot."""

    @abstractmethod
    def fence_key(self, source: str, slot: int, shard: Union[int, str]) -> str:
        """The key of a shard's fence, or of the one by another name, which lies in this slot."""

    @abstractmethod
    def run(
        self,
        script: Script,
        calls: Sequence[tuple[int, Sequence[Any]]],
        meanwhile: Optional[Callable[[], None]] = None,
    ) -> list[Any]:
        """Execute ``script`` for each slot with its arguments. Returns the answers, once enough replicas have
        the writes.

        ``meanwhile`` is called once at most, while Redis executes it; what it raises is raised.
        Raises Denied and Unavailable: then the script may have run, or may run later. When other slots have
        answered, the exception is returned in the place of an answer.
        """

    @abstractmethod
    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to ``commands`` as Redis gives them, in one round trip; an error reply is an exception
        in its place. Raises Unavailable.
        """

    @abstractmethod
    def scan(self, page: int) -> Iterator[list[bytes]]:
        """All keys, about ``page`` at a time; a key may occur twice. Raises Unavailable."""

    def scan_members(self, key: bytes, scored: bool, page: int) -> Iterator[list[bytes]]:
        """The members of a set, or of a sorted set when ``scored``, about ``page`` at a time; none for a key
        of another type.

        Raises Unavailable.
        """
        for members in pages(self.ask, "ZSCAN" if scored else "SSCAN", key, page=page):
            # Each member of a sorted set is followed by its score.
            yield members[::2] if scored else members

    @abstractmethod
    def ping(self) -> None:
        """Raises Unavailable when Redis does not answer or refuses the account."""

    @abstractmethod
    def hops(self) -> list[Hop]:
        """How the way to each of its servers is protected. Raises Unavailable."""

    @abstractmethod
    def refused(self, commands: Sequence[Command]) -> list[str]:
        """The names of those of ``commands`` that the server does not know or this account may not execute.

        No command is executed. Raises Unavailable.
        """

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""


def pages(
    ask: Callable[[Sequence[Command]], list[Any]], *command: Union[str, bytes], page: int
) -> Iterator[list[Any]]:
    """The pages of SCAN, SSCAN or ZSCAN; none for a key of another type. Raises Unavailable."""
    cursor = 0
    while True:
        (answer,) = ask([(*command, cursor, "COUNT", page)])
        if isinstance(answer, Exception):
            if len(command) > 1 and str(answer).startswith("WRONGTYPE"):
                return
            # Keys that the account may not read are not absent keys.
            raise Unavailable(f"{text(command[0])}: {message_of(answer)}")
        cursor, elements = int(answer[0]), answer[1]
        if elements:
            yield elements
        if cursor == 0:
            return


def open_target(settings: RedisSettings, timeout: float) -> Target:
    """The target of the settings; ``timeout`` bounds connecting and each answer, in seconds. Connects at
    the first use.
    """
    # A process imports only the kind that it uses, to save memory.
    if settings.cluster:
        from gearsync.servers.redis_cluster import ClusterTarget  # noqa: PLC0415

        return ClusterTarget(settings, timeout)
    from gearsync.servers.redis import ServerTarget  # noqa: PLC0415

    return ServerTarget(settings, timeout)
