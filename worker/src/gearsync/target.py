"""Redis: a batch of commands in one round trip, and which answers mean "later" and which "never"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from gearsync.commands import Command
from gearsync.config import RedisSettings

#: Error replies that say nothing about the command: the server cannot or may not write at the moment, so the batch is tried again.
#: (Redis' documented error prefixes; OOM and MISCONF end when memory or disk is there again, NOAUTH and WRONGPASS when somebody mends an account.)
_LATER = ("LOADING", "BUSY ", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS", "NOPERM")

#: The same where redis-py has a class for the reply, and takes the prefix away.
_LATER_CLASSES = (
    exceptions.AuthenticationError, exceptions.BusyLoadingError, exceptions.NoPermissionError, exceptions.OutOfMemoryError, exceptions.ReadOnlyError,
)


class Unavailable(Exception):
    """Redis cannot take writes now; nothing is known to be applied, and all of it is to be tried again."""


class Target:
    """One Redis server."""

    def __init__(self, settings: RedisSettings, timeout: float) -> None:
        """``timeout`` bounds connecting and every answer, in seconds. Connects at the first use."""
        where: dict[str, Any]
        if settings.unix_socket:
            where = {"unix_socket_path": settings.unix_socket}
            self.name = settings.unix_socket
        else:
            where = {"host": settings.host, "port": settings.port, "socket_keepalive": True}
            self.name = f"{settings.host}:{settings.port}"
        if settings.tls:
            where |= {"ssl": True, "ssl_ca_certs": settings.tls_ca}
        # Retrying is the caller's: it holds the jobs meanwhile.
        self._client = redis.Redis(
            **where, db=settings.db, username=settings.username, password=settings.password,
            socket_timeout=timeout, socket_connect_timeout=timeout, retry=Retry(NoBackoff(), 0),
        )

    def apply(self, commands: Sequence[Command]) -> list[Optional[str]]:
        """Execute ``commands`` in their order in one round trip; for each, None or its error. Raises Unavailable."""
        if not commands:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        try:
            answers = pipeline.execute(raise_on_error=False)
        except exceptions.RedisError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        errors = [str(answer) if isinstance(answer, exceptions.RedisError) else None for answer in answers]
        for words, answer in zip(errors, answers):
            if words and (words.startswith(_LATER) or isinstance(answer, _LATER_CLASSES)):
                raise Unavailable(words)
        return errors

    def ping(self) -> None:
        """Raises Unavailable when Redis does not answer or refuses us."""
        try:
            self._client.ping()
        except exceptions.RedisError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def may_write(self, commands: Sequence[str]) -> list[str]:
        """Those of ``commands`` (names) that this account may not execute. Raises Unavailable."""
        try:
            return [name for name in commands if not self._allowed(name)]
        except exceptions.RedisError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def _allowed(self, name: str) -> bool:
        # Asked for without its arguments: whoever may execute the command is told that they are missing, which writes nothing.
        try:
            self._client.execute_command(name)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        except exceptions.NoPermissionError:
            return False
        except exceptions.ResponseError:
            return True
        return True

    def close(self) -> None:
        self._client.close()
