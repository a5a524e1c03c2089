"""What the worker asks of Redis, be it one server or a cluster."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Callable, ClassVar, Optional, Union

from gearsync.declare.configuration import RedisSettings
from gearsync.servers.redis_errors import Unavailable, text, words_of
from gearsync.shapes.shape import Command, Step


class Script:
    """A Lua script, and the name that Redis gives it."""

    def __init__(self, text: str, waits: bool = False) -> None:
        """``waits``: its answer counts only when as many replicas have what it wrote as the settings ask for."""
        self.text = text
        self.waits = waits
        self.sha = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324  # Redis names its scripts so


class Target(ABC):
    """Where changes are applied."""

    #: Whether a part of it can be out of reach while the rest is not.
    is_parted: ClassVar[bool] = False
    #: Its address, for messages.
    name: str

    @abstractmethod
    def apply(self, commands: Sequence[Command]) -> list[Optional[str]]:
        """Execute ``commands`` in their order in one round trip; for each, None or its error. Raises Unavailable."""

    @abstractmethod
    def by_slot(self, steps: Sequence[Step]) -> dict[int, list[Step]]:
        """The steps whose keys can be written at once, in their order."""

    @abstractmethod
    def fence_key(self, source: str, slot: int, shard: int) -> str:
        """The key of a fence, which is in its slot."""

    @abstractmethod
    def run(self, script: Script, calls: Sequence[tuple[int, Sequence[Any]]]) -> list[Any]:
        """Execute ``script`` for each slot with its arguments; what it answers, when as many replicas have it as the settings ask for.

        Raises Denied, and Unavailable: then it may have been done, or be done later. Where others have answered, one of them stands in the place of an answer.
        """

    @abstractmethod
    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """What Redis answers to ``commands``, in one round trip; an error reply stands as the exception in its place. Raises Unavailable."""

    @abstractmethod
    def scan(self, page: int) -> Iterator[list[bytes]]:
        """All keys, about ``page`` at a time; one may come twice. Raises Unavailable."""

    def scan_members(self, key: bytes, scored: bool, page: int) -> Iterator[list[bytes]]:
        """The members of a set, or of a sorted set when ``scored``, about ``page`` at a time; nothing for a key of another type. Raises Unavailable."""
        for found in pages(self.ask, "ZSCAN" if scored else "SSCAN", key, page=page):
            yield [member for member, _score in found] if scored else found

    @abstractmethod
    def ping(self) -> None:
        """Raises Unavailable when Redis does not answer or refuses us."""

    @abstractmethod
    def refused(self, commands: Sequence[Command]) -> list[str]:
        """The names of those of ``commands`` that the server does not know or this account may not execute; none of them is executed. Raises Unavailable."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""


def pages(ask: Callable[[Sequence[Command]], list[Any]], *command: Union[str, bytes], page: int) -> Iterator[list[Any]]:
    """The pages of a SCAN, or of the command of its kind for one key; nothing for a key of another type. Raises Unavailable."""
    cursor = 0
    while True:
        (answer,) = ask([(*command, cursor, "COUNT", page)])
        if isinstance(answer, Exception):
            if len(command) > 1 and str(answer).startswith("WRONGTYPE"):
                return
            # Keys that nobody may see are not keys that are not there.
            raise Unavailable(f"{text(command[0])}: {words_of(answer)}")
        cursor, found = int(answer[0]), answer[1]
        if found:
            yield found
        if cursor == 0:
            return


def open_target(settings: RedisSettings, timeout: float) -> Target:
    """The target that the settings name; ``timeout`` bounds connecting and every answer, in seconds. Connects at the first use."""
    # Each kind is imported where it is used.
    if settings.cluster:
        from gearsync.servers.redis_cluster import ClusterTarget  # noqa: PLC0415

        return ClusterTarget(settings, timeout)
    from gearsync.servers.redis import ServerTarget  # noqa: PLC0415

    return ServerTarget(settings, timeout)
