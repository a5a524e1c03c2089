# SPDX-License-Identifier: GPL-3.0-or-later
"""Redis Cluster as a target. A script can use the keys of one slot only, so each slot has a fence and a
script call of its own.

The consequence: a batch is atomic within each slot, not as a whole. A stale batch is refused in every slot
that the new owner has written to; in the others it can only write what the outbox still holds, which the new
owner therefore writes again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Optional, Union

import hiredis
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import Connection
from redis.crc import key_slot
from redis.retry import Retry

from gearsync.contract import slot_fence_key
from gearsync.declare.configuration import RedisSettings, parse_address
from gearsync.servers.hops import Hop
from gearsync.servers.redis import ensure_connected, refused_on, too_few_replicas, wait_for
from gearsync.servers.redis_client import hop_of, secured
from gearsync.servers.redis_errors import Unavailable, denied_or_unavailable, is_temporary, message_of, text
from gearsync.servers.target import Script, Target
from gearsync.shapes.shape import Command, Step
from gearsync.values import as_bytes

SLOTS = 16384
_DEFAULT_PORT = 6379
#: RedisClusterException is not a RedisError.
_FAILURES = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
#: What is returned in the place of an answer that a node did not give.
_UNREACHED = (
    exceptions.ConnectionError,
    exceptions.TimeoutError,
    exceptions.RedisClusterException,
    exceptions.ClusterError,
    OSError,
)
_CONNECT_SECONDS = 1.0
#: Seconds for which an unreachable node is not tried again.
_FIRST_PAUSE, _LAST_PAUSE = 1.0, 30.0


def tags() -> list[str]:
    """For each slot a hash tag whose keys lie in it. Pure."""
    by_slot: dict[int, str] = {}
    number = 0
    while len(by_slot) < SLOTS:
        by_slot.setdefault(key_slot(b"%d" % number), str(number))
        number += 1
    return [by_slot[slot] for slot in range(SLOTS)]


def _client(settings: RedisSettings, options: Mapping[str, Any]) -> RedisCluster:
    """Connected. Raises what connecting raises."""
    (host, port), *others = [parse_address(node, _DEFAULT_PORT) for node in settings.cluster]
    nodes = [ClusterNode(*each) for each in others]  # type: ignore[no-untyped-call]
    login = {"username": settings.username, "password": settings.password, **options}
    if settings.secured:
        # Only with a URL redis-py uses another class of connections, for the nodes that it gets to know, too.
        address = f"[{host}]" if ":" in host else host
        kind = secured(Connection, settings.secured)
        return RedisCluster(
            url=f"redis://{address}:{port}", startup_nodes=nodes, connection_class=kind, **login
        )
    return RedisCluster(startup_nodes=[ClusterNode(host, port), *nodes], **login)  # type: ignore[no-untyped-call]


class ClusterTarget(Target):
    """The servers of one Redis Cluster."""

    is_parted = True

    def __init__(self, settings: RedisSettings, timeout: float) -> None:
        """``timeout`` bounds connecting and each answer of a node, in seconds. Connects at the first use."""
        self.name = ", ".join(settings.cluster)
        self._settings = settings
        self._options: dict[str, Any] = {
            "socket_timeout": timeout,
            # The other nodes wait while one is connected.
            "socket_connect_timeout": min(timeout, _CONNECT_SECONDS),
            # One retry, for a node that has moved; further ones are the caller's, which holds the changes
            # meanwhile.
            "retry": Retry(NoBackoff(), 1),
        }
        self._cluster: Optional[RedisCluster] = None
        #: By the nodes' names.
        self._connections: dict[str, Any] = {}
        #: Unreachable nodes by their names: when to try again, and the error.
        self._down: dict[str, tuple[float, Exception]] = {}
        self._wait = wait_for(settings)
        self._tags: list[str] = []

    @property
    def _redis(self) -> Any:
        """The cluster, connected. Raises Unavailable."""
        if self._cluster is None:
            try:
                self._cluster = _client(self._settings, self._options)
            except _FAILURES as error:
                raise Unavailable(message_of(error)) from None
        return self._cluster

    def _send(self, calls: Sequence[tuple[int, Command]]) -> list[Any]:
        """The answers to commands, each with its slot. An error, also of an unreachable node, is an exception
        in its place.

        Raises Unavailable when no node can be asked for the map of slots.
        """
        if any(retry_at <= time.monotonic() for retry_at, _error in self._down.values()):
            # Its slots may belong to another node by now.
            self.disconnect()
        answers = self._send_once(calls)
        moved = [number for number, answer in enumerate(answers) if isinstance(answer, exceptions.MovedError)]
        if moved:
            down = self._down
            self.disconnect()
            self._down = down
            for number, answer in zip(moved, self._send_once([calls[number] for number in moved])):
                answers[number] = answer
        for number, answer in enumerate(answers):
            if isinstance(answer, exceptions.AskError) and not isinstance(answer, exceptions.MovedError):
                node = self._redis.get_node(answer.host, answer.port)
                answers[number] = (
                    self._ask_nodes([(node, [("ASKING",), calls[number][1]])])[0][1] if node else answer
                )
        return answers

    def _send_once(self, calls: Sequence[tuple[int, Command]]) -> list[Any]:
        # By their names: nodes have no hash before redis-py 8.
        by_node: dict[str, tuple[ClusterNode, list[int]]] = {}
        answers: list[Any] = [None] * len(calls)
        for number, (slot, _command) in enumerate(calls):
            try:
                node = self._redis.nodes_manager.get_node_from_slot(slot)
                by_node.setdefault(node.name, (node, []))[1].append(number)
            except _FAILURES as error:
                answers[number] = error
                self._down.setdefault("", (time.monotonic() + _FIRST_PAUSE, error))
        commands = [(node, [calls[number][1] for number in numbers]) for node, numbers in by_node.values()]
        for (_node, numbers), of_node in zip(by_node.values(), self._ask_nodes(commands)):
            for number, answer in zip(numbers, of_node):
                answers[number] = answer
        return answers

    def _ask_nodes(self, commands: Sequence[tuple[ClusterNode, Sequence[Command]]]) -> list[list[Any]]:
        """Each node's answers to its commands, which are sent to all nodes before the first answer is
        read.
        """
        answers: list[list[Any]] = [[] for _node in commands]
        began = time.monotonic()
        for (node, its), of_node in zip(commands, answers):
            try:
                if node.name in self._down:
                    raise self._down[node.name][1]
                if node.name not in self._connections:
                    pool = self._redis.get_redis_connection(node).connection_pool
                    self._connections[node.name] = pool.make_connection()
                ensure_connected(self._connections[node.name])
                # Commands are of any length, for which the library has no type.
                packed = [hiredis.pack_command(command) for command in its]  # type: ignore[arg-type]
                self._connections[node.name].send_packed_command(packed)
            except _FAILURES as error:
                of_node.extend([self._failed(node, error, began)] * len(its))
        for (node, its), of_node in zip(commands, answers):
            while len(of_node) < len(its):
                try:
                    of_node.append(self._connections[node.name].read_response())
                except exceptions.ResponseError as error:
                    of_node.append(error)
                except _FAILURES as error:
                    of_node.extend([self._failed(node, error, began)] * (len(its) - len(of_node)))
        return answers

    def _failed(self, node: ClusterNode, error: Exception, began: float) -> Exception:
        """Do not try a node again for a while: for longer than the attempt took that ``began`` then, so
        that other nodes are not delayed.
        """
        if node.name in self._connections:
            self._connections[node.name].disconnect()
        now = time.monotonic()
        self._down.setdefault(
            node.name, (now + min(max(_FIRST_PAUSE, 10 * (now - began)), _LAST_PAUSE), error)
        )
        return error

    def apply(self, commands: Sequence[Command]) -> list[Optional[str]]:
        errors: list[Optional[str]] = []
        for answer in self.ask(commands):
            if is_temporary(answer) or isinstance(answer, _UNREACHED):
                raise Unavailable(message_of(answer))
            errors.append(message_of(answer) if isinstance(answer, exceptions.RedisError) else None)
        return errors

    def ask(self, commands: Sequence[Command]) -> list[Any]:
        return (
            self._send([(key_slot(as_bytes(command[1])), command) for command in commands])
            if commands
            else []
        )

    def by_slot(self, steps: Sequence[Step]) -> dict[int, list[Step]]:
        slots: dict[int, list[Step]] = {}
        for step in steps:
            slots.setdefault(key_slot(step.key), []).append(step)
        return slots

    def fence_key(self, source: str, slot: int, shard: Union[int, str]) -> str:
        self._tags = self._tags or tags()
        return slot_fence_key(source, shard, self._tags[slot])

    def run(
        self,
        script: Script,
        calls: Sequence[tuple[int, Sequence[Any]]],
        meanwhile: Optional[Callable[[], None]] = None,
    ) -> list[Any]:
        # ``meanwhile`` is not called: how long a node takes decides when it is tried again.
        answers = self._send([(slot, ("EVALSHA", script.sha, *arguments)) for slot, arguments in calls])
        unknown = [
            number for number, answer in enumerate(answers) if isinstance(answer, exceptions.NoScriptError)
        ]
        for number, answer in zip(
            unknown,
            self._send([(calls[number][0], ("EVAL", script.text, *calls[number][1])) for number in unknown]),
        ):
            answers[number] = answer
        if self._wait and script.waits:
            self._wait_for_replicas(calls, answers, self._wait)
        # The script returns the errors of its commands, so that an exception is about the server.
        results = [
            denied_or_unavailable(answer) if isinstance(answer, Exception) else answer for answer in answers
        ]
        are_unavailable = bool(results) and all(isinstance(result, Unavailable) for result in results)
        if are_unavailable and all(node.name in self._down for node in self._redis.get_primaries()):
            raise results[0]
        return results

    def _wait_for_replicas(
        self, calls: Sequence[tuple[int, Sequence[Any]]], answers: list[Any], wait: tuple[Any, ...]
    ) -> None:
        """Replace the answers of a node whose writes too few replicas have by an error."""
        # Replicas apply a node's writes in order: one that has a write of this connection has all earlier
        # ones of any connection.
        nodes = [
            None if isinstance(answer, Exception) else self._redis.nodes_manager.get_node_from_slot(slot)
            for (slot, _call), answer in zip(calls, answers)
        ]
        one_of = {
            node.name: (node, [("HINCRBY", arguments[1], "waited", 1), wait])
            for (_slot, arguments), node in zip(calls, nodes)
            if node
        }
        asked = list(one_of.values())
        for (node, _commands), (_waited, copies) in zip(asked, self._ask_nodes(asked)):
            reason = copies if isinstance(copies, Exception) else too_few_replicas(copies, wait)
            if reason:
                error = (
                    reason
                    if isinstance(reason, Exception)
                    else exceptions.ConnectionError(f"{node.name}: {reason}")
                )
                answers[:] = [error if its == node else answer for its, answer in zip(nodes, answers)]

    def disconnect(self) -> None:
        """Close all connections. The next use connects again, and asks for the map of slots."""
        for connection in self._connections.values():
            connection.disconnect()
        self._connections, self._down = {}, {}
        if self._cluster is not None:
            self._cluster.close()
            self._cluster = None

    def scan(self, page: int) -> Iterator[list[bytes]]:
        for node in self._redis.get_primaries():
            cursor = 0
            while True:
                try:
                    # A node that has become a replica, or is gone, answers with an error: then the scan is
                    # incomplete.
                    cursor, keys = node.redis_connection.execute_command("SCAN", cursor, "COUNT", page)
                except _FAILURES as error:
                    self.disconnect()
                    raise Unavailable(message_of(error)) from None
                cursor = int(cursor)
                if keys:
                    yield keys
                if cursor == 0:
                    break

    def ping(self) -> None:
        for node in self._redis.get_primaries():
            try:
                self._redis.get_redis_connection(node).ping()
            except _FAILURES as error:
                self.disconnect()
                raise Unavailable(message_of(error)) from None

    def hops(self) -> list[Hop]:
        nodes = self._redis.get_primaries()
        is_verified = self._settings.secured is not None
        return [hop_of(self._redis.get_redis_connection(node), is_verified) for node in nodes]

    def refused(self, commands: Sequence[Command]) -> list[str]:
        names: set[str] = set()
        for node in self._redis.get_primaries():
            try:
                # A node checks the account's rights before it checks whether it has the key's slot.
                names.update(
                    refused_on(
                        self._redis.get_redis_connection(node).connection_pool.make_connection(), commands
                    )
                )
            except _FAILURES as error:
                self.disconnect()
                raise Unavailable(message_of(error)) from None
        return [name for name in dict.fromkeys(text(command[0]) for command in commands) if name in names]

    def close(self) -> None:
        self.disconnect()
