# SPDX-License-Identifier: GPL-3.0-or-later
"""One Redis server: a batch of commands in one round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Optional, Union

import hiredis
import redis
from redis import exceptions

from gearsync.contract import fence_key
from gearsync.declare.configuration import RedisSettings
from gearsync.servers.hops import Hop
from gearsync.servers.redis_client import hop_of, server_client
from gearsync.servers.redis_errors import Unavailable, denied_or_unavailable, is_temporary, message_of, text
from gearsync.servers.target import Script, Target, pages
from gearsync.shapes.shape import Command, Step

# For each connection redis-py searches the installed packages for its own version, which costs memory in each
# process.
redis.utils.get_lib_version = lambda: redis.__version__


def wait_for(settings: RedisSettings) -> Optional[tuple[Any, ...]]:
    """The WAIT command of the settings: how many replicas have the connection's writes. None when no
    replica must. Pure.
    """
    return ("WAIT", settings.replicas, int(settings.replicas_timeout * 1000)) if settings.replicas else None


def too_few_replicas(copies: int, wait: tuple[Any, ...]) -> Optional[str]:
    """Why the answer ``copies`` to ``wait`` is not enough; None when it is. Pure."""
    _name, required, milliseconds = wait
    return (
        f"{copies} of {required} replicas had the batch after {milliseconds / 1000:g} s"
        if copies < required
        else None
    )


def ensure_connected(connection: Any) -> None:
    """Connect; replace a connection that the server has closed while it was idle. Raises what connecting
    raises.
    """
    # Does nothing when it is connected; only this asks a sentinel for the master.
    connection.connect()
    try:
        closed = connection.can_read()
    except (exceptions.RedisError, OSError):
        closed = True
    if closed:
        connection.disconnect()
        connection.connect()


def _is_refusal(answer: Any) -> bool:
    """Whether the server does not know a command, or the account may not execute it."""
    return isinstance(answer, exceptions.NoPermissionError) or (
        isinstance(answer, exceptions.ResponseError) and str(answer).startswith("unknown command")
    )


def refused_on(connection: Any, commands: Sequence[Command]) -> list[str]:
    """The names of those of ``commands`` that the server does not know or the connection's account may not
    execute.

    Closes the connection. Raises RedisError and OSError.
    """

    def answer(*command: Any) -> Any:
        connection.send_command(*command)
        try:
            return connection.read_response()
        except exceptions.ResponseError as error:
            return error

    try:
        connection.connect()
        # Redis checks the account's rights, and before them the number of arguments, when a command is
        # queued.
        if isinstance(answer("MULTI"), Exception):
            return []
        names = [text(command[0]) for command in commands if _is_refusal(answer(*command))]
        answer("DISCARD")
        return names
    finally:
        connection.disconnect()


class ServerTarget(Target):
    """One Redis server, by its address or as the master that Sentinels know."""

    def __init__(self, settings: RedisSettings, timeout: float) -> None:
        """``timeout`` bounds connecting and every answer, in seconds. Connects at the first use."""
        if settings.sentinels:
            self.name = f"{settings.sentinel_master} of {', '.join(settings.sentinels)}"
        else:
            self.name = settings.unix_socket or f"{settings.host}:{settings.port}"
        self._client = server_client(settings, timeout)
        # A cluster's nodes are asked without them, and both give the same answers.
        self._client.response_callbacks.clear()
        self._is_verified = settings.secured is not None
        # A connection of its own: a script and its WAIT must be sent over the same one.
        self._fenced: Any = self._client.connection_pool.make_connection()
        self._wait = wait_for(settings)

    def apply(self, commands: Sequence[Command]) -> list[Optional[str]]:
        answers = self.ask(commands)
        for answer in answers:
            if is_temporary(answer):
                raise Unavailable(message_of(answer))
        return [
            message_of(answer) if isinstance(answer, exceptions.RedisError) else None for answer in answers
        ]

    def by_slot(self, steps: Sequence[Step]) -> dict[int, list[Step]]:
        return {0: list(steps)} if steps else {}

    def fence_key(self, source: str, _slot: int, shard: Union[int, str]) -> str:
        return fence_key(source, shard)

    def run(
        self,
        script: Script,
        calls: Sequence[tuple[int, Sequence[Any]]],
        meanwhile: Optional[Callable[[], None]] = None,
    ) -> list[Any]:
        if not calls:
            return []
        ((_slot, arguments),) = calls
        try:
            wait = self._wait if script.waits else None
            answer, copies = self._ask_fenced(("EVALSHA", script.sha, *arguments), wait, meanwhile)
            if isinstance(answer, exceptions.NoScriptError):
                answer, copies = self._ask_fenced(("EVAL", script.text, *arguments), wait)
        except (exceptions.RedisError, OSError) as error:
            # The script returns the errors of its commands, so that this one is about the server.
            self._fenced.disconnect()
            raise denied_or_unavailable(error) from None
        reason = too_few_replicas(copies, wait) if wait else None
        if reason:
            raise Unavailable(reason)
        return [answer]

    def _ask_fenced(
        self,
        command: tuple[Any, ...],
        wait: Optional[tuple[Any, ...]],
        meanwhile: Optional[Callable[[], None]] = None,
    ) -> tuple[Any, int]:
        """The script's answer, or NoScriptError, and how many replicas have its writes."""
        ensure_connected(self._fenced)
        self._fenced.send_packed_command([hiredis.pack_command(each) for each in (command, wait) if each])
        if meanwhile:
            try:
                meanwhile()
            except BaseException:
                # The next command would read this one's answer.
                self._fenced.disconnect()
                raise
        try:
            answer = self._fenced.read_response()
        except exceptions.NoScriptError as error:
            answer = error
        return answer, self._fenced.read_response() if wait else 0

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        if not commands:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        try:
            return pipeline.execute(raise_on_error=False)
        except exceptions.RedisError as error:
            raise Unavailable(message_of(error)) from None

    def scan(self, page: int) -> Iterator[list[bytes]]:
        yield from pages(self.ask, "SCAN", page=page)

    def ping(self) -> None:
        try:
            self._client.ping()
        except exceptions.RedisError as error:
            raise Unavailable(message_of(error)) from None

    def hops(self) -> list[Hop]:
        return [hop_of(self._client, self._is_verified)]

    def refused(self, commands: Sequence[Command]) -> list[str]:
        try:
            return refused_on(self._client.connection_pool.make_connection(), commands)
        except (exceptions.RedisError, OSError) as error:
            raise Unavailable(message_of(error)) from None

    def close(self) -> None:
        self._fenced.disconnect()
        self._client.close()
