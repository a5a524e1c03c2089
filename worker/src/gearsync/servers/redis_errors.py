"""Which of Redis' answers mean "later" and which "never", and what may be said of them. Pure."""

from __future__ import annotations

import re
from typing import Any, Union

from redis import exceptions

#: Error replies that say nothing about the command: the server cannot or may not write at the moment, so the batch is tried again.
#: (Redis' documented error prefixes; OOM and MISCONF end when memory or disk is there again, NOAUTH and WRONGPASS when somebody mends an account.)
_LATER = ("LOADING", "BUSY ", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS", "NOPERM")

#: The same where redis-py has a class for the reply, and takes the prefix away.
_LATER_CLASSES = (
    exceptions.AuthenticationError, exceptions.BusyLoadingError, exceptions.NoPermissionError, exceptions.OutOfMemoryError, exceptions.ReadOnlyError,
)


#: The part of an error before its first quotation that is no command's name.
_UNQUOTED = re.compile(r"(?:[^'`\"]|(?<=command )['`][A-Za-z|]+['`])*")


class Unavailable(Exception):
    """Redis cannot take writes now; nothing is known to be applied, and all of it is to be tried again."""


class Denied(Exception):
    """The account may not execute a command, or not with these keys; nothing was done."""


def later(answer: Any) -> bool:
    """Whether an answer means that the server cannot or may not write at the moment."""
    return isinstance(answer, _LATER_CLASSES) or (isinstance(answer, exceptions.RedisError) and str(answer).startswith(_LATER))


def text(answer: Any) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)


def words_of(said: Union[Exception, bytes]) -> str:
    """What a server's error says up to where it may quote an argument of a command, which is data."""
    if isinstance(said, (exceptions.ConnectionError, exceptions.TimeoutError, OSError)):
        # The client's own words, of addresses.
        return f"{type(said).__name__}: {said}"
    words = text(said).partition(", with args beginning with")[0]
    # The name of a command is no data; redis-py takes the error's code away where it has a class for it.
    found = _UNQUOTED.match(words)
    kept = found[0].rstrip(" :") if found else ""
    return f"{type(said).__name__}: {kept}" if isinstance(said, Exception) else kept


def denied_or_unavailable(error: Exception) -> Exception:
    """Denied for an answer that is about the account; Unavailable for all others."""
    return Denied(words_of(error)) if isinstance(error, exceptions.NoPermissionError) else Unavailable(words_of(error))
