"""Redis: a batch of commands in one round trip, and which answers mean "later" and which "never"."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Optional, Union

import hiredis
import redis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from gearsync.commands import APPEND, Command, Step
from gearsync.config import DEFAULT_SENTINEL_PORT, RedisSettings, parse_address

#: Error replies that say nothing about the command: the server cannot or may not write at the moment, so the batch is tried again.
#: (Redis' documented error prefixes; OOM and MISCONF end when memory or disk is there again, NOAUTH and WRONGPASS when somebody mends an account.)
_LATER = ("LOADING", "BUSY ", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS", "NOAUTH", "WRONGPASS", "NOPERM")

#: The same where redis-py has a class for the reply, and takes the prefix away.
_LATER_CLASSES = (
    exceptions.AuthenticationError, exceptions.BusyLoadingError, exceptions.NoPermissionError, exceptions.OutOfMemoryError, exceptions.ReadOnlyError,
)


#: A shard's batch, in one atomic step. The fence is a hash: ``epoch``, the greatest lease epoch that has written, and ``ids``, what was appended to
#: lists and streams and may not be deleted from the outbox yet.
#: ARGV: the epoch; the appended ids that are deleted by now; then each step's commands. A positive number is one command of so many arguments;
#: a negative one is so many commands, before which stands the id under which they are appended once, or nothing.
#: Every command is tried three times in its place; what fails is reported as pairs of the step's number and the error.
FENCED = """
local known = redis.call('HMGET', KEYS[1], 'epoch', 'ids')
if known[1] and tonumber(known[1]) > tonumber(ARGV[1]) then return {'refused', known[1]} end
local later_words = {'OOM ', 'READONLY', 'MISCONF', 'NOREPLICAS', 'MASTERDOWN', 'LOADING', 'NOPERM', "can't run this command", 'ACL failure in script',
  "can't access at least one of the keys", 'o permissions to '}
local function later(text)
  for _, word in ipairs(later_words) do if string.find(text, word, 1, true) then return true end end
  return false
end
local fence = redis.pcall('HSET', KEYS[1], 'epoch', ARGV[1])
if type(fence) == 'table' and fence.err then return {'later', fence.err} end

local appended, changed = {}, false
if known[2] then for id in string.gmatch(known[2], '[^,]+') do appended[id] = true end end
if known[2] and ARGV[2] ~= '' then
  for id in string.gmatch(ARGV[2], '[^,]+') do appended[id] = nil end
  changed = true
