"""Redis: a batch of commands in one round trip, and which answers mean "later" and which "never"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from gearsync.commands import Command
from gearsync.config import RedisSettings

#: Error replies that say nothing about the command: the server cannot or may not write at the moment, so the batch is tried again.
#: (Redis' documented error prefixes; OOM and MISCONF end when memory or disk is there again, NOAUTH and WRONGPASS when somebody mends an account.)
_LATER = ("LOADING", "BUSY ", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS", "NOPERM")


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

    def apply(self, commands: Sequence[Command]) -> list[Union[None, str]]:
        """Execute ``commands`` in their order in one round trip; for each, None or its error. Raises Unavailable."""
        if not commands:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            answers = pipeline.execute(raise_on_error=False)
        except redis.RedisError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        errors = [str(answer) if isinstance(answer, redis.RedisError) else None for answer in answers]
        for error, answer in zip(errors, answers):
            # redis-py takes the prefix away from errors that it has a class for.
            if error and (error.startswith(_LATER) or isinstance(answer, (redis.BusyLoadingError, redis.ReadOnlyError, redis.AuthenticationError, redis.OutOfMemoryError))):
                raise Unavailable(error)
        return errors

    def ping(self) -> None:
        """Raises Unavailable when Redis does not answer or refuses us."""
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def may_write(self, commands: Sequence[str]) -> list[str]:
        """Those of ``commands`` (names) that this account may not execute. Raises Unavailable."""
        try:
            return [name for name in commands if not self._allowed(name)]
        except redis.RedisError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def _allowed(self, name: str) -> bool:
        # Asked for without its arguments: whoever may execute the command is told that they are missing, which writes nothing.
        try:
            self._client.execute_command(name)
        except redis.NoPermissionError:
            return False
        except redis.ResponseError:
            return True
        return True

    def close(self) -> None:
        self._client.close()
