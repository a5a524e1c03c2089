# SPDX-License-Identifier: GPL-3.0-or-later
"""What a peer shows in Redis: a key a row, or a stream of changes."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import redis
from servers import Redis

#: A change that is watched for: id and value of its row, as it is written into a pipe.
ASKED = struct.Struct("<iq")
#: Seconds without any change after which a watcher gives up.
PATIENCE = 180.0


class Change(NamedTuple):
    """A change as a stream has it."""

    id: int
    value: int
    deleted: bool


def as_change(fields: dict[bytes, bytes]) -> Change | None:
    """The change of an entry as Debezium (op, before, after) or Maxwell (type, data) write it."""
    for text in fields.values():
        document = json.loads(text) if text.startswith(b"{") else {}
        if "op" in document:
            deleted = document["op"] == "d"
            row = document["before" if deleted else "after"]
        elif "data" in document:
            deleted, row = document["type"] == "delete", document["data"]
        else:
            continue
        return Change(int(row["id"]), int(row["value"]), deleted)
    return None


class Hashes:
    """A key a row: a hash, or a string with the row as JSON."""

    def __init__(self, server: Redis, as_json: bool) -> None:
        self._port, self.client, self.as_json = server.port, server.client, as_json

    def _decoded(self, found: bytes | None) -> int:
        if found is None:
            return -1
        return int(json.loads(found)["value"]) if self.as_json else int(found)

    def _ask(self, client: Any, table: str, row: int) -> Any:
        key = f"bench_{table}:{row}"
        return client.get(key) if self.as_json else client.hget(key, "value")

    def value(self, table: str, row: int) -> int:
        """A row's value, -1 when it is not there."""
        return self._decoded(self._ask(self.client, table, row))

    def mark(self, table: str) -> Any:
        """A place from which `begun` and `state` look: none, since a key has the present only."""

    def length(self, table: str) -> int:
        """A number that grows by one with each insert."""
        return int(self.client.dbsize())

    def begun(self, table: str, first: list[tuple[int, int]], _mark: Any) -> bool:
        """Whether one of the first changes shows."""
        return any(self.value(table, row) >= number for row, number in first)

    def shown(self, table: str, changes: list[tuple[int, int]]) -> bool:
        """Whether all these, or later ones of their rows, show; what does is taken from the list."""
        while changes and self.value(table, changes[-1][0]) >= changes[-1][1]:
            del changes[-1]
        return not changes

    def state(self, table: str, _mark: Any) -> dict[int, int]:
        """All rows with their values."""
        prefix = len(f"bench_{table}:")
        rows = [int(key[prefix:]) for key in self.client.scan_iter(f"bench_{table}:*", count=10_000)]
        found: dict[int, int] = {}
        for first in range(0, len(rows), 5000):
            part = rows[first : first + 5000]
            pipeline = self.client.pipeline(transaction=False)
            for row in part:
                self._ask(pipeline, table, row)
            found.update(zip(part, map(self._decoded, pipeline.execute())))
        return {row: value for row, value in found.items() if value >= 0}

    def watch(self, table: str, questions: int, _count: int, _mark: Any, answers: Connection) -> None:
        """In a process of its own: ask for each row every tenth of a millisecond until it has its value;
        send when that was.
        """
        self.client = redis.Redis(port=self._port)
        seen: dict[int, float] = {}
        buffer = b""
        while more := os.read(questions, 1 << 16):
            buffer += more
            whole = len(buffer) - len(buffer) % ASKED.size
            for row, number in ASKED.iter_unpack(buffer[:whole]):
                patience = time.perf_counter() + PATIENCE
                while self.value(table, row) < number and time.perf_counter() < patience:
                    time.sleep(0.0001)
                if time.perf_counter() >= patience:
                    answers.send(seen)
                    return
                seen[number] = time.perf_counter()
            buffer = buffer[whole:]
        answers.send(seen)


class Streams:
    """A stream a table, an entry a change."""

    def __init__(self, server: Redis, template: str) -> None:
        self._port, self.client, self._template = server.port, server.client, template

    def _name(self, table: str) -> str:
        return self._template.format(table=table)

    def mark(self, table: str) -> bytes:
        """The last entry of now."""
        last: Any = self.client.xrevrange(self._name(table), count=1)
        return last[0][0] if last else b"0-0"

    def length(self, table: str) -> int:
        return int(self.client.xlen(self._name(table)))

    def entries(self, table: str, mark: bytes, limit: int = 0) -> Iterator[Change]:
        """The changes after a mark."""
        while True:
            found: Any = self.client.xrange(self._name(table), min=b"(" + mark, count=limit or 5000)
            yield from filter(None, (as_change(fields) for _entry, fields in found))
            if limit or not found:
                return
            mark = found[-1][0]

    def begun(self, table: str, first: list[tuple[int, int]], mark: bytes) -> bool:
        return any(change.value >= first[0][1] for change in self.entries(table, mark, 200))

    def shown(self, table: str, changes: list[tuple[int, int]]) -> bool:
        # In order, so that the last of all is what counts.
        last: Any = self.client.xrevrange(self._name(table), count=8)
        if any(
            change and (change.id, change.value) == changes[-1]
            for change in (as_change(fields) for _entry, fields in last)
        ):
            changes.clear()
        return not changes

    def state(self, table: str, mark: bytes) -> dict[int, int]:
        found: dict[int, int] = {}
        for change in self.entries(table, mark):
            if change.deleted:
                found.pop(change.id, None)
            else:
                found[change.id] = change.value
        return found

    def repeated(self, table: str) -> int:
        """How many entries came again."""
        changes = list(self.entries(table, b"0-0"))
        return len(changes) - len(set(changes))

    def watch(self, table: str, _questions: int, count: int, mark: bytes, answers: Connection) -> None:
        """In a process of its own: read entries as they come, until so many values were there; send when
        that was.
        """
        client = redis.Redis(port=self._port)
        seen: dict[int, float] = {}
        last = time.perf_counter()
        while len(seen) < count and time.perf_counter() - last < PATIENCE:
            found: Any = client.xread({self._name(table): mark}, block=1000, count=1000)
            if not found:
                continue
            last = time.perf_counter()
            mark = found[0][1][-1][0]
            for _entry, fields in found[0][1]:
                if change := as_change(fields):
                    seen.setdefault(change.value, last)
        answers.send(seen)
