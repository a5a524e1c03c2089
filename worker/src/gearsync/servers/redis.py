"""Redis: a batch of commands in one round trip, and which answers mean "later" and which "never"."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union

import hiredis
import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from gearsync.contract import fence_key
from gearsync.declare.configuration import DEFAULT_SENTINEL_PORT, RedisSettings, parse_address
from gearsync.shapes.shape import Command, Step

# For each connection redis-py searches the installed packages for its own version, which fills pages that a process then shares with no other.
redis.utils.get_lib_version = lambda: redis.__version__

#: Error replies that say nothing about the command: the server cannot or may not write at the moment, so the batch is tried again.
#: (Redis' documented error prefixes; OOM and MISCONF end when memory or disk is there again, NOAUTH and WRONGPASS when somebody mends an account.)
_LATER = ("LOADING", "BUSY ", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS", "NOPERM")

#: The same where redis-py has a class for the reply, and takes the prefix away.
_LATER_CLASSES = (
    exceptions.AuthenticationError, exceptions.BusyLoadingError, exceptions.NoPermissionError, exceptions.OutOfMemoryError, exceptions.ReadOnlyError,
)


#: The part of an error before its first quotation that is no command's name.
_UNQUOTED = re.compile(r"(?:[^'`\"]|(?<=command )['`][A-Za-z|]+['`])*")


class Refused(Exception):
    """Redis knows a greater epoch of the shard: another process has written since the lease was taken, or the database was restored."""

    def __init__(self, shard: int, epoch: int) -> None:
        super().__init__(f"Redis knows epoch {epoch} of shard {shard}")
        self.shard = shard
        self.epoch = epoch


class Moved(Exception):
    """The fence is not as it was left: nothing was done, and it must be claimed again."""


class Stuck(Exception):
    """A batch has stopped at a change, with an error that may pass; what it has appended, its fence says."""

    def __init__(self, change: int, words: str) -> None:
        super().__init__(words)
        self.change = change


class Denied(Exception):
    """The account may not execute a command, or not with these keys; nothing was done."""


def wait_for(settings: RedisSettings) -> Optional[tuple[Any, ...]]:
    """The command that answers how many replicas have what its connection wrote; None when none need to. Pure."""
    return ("WAIT", settings.replicas, int(settings.replicas_timeout * 1000)) if settings.replicas else None


def too_few(copies: int, wait: tuple[Any, ...]) -> Optional[str]:
    """Why the answer to ``wait`` is not enough; None when it is. Pure."""
    _word, wanted, milliseconds = wait
    return f"{copies} of {wanted} replicas had the batch after {milliseconds / 1000:g} s" if copies < wanted else None


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


class Script:
    """A Lua script, and the name that Redis gives it."""

    def __init__(self, text: str, waits: bool = False) -> None:
        """``waits``: its answer counts only when as many replicas have what it wrote as the settings ask for."""
        self.text = text
        self.waits = waits
        self.sha = hashlib.sha1(text.encode()).hexdigest()  # noqa: S324  # Redis names its scripts so


class Unavailable(Exception):
    """Redis cannot take writes now; nothing is known to be applied, and all of it is to be tried again."""


def later(answer: Any) -> bool:
    """Whether an answer means that the server cannot or may not write at the moment."""
    return isinstance(answer, _LATER_CLASSES) or (isinstance(answer, exceptions.RedisError) and str(answer).startswith(_LATER))


def connect_anew(connection: Any) -> None:
    """Connect; one that the server has closed while it was idle is replaced, since a command that is sent on it has no answer. Raises as connecting does."""
    # Does nothing when it is connected; only here a sentinel is asked for the master.
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
    return isinstance(answer, exceptions.NoPermissionError) or (isinstance(answer, exceptions.ResponseError) and str(answer).startswith("unknown command"))


def refused_on(connection: Any, commands: Sequence[Command]) -> list[str]:
    """The names of those of ``commands`` that the server does not know, or a connection's account may not execute. The connection is closed.

    Raises RedisError and OSError.
    """
    def answer(*command: Any) -> Any:
        connection.send_command(*command)
        try:
            return connection.read_response()
        except exceptions.ResponseError as error:
            return error

    try:
        connection.connect()
        # Redis looks at an account's rights when a command is queued, and at the number of its arguments before that.
        if isinstance(answer("MULTI"), Exception):
            return []
        found = [text(command[0]) for command in commands if _is_refusal(answer(*command))]
        answer("DISCARD")
        return found
    finally:
        connection.disconnect()


class Target:
    """One Redis server."""

    #: Whether a part of it can be out of reach while the rest is not.
    is_parted = False

    def __init__(self, settings: RedisSettings, timeout: float) -> None:
        """``timeout`` bounds connecting and every answer, in seconds. Connects at the first use."""
        options: dict[str, Any] = {
            "db": settings.db, "username": settings.username, "password": settings.password, "socket_timeout": timeout, "socket_connect_timeout": timeout,
            # Retrying is the caller's: it holds the jobs meanwhile.
            "retry": Retry(NoBackoff(), 0),
        }
        if settings.tls:
            options |= {"ssl": True, "ssl_ca_certs": settings.tls_ca}
        self._client: redis.Redis
        if settings.sentinels:
            self.name = f"{settings.sentinel_master} of {', '.join(settings.sentinels)}"
            addresses = [parse_address(server, DEFAULT_SENTINEL_PORT) for server in settings.sentinels]
            # All of them are asked in the time of one answer; the next attempt is the caller's.
            share = timeout / (2 * len(addresses))
            kwargs = {"socket_timeout": share, "socket_connect_timeout": share, "retry": Retry(NoBackoff(), 0)}
            sentinel = Sentinel(addresses, sentinel_kwargs=kwargs)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
            self._client = sentinel.master_for(str(settings.sentinel_master), socket_keepalive=True, **options)  # type: ignore[no-untyped-call]
        elif settings.unix_socket:
            self.name = settings.unix_socket
            self._client = redis.Redis(unix_socket_path=settings.unix_socket, **options)
        else:
            self.name = f"{settings.host}:{settings.port}"
            self._client = redis.Redis(host=settings.host, port=settings.port, socket_keepalive=True, **options)

        # A connection of its own, so that an answer can be waited for while the database works.
        self._fenced: Any = self._client.connection_pool.make_connection()
        self._wait = wait_for(settings)

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
            raise Unavailable(words_of(error)) from None
        for answer in answers:
            if later(answer):
                raise Unavailable(words_of(answer))
        return [words_of(answer) if isinstance(answer, exceptions.RedisError) else None for answer in answers]

    def by_slot(self, steps: Sequence[Step]) -> dict[int, list[Step]]:
        """The steps whose keys can be written at once, in their order."""
        return {0: list(steps)} if steps else {}

    def fence_key(self, source: str, _slot: int, shard: int) -> str:
        """The key of a fence, which is in its slot."""
        return fence_key(source, shard)

    def run(self, script: Script, calls: Sequence[tuple[int, Sequence[Any]]]) -> list[Any]:
        """Execute ``script`` for each slot with its arguments; what it answers, when as many replicas have it as the settings ask for.

        Raises Denied, and Unavailable: then it may have been done, or be done later. Where others have answered, one of them stands in the place of an answer.
        """
        if not calls:
            return []
        ((_slot, arguments),) = calls
        try:
            wait = self._wait if script.waits else None
            answer, copies = self._ask_fenced(("EVALSHA", script.sha, *arguments), wait)
            if isinstance(answer, exceptions.NoScriptError):
                answer, copies = self._ask_fenced(("EVAL", script.text, *arguments), wait)
        except (exceptions.RedisError, OSError) as error:
            # The script reports what its commands say, so that this is about the server.
            self._fenced.disconnect()
            raise denied_or_unavailable(error) from None
        missing = too_few(copies, wait) if wait else None
        if missing:
            raise Unavailable(missing)
        return [answer]

    def _ask_fenced(self, command: tuple[Any, ...], wait: Optional[tuple[Any, ...]]) -> tuple[Any, int]:
        """What the script answers, or that it is not known, and how many replicas have it."""
        connect_anew(self._fenced)
        self._fenced.send_packed_command([hiredis.pack_command(each) for each in (command, wait) if each])
        try:
            answer = self._fenced.read_response()
        except exceptions.NoScriptError as error:
            answer = error
        return answer, self._fenced.read_response() if wait else 0

    def _command(self, *arguments: Any) -> Any:
        return self._client.execute_command(*arguments)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        """What Redis answers to ``commands``, in one round trip; an error reply stands as the exception in its place. Raises Unavailable."""
        if not commands:
            return []
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        try:
            return pipeline.execute(raise_on_error=False)
        except exceptions.RedisError as error:
            raise Unavailable(words_of(error)) from None

    def scan(self, page: int) -> Iterator[list[bytes]]:
        """All keys, about ``page`` at a time; one may come twice. Raises Unavailable."""
        yield from self._pages("SCAN", page=page)

    def scan_members(self, key: bytes, scored: bool, page: int) -> Iterator[list[bytes]]:
        """The members of a set, or of a sorted set when ``scored``, about ``page`` at a time; nothing for a key of another type. Raises Unavailable."""
        for found in self._pages("ZSCAN" if scored else "SSCAN", key, page=page):
            yield [member for member, _score in found] if scored else found

    def _pages(self, *command: Union[str, bytes], page: int) -> Iterator[list[Any]]:
        cursor = 0
        while True:
            (answer,) = self.ask([(*command, cursor, "COUNT", page)])
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

    def ping(self) -> None:
        """Raises Unavailable when Redis does not answer or refuses us."""
        try:
            self._client.ping()
        except exceptions.RedisError as error:
            raise Unavailable(words_of(error)) from None

    def refused(self, commands: Sequence[Command]) -> list[str]:
        """The names of those of ``commands`` that the server does not know or this account may not execute; none of them is executed. Raises Unavailable."""
        try:
            return refused_on(self._client.connection_pool.make_connection(), commands)
        except (exceptions.RedisError, OSError) as error:
            raise Unavailable(words_of(error)) from None

    def close(self) -> None:
        self._fenced.disconnect()
        self._client.close()
