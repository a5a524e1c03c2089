"""Redis Cluster as a target. A script sees the keys of one slot only, so that each slot has a fence and a step of its own.

What that changes: a batch is atomic within each slot, not as a whole. A stale batch is refused in every slot into which the new owner has written; in the
others it can only write what the outbox still holds, and what the new owner therefore writes again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Optional

from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.retry import Retry

from gearsync.commands import Command, Step
from gearsync.config import RedisSettings, parse_address
from gearsync.target import Script, Target, Unavailable, denied_or_unavailable, later, refused_on, text, too_few, wait_for, words_of

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


class ClusterTarget(Target):
    """The servers of one Redis Cluster."""

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

    @property
    def _redis(self) -> Any:
        """The cluster, connected. Raises Unavailable."""
        if self._cluster is None:
            try:
                self._cluster = RedisCluster(**self._options)
            except _FAILURES as error:
                raise Unavailable(words_of(error)) from None
        return self._cluster

    def _execute(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._redis.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            answers: list[Any] = pipeline.execute(raise_on_error=False)
        except _FAILURES as error:
            self.abandon()
            raise Unavailable(words_of(error)) from None
        for answer in answers:
            # A node that was not reached has no answer of its own.
            if isinstance(answer, (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.RedisClusterException, exceptions.ClusterError)):
                self.abandon()
                raise Unavailable(words_of(answer))
        return answers

    def apply(self, commands: Sequence[Command]) -> list[Optional[str]]:
        if not commands:
            return []
        errors = []
        for answer in self._execute(commands):
            if later(answer):
                raise Unavailable(words_of(answer))
            errors.append(words_of(answer) if isinstance(answer, exceptions.RedisError) else None)
        return errors

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        return self._execute(commands) if commands else []

    def by_slot(self, steps: Sequence[Step]) -> dict[int, list[Step]]:
        slots: dict[int, list[Step]] = {}
        for step in steps:
            slots.setdefault(key_slot(step.key), []).append(step)
        return slots

    def fence_key(self, source: str, slot: int, shard: int) -> str:
        self._tags = self._tags or tags()
        return f"gearsync:{{{self._tags[slot]}}}:{source}:fence:{shard}"

    def run(self, script: Script, calls: Sequence[tuple[int, Sequence[Any]]]) -> list[list[Any]]:
        answers = self._execute([("EVALSHA", script.sha, *arguments) for _slot, arguments in calls])
        unknown = [number for number, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)]
        for number, answer in zip(unknown, self._execute([("EVAL", script.text, *calls[number][1]) for number in unknown]) if unknown else ()):
            answers[number] = answer
        for answer in answers:
            if isinstance(answer, Exception):
                # The script reports what its commands say, so that this is about the server.
                raise denied_or_unavailable(answer)
        if self._wait and script.waits:
            self._wait_for_replicas(calls, self._wait)
        return answers

    def _wait_for_replicas(self, calls: Sequence[tuple[int, Sequence[Any]]], wait: tuple[Any, ...]) -> None:
        """Raises Unavailable when too few of a node's replicas have what it was sent."""
        # A node's replicas take its writes in one order: who has a fence that is written now has all that was written before, by whichever connection.
        one_of = {self._redis.nodes_manager.get_node_from_slot(slot): arguments[1] for slot, arguments in calls}
        for node, fence in one_of.items():
            pipeline = self._redis.get_redis_connection(node).pipeline(transaction=False)
            pipeline.execute_command("HINCRBY", fence, "waited", 1)
            pipeline.execute_command(*wait)
            try:
                _waited, copies = pipeline.execute()
            except _FAILURES as error:
                self.abandon()
                raise Unavailable(words_of(error)) from None
            missing = too_few(copies, wait)
            if missing:
                raise Unavailable(f"{node.name}: {missing}")

    def abandon(self) -> None:
        """Connect anew at the next use."""
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def scan(self, page: int) -> Iterator[list[bytes]]:
        for node in self._redis.get_primaries():
            cursor = 0
            while True:
                try:
                    # A node that has become a replica, or is gone, answers with an error: then nobody has seen all keys.
                    cursor, found = node.redis_connection.execute_command("SCAN", cursor, "COUNT", page)
                except _FAILURES as error:
                    self.abandon()
                    raise Unavailable(words_of(error)) from None
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
                raise Unavailable(words_of(error)) from None

    def refused(self, commands: Sequence[Command]) -> list[str]:
        found: set[str] = set()
        for node in self._redis.get_primaries():
            try:
                # A node that has not the key's slot looks at the account first.
                found.update(refused_on(self._redis.get_redis_connection(node).connection_pool.make_connection(), commands))
            except _FAILURES as error:
                self.abandon()
                raise Unavailable(words_of(error)) from None
        return [name for name in dict.fromkeys(text(command[0]) for command in commands) if name in found]

    def close(self) -> None:
        self.abandon()


def open_target(settings: RedisSettings, timeout: float) -> Target:
    """The target that the settings name."""
    return ClusterTarget(settings, timeout) if settings.cluster else Target(settings, timeout)