end
local found, at, step, wait = {'ok', known[1] or ''}, 3, 0, nil
local function run(count)
  local answer
  for _ = 1, 3 do
    answer = redis.pcall(unpack(ARGV, at, at + count - 1))
    if type(answer) ~= 'table' or not answer.err then return true end
    if later(answer.err) then wait = answer.err return false end
  end
  found[#found + 1] = step
  found[#found + 1] = answer.err
  return false
end
while ARGV[at] and not wait do
  local count = tonumber(ARGV[at])
  at = at + 1
  if count > 0 then
    run(count)
    at = at + count
  else
    local id, going = ARGV[at], true
    at = at + 1
    if id ~= '' and appended[id] then going = false end
    for _ = count, -1 do
      local arguments = tonumber(ARGV[at])
      at = at + 1
      going = going and run(arguments)
      at = at + arguments
    end
    if going and id ~= '' then appended[id] = true changed = true end
  end
  step = step + 1
end
if changed then
  local ids = {}
  for id in pairs(appended) do ids[#ids + 1] = id end
  if #ids > 0 then redis.call('HSET', KEYS[1], 'ids', table.concat(ids, ',')) else redis.call('HDEL', KEYS[1], 'ids') end
end
if wait then return {'later', wait} end
return found
"""
FENCED_SHA = hashlib.sha1(FENCED.encode()).hexdigest()  # noqa: S324  # Redis names its scripts so


class Refused(Exception):
    """Redis knows a greater epoch of the shard: another process has written since the lease was taken."""

    def __init__(self, epoch: int) -> None:
        super().__init__(f"Redis knows epoch {epoch}")
        self.epoch = epoch


class Fence(NamedTuple):
    """A batch's place in the order of leases."""

    source: str
    shard: int
    epoch: int

    @property
    def key(self) -> str:
        return f"gearsync:{self.source}:fence:{self.shard}"


class Applied(NamedTuple):
    """What became of a batch that was not refused."""

    #: The epoch that Redis knew before; None when it knew none.
    known: Optional[int]
    #: The number of each step that failed, and why.
    errors: list[tuple[int, str]]


def flatten(steps: Sequence[Step], ids: Sequence[str]) -> list[Any]:
    """``steps`` as the script's arguments; ``ids`` says for each under which id it is appended. Pure."""
    found: list[Any] = []
    for step, append_id in zip(steps, ids):
        commands = step.commands
        if len(commands) == 1 and not append_id:
            command = commands[0]
            found.append(len(command))
            found += command
            continue
        found += (-len(commands), append_id)
        for command in commands:
            found.append(len(command))
            found += command
    return found


def append_ids(steps: Sequence[Step], outbox_ids: Sequence[int]) -> list[str]:
    """An id for each step that must not be done twice, made of its change's id in the outbox; an empty one for all others. Pure."""
    found: list[str] = []
    used: dict[int, int] = {}
    for step in steps:
        if step.kind != APPEND:
            found.append("")
            continue
        # A change may append to several lists; their order is that of the declaration.
        number = used[step.change] = used.get(step.change, -1) + 1
        found.append(f"{outbox_ids[step.change]}.{number}")
    return found


def wait_for(settings: RedisSettings) -> Optional[tuple[Any, ...]]:
    """The command that answers how many replicas have what its connection wrote; None when none need to. Pure."""
    return ("WAIT", settings.replicas, int(settings.replicas_timeout * 1000)) if settings.replicas else None


def too_few(copies: int, wait: tuple[Any, ...]) -> Optional[str]:
    """Why the answer to ``wait`` is not enough; None when it is. Pure."""
    _word, wanted, milliseconds = wait
    return f"{copies} of {wanted} replicas had the batch after {milliseconds / 1000:g} s" if copies < wanted else None


class Unavailable(Exception):
    """Redis cannot take writes now; nothing is known to be applied, and all of it is to be tried again."""


def text(answer: Any) -> str:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)


def later(answer: Any) -> bool:
    """Whether an answer means that the server cannot or may not write at the moment."""
    return isinstance(answer, _LATER_CLASSES) or (isinstance(answer, exceptions.RedisError) and str(answer).startswith(_LATER))


def refused_on(connection: Any, commands: Sequence[Command]) -> list[str]:
    """The names of those of ``commands`` that a connection's account may not execute. Raises RedisError and OSError; the connection is closed."""
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
        found = [text(command[0]) for command in commands if isinstance(answer(*command), exceptions.NoPermissionError)]
        answer("DISCARD")
        return found
    finally:
        connection.disconnect()


class Target:
    """One Redis server."""

    #: Whether a batch is one script, which takes one round trip.
    is_one_server = True

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
            kwargs = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
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
        self._sent: tuple[Any, ...] = ()
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
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        for answer in answers:
            if later(answer):
                raise Unavailable(str(answer))
        return [str(answer) if isinstance(answer, exceptions.RedisError) else None for answer in answers]

    def send(self, fence: Fence, steps: Sequence[Step], ids: Sequence[str], deleted: Iterable[str] = ()) -> None:
        """Send ``steps`` to be done in one atomic step, unless Redis knows a greater epoch; ``deleted`` are ids that will not come again.

        The answer is to be received before anything else is sent. Raises Unavailable.
        """
        self._sent = (1, fence.key, fence.epoch, ",".join(deleted), *flatten(steps, ids))
        try:
            self._send(("EVALSHA", FENCED_SHA, *self._sent))
        except (exceptions.RedisError, OSError) as error:
            self.abandon()
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def receive(self) -> Applied:
        """The answer to what was sent, when as many replicas have it as the settings ask for. Raises Refused and Unavailable."""
        try:
            answer, copies = self._answers()
            if isinstance(answer, exceptions.NoScriptError):
                self._send(("EVAL", FENCED, *self._sent))
                answer, copies = self._answers()
        except (exceptions.RedisError, OSError) as error:
            # The script reports what its commands say, so that this is about the server.
            self.abandon()
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        self._sent = ()
        word, known, *errors = answer
        if word == b"refused":
            raise Refused(int(known))
        if word == b"later":
            # The next attempt connects anew: to the new master, when it is a failover.
            self.abandon()
            raise Unavailable(text(known))
        missing = too_few(copies, self._wait) if self._wait else None
        if missing:
            self.abandon()
            raise Unavailable(missing)
        return Applied(int(known) if known else None, [(int(step), text(words)) for step, words in zip(errors[::2], errors[1::2])])

    def abandon(self) -> None:
        """Give up an answer that was not received: the connection is closed, so that it is not taken for the next one's."""
        self._sent = ()
        self._fenced.disconnect()

    @property
    def answer_is_due(self) -> bool:
        """Whether something was sent whose answer was not received."""
        return bool(self._sent)

    def apply_fenced(self, fence: Fence, steps: Sequence[Step], ids: Sequence[str], deleted: Iterable[str] = ()) -> Applied:
        """Send and receive. Raises Refused and Unavailable."""
        self.send(fence, steps, ids, deleted)
        return self.receive()

    def _send(self, command: tuple[Any, ...]) -> None:
        # Does nothing when it is connected; only here a sentinel is asked for the master.
        self._fenced.connect()
        self._fenced.send_packed_command([hiredis.pack_command(each) for each in (command, self._wait) if each])

    def _answers(self) -> tuple[Any, int]:
        """What the script answers, or that it is not known, and how many replicas have it."""
        try:
            answer = self._fenced.read_response()
        except exceptions.NoScriptError as error:
            answer = error
        return answer, self._fenced.read_response() if self._wait else 0

    def appended(self, fence: Fence) -> list[str]:
        """The ids that the fence keeps of what was appended. Raises Unavailable."""
        try:
            ids = self._command("HGET", fence.key, "ids")
        except exceptions.RedisError as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        return text(ids).split(",") if ids else []

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
            raise Unavailable(f"{type(error).__name__}: {error}") from None

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
                raise Unavailable(f"{text(command[0])}: {answer}")
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
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def refused(self, commands: Sequence[Command]) -> list[str]:
        """The names of those of ``commands`` that this account may not execute; none of them is executed. Raises Unavailable."""
        try:
            return refused_on(self._client.connection_pool.make_connection(), commands)
        except (exceptions.RedisError, OSError) as error:
            raise Unavailable(f"{type(error).__name__}: {error}") from None

    def close(self) -> None:
        self._fenced.disconnect()
        self._client.close()
