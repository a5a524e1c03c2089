# SPDX-License-Identifier: GPL-3.0-or-later
"""Which errors of Redis are temporary, and the part of their messages that is safe to log. Pure."""

from __future__ import annotations

import re
from typing import Any, Union

from redis import exceptions

#: Error replies that are not about the command: the server cannot or may not write at the moment, so the
#: batch is retried. (Redis' documented error prefixes; OOM and MISCONF end when memory or disk is free again,
#: NOAUTH and WRONGPASS when an administrator corrects the account.)
_TEMPORARY = (
    "LOADING",
    "BUSY ",
    "MASTERDOWN",
    "READONLY",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
)

#: The same where redis-py has a class for the reply, and removes the prefix.
_TEMPORARY_CLASSES = (
    exceptions.AuthenticationError,
    exceptions.BusyLoadingError,
    exceptions.NoPermissionError,
    exceptions.OutOfMemoryError,
    exceptions.ReadOnlyError,
)


#: The part of an error before its first quotation that is not the name of a command.
_UNQUOTED = re.compile(r"(?:[^'`\"]|(?<=command )['`][A-Za-z|]+['`])*")


class Unavailable(Exception):
    """Redis does not accept writes now; whether anything is applied is unknown, and all of it must be
    retried.
    """


class Denied(Exception):
    """The account may not execute a command, or not with these keys; nothing is applied."""


def is_temporary(answer: Any) -> bool:
    """Whether an answer means that the server cannot or may not write at the moment."""
    return isinstance(answer, _TEMPORARY_CLASSES) or (
        isinstance(answer, exceptions.RedisError) and str(answer).startswith(_TEMPORARY)
    )


def text(answer: Any) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)


def message_of(error: Union[Exception, bytes]) -> str:
    """The message of an error up to where it may quote an argument of a command, which is data."""
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError)):
        # The client's own message, which contains addresses only.
        return f"{type(error).__name__}: {error}"
    message = text(error).partition(", with args beginning with")[0]
    # The name of a command is not data; redis-py removes the error's code where it has a class for it.
    unquoted = _UNQUOTED.match(message)
    kept = unquoted[0].rstrip(" :") if unquoted else ""
    return f"{type(error).__name__}: {kept}" if isinstance(error, Exception) else kept


def denied_or_unavailable(error: Exception) -> Exception:
    """Denied for an error that is about the account's rights; Unavailable for all others."""
    return (
        Denied(message_of(error))
        if isinstance(error, exceptions.NoPermissionError)
        else Unavailable(message_of(error))
    )
