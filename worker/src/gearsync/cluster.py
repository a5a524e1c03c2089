"""Redis Cluster as a target. A script sees the keys of one slot only, so that each slot has a fence and a step of its own.

What that changes: a batch is atomic within each slot, not as a whole. A stale batch is refused in every slot into which the new owner has written; in the
others it can only write what the outbox still holds, and what the new owner therefore writes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional

from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.retry import Retry

from gearsync.commands import Command, Step
from gearsync.config import RedisSettings, parse_address
from gearsync.target import FENCED, FENCED_SHA, Applied, Fence, Refused, Target, Unavailable, flatten, later, refused_on, text, too_few, wait_for

SLOTS = 16384
_DEFAULT_PORT = 6379
#: RedisClusterException is no RedisError.
_FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError)


def tags() -> list[str]:
    """For each slot a text that hashes to it. Pure."""
    found: dict[int, str] = {}
    number = 0
    while len(found) < SLOTS:
        found.setdefault(key_slot(b"%d" % number), str(number))
        number += 1
    return [found[slot] for slot in range(SLOTS)]


def by_slot(steps: Sequence[Step]) -> dict[int, list[int]]:
    """The numbers of the steps of each slot, in their order. Pure."""
    found: dict[int, list[int]] = {}
    for number, step in enumerate(steps):
        found.setdefault(key_slot(step.key), []).append(number)
    return found


class ClusterTarget(Target):
    """The servers of one Redis Cluster."""

    is_one_server = False

    def __init__(self, settings: RedisSettings, timeout: float) -> None:
        """``timeout`` bounds connecting and every answer of a node, in seconds. Connects at the first use."""
        self.name = ", ".join(settings.cluster)
        self._options: dict[str, Any] = {
            "startup_nodes": [ClusterNode(*parse_address(node, _DEFAULT_PORT)) for node in settings.cluster],  # type: ignore[no-untyped-call]
            "username": settings.username, "password": settings.password, "socket_timeout": timeout, "socket_connect_timeout": timeout,
            # One more attempt, for a node that has moved; the rest is the caller's, who holds the changes meanwhile.
            "retry": Retry(NoBackoff(), 1),
        }
        if settings.tls:
            self._options |= {"ssl": True, "ssl_ca_certs": settings.tls_ca}
        self._cluster: Optional[RedisCluster] = None
        self._wait = wait_for(settings)
        self._tags: list[str] = []
        #: What was sent: the fence, the steps, their ids, and the ids to forget, by slot.
        self._batch: Optional[tuple[Fence, Sequence[Step], Sequence[str], dict[int, list[str]]]] = None
        #: In which slot's fence an appended id is.
        self._slots: dict[str, int] = {}

    @property
    def _redis(self) -> Any:
        """The cluster, connected. Raises Unavailable."""
        if self._cluster is None:
            try:
                self._cluster = RedisCluster(**self._options)
            except _FAILURES as error:
                raise Unavailable(f"{type(error).__name__}: {error}") from None
        return self._cluster

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        except _FAILURES as error:
            self.abandon()
            raise Unavailable(f"{type(error).__name__}: {error}") from None
        for answer in answers:
            # A node that was not reached has no answer of its own.
            if isinstance(answer, (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.RedisClusterException, exceptions.ClusterError)):
                self.abandon()
                raise Unavailable(f"{type(answer).__name__}: {answer}")
        return answers

    def apply(self, commands: Sequence[Command]) -> list[Optional[str]]:
        if not commands:
            return []
        errors = []
        for answer in self._execute(commands):
            if later(answer):
                raise Unavailable(str(answer))
            errors.append(str(answer) if isinstance(answer, exceptions.RedisError) else None)
        return errors

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        return self._execute(commands) if commands else []

    def send(self, fence: Fence, steps: Sequence[Step], ids: Sequence[str], deleted: Iterable[str] = ()) -> None:
        forget: dict[int, list[str]] = {}
        for append_id in deleted:
            if append_id in self._slots:
                forget.setdefault(self._slots[append_id], []).append(append_id)
        self._batch = (fence, steps, ids, forget)

    def receive(self) -> Applied:
        assert self._batch is not None  # noqa: S101  # something was sent
        fence, steps, ids, forget = self._batch
        groups = by_slot(steps)
        slots = sorted({*groups, *forget})
        arguments = [
            (1, self._fence_key(fence, slot), fence.epoch, ",".join(forget.get(slot, ())),
             *flatten([steps[number] for number in groups.get(slot, ())], [ids[number] for number in groups.get(slot, ())]))
            for slot in slots
        ]
        answers = self._execute([("EVALSHA", FENCED_SHA, *words) for words in arguments])
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
        for number, answer in zip(unknown, self._execute([("EVAL", FENCED, *arguments[number]) for number in unknown]) if unknown else ()):
            answers[number] = answer
        self._batch = None
        errors: list[tuple[int, str]] = []
        greatest = 0
        for slot, answer in zip(slots, answers):
            if isinstance(answer, Exception):
                # The script reports what its commands say, so that this is about the server.
                raise Unavailable(text(answer))
            word, known, *failed = answer
            if word == b"later":
                raise Unavailable(text(known))
            if word == b"refused":
                greatest = max(greatest, int(known))
            errors += [(groups[slot][int(step)], text(words)) for step, words in zip(failed[::2], failed[1::2])] if word == b"ok" else []
        if greatest:
            raise Refused(greatest)
        if self._wait:
            self._wait_for_replicas(fence, slots, self._wait)
        for append_ids in forget.values():
            for append_id in append_ids:
                self._slots.pop(append_id, None)
        self._slots.update({ids[number]: slot for slot in groups for number in groups[slot] if ids[number]})
        # A slot that nobody has written to has no fence: its absence says nothing about lost data.
        return Applied(0, errors)

    def _wait_for_replicas(self, fence: Fence, slots: Sequence[int], wait: tuple[Any, ...]) -> None:
        """Raises Unavailable when too few of a node's replicas have what it was sent."""
        # A node's replicas take its writes in one order: who has a fence that is written now has all that was written before, by whichever connection.
        one_of = {self._redis.nodes_manager.get_node_from_slot(slot): slot for slot in slots}
        for node, slot in one_of.items():
            pipeline = self._redis.get_redis_connection(node).pipeline(transaction=False)
            pipeline.execute_command("EVALSHA", FENCED_SHA, 1, self._fence_key(fence, slot), fence.epoch, "")
            pipeline.execute_command(*wait)
            try:
                (word, _known, *_errors), copies = pipeline.execute()
            except _FAILURES as error:
                self.abandon()
                raise Unavailable(f"{type(error).__name__}: {error}") from None
            missing = too_few(copies, wait) if word == b"ok" else f"the fence of {node.name} is {text(word)}"
            if missing:
                raise Unavailable(f"{node.name}: {missing}")

    def _fence_key(self, fence: Fence, slot: int) -> str:
        self._tags = self._tags or tags()
        return f"gearsync:{{{self._tags[slot]}}}:{fence.source}:fence:{fence.shard}"

    @property
    def answer_is_due(self) -> bool:
        return self._batch is not None

    def abandon(self) -> None:
        self._batch = None
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def appended(self, fence: Fence) -> list[str]:
        found: list[str] = []
        for start in range(0, SLOTS, 1024):
            slots = range(start, start + 1024)
            for slot, answer in zip(slots, self._execute([("HGET", self._fence_key(fence, slot), "ids") for slot in slots])):
                if isinstance(answer, Exception):
                    raise Unavailable(text(answer))
                ids = text(answer).split(",") if answer else []
                self._slots.update(dict.fromkeys(ids, slot))
                found += ids
        return found

    def scan(self, page: int) -> Iterator[list[bytes]]:
        for node in self._redis.get_primaries():
            cursor = 0
            while True:
                try:
                    # A node that has become a replica, or is gone, answers with an error: then nobody has seen all keys.
                    cursor, found = node.redis_connection.execute_command("SCAN", cursor, "COUNT", page)
                except _FAILURES as error:
                    self.abandon()
                    raise Unavailable(f"{type(error).__name__}: {error}") from None
                cursor = int(cursor)
                if found:
                    yield found
                if cursor == 0:
                    break

    def ping(self) -> None:
        for node in self._redis.get_primaries():
            try:
                self._redis.get_redis_connection(node).ping()
            except _FAILURES as error:
                self.abandon()
                raise Unavailable(f"{type(error).__name__}: {error}") from None

    def refused(self, commands: Sequence[Command]) -> list[str]:
        found: set[str] = set()
        for node in self._redis.get_primaries():
            try:
                # A node that has not the key's slot looks at the account first.
                found.update(refused_on(self._redis.get_redis_connection(node).connection_pool.make_connection(), commands))
            except _FAILURES as error:
                self.abandon()
                raise Unavailable(f"{type(error).__name__}: {error}") from None
        return [name for name in dict.fromkeys(text(command[0]) for command in commands) if name in found]

    def close(self) -> None:
        self.abandon()


def open_target(settings: RedisSettings, timeout: float) -> Target:
    """The target that the settings name."""
    return ClusterTarget(settings, timeout) if settings.cluster else Target(settings, timeout)
