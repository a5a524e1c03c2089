# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes whose every trace in Redis is known, and what differs there: nothing here is shared with the
worker or with `gearsync verify`.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter, defaultdict
from typing import Any

from harness.outbox_database import OutboxDatabase
from harness.writers import Writers

#: Rows of each writer.
KEYS = 8
TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "version", "name"],
    "write": [
        {"type": "hash", "key": "item:{id}"},
        {"type": "set", "key": "name:{name}", "member": "{id}"},
        {"type": "zset", "key": "all", "member": "{id}", "score": "{version}"},
        {"type": "list", "key": "log", "value": "{id}:{version}"},
        {"type": "stream", "key": "changes"},
    ],
}


class Ledger:
    """What writers have done to the table. Each row has one writer, and a version that only rises, also
    over its deletion.
    """

    def __init__(self, database: OutboxDatabase, writers: int = 3) -> None:
        database.execute(
            "CREATE TABLE shop.item (id INT PRIMARY KEY, version INT, name VARCHAR(40)) ENGINE=InnoDB"
        )
        self.database, self.number = database, writers
        self.ids = [1000 * writer + key for writer in range(writers) for key in range(KEYS)]
        self._versions = [itertools.count(1) for _ in range(writers)]
        self._chances = [random.Random(writer) for writer in range(writers)]
        #: Version of each row that is there.
        self._rows: dict[int, int] = {}
        #: Entries of the list and of the stream, of each row in order.
        self._list: dict[str, list[str]] = defaultdict(list)
        self._stream: dict[str, list[str]] = defaultdict(list)

    def writing(self) -> Writers:
        """Threads that write until the end of the block. Their ``errors`` must be empty then."""
        return Writers(self.database, self.number, self._write)

    def _write(self, cursor: Any, writer: int, _number: int) -> None:
        chance, version = self._chances[writer], next(self._versions[writer])
        row = 1000 * writer + chance.randrange(KEYS)
        entries, name = self._list[str(row)], f"n{version % 7}"
        event = "insert" if row not in self._rows else "delete" if chance.random() < 0.3 else "update"
        cursor.execute(
            {
                "insert": f"INSERT INTO shop.item VALUES ({row}, {version}, '{name}')",
                "update": f"UPDATE shop.item SET version = {version}, name = '{name}' WHERE id = {row}",
                "delete": f"DELETE FROM shop.item WHERE id = {row}",
            }[event]
        )
        if event == "delete":
            # Of a deleted row the newest entry is taken out.
            before = str(self._rows.pop(row))
            if entries and entries[-1] == before:
                entries.pop()
        else:
            self._rows[row] = version
            entries.append(str(version))
        self._stream[str(row)].append("delete" if event == "delete" else f"{event} {version}")

    def begin(self, redis: Any) -> None:
        """Empty the list and the stream, here and in Redis, so that they stay short."""
        redis.delete("log", "changes")
        self._list.clear()
        self._stream.clear()

    def differences(self, redis: Any) -> dict[str, Any]:
        """What is not in Redis as it should be: (wanted, found) of each place."""
        wanted: dict[str, Any] = {"all": {str(row): version for row, version in self._rows.items()}}
        for row, version in self._rows.items():
            wanted[f"item:{row}"] = {"id": str(row), "version": str(version), "name": f"n{version % 7}"}
            wanted.setdefault(f"name:n{version % 7}", set()).add(str(row))
        wanted.update({f"log of {row}": entries for row, entries in self._list.items() if entries})
        wanted.update({f"stream of {row}": entries for row, entries in self._stream.items() if entries})
        found: dict[str, Any] = {
            "all": {
                member.decode(): int(score) for member, score in redis.zrange("all", 0, -1, withscores=True)
            }
        }
        for key in redis.keys("item:*"):
            found[key.decode()] = {
                name.decode(): value.decode() for name, value in redis.hgetall(key).items()
            }
        for key in redis.keys("name:*"):
            found[key.decode()] = {member.decode() for member in redis.smembers(key)}
        for entry in redis.lrange("log", 0, -1):
            row, _, version = entry.decode().partition(":")
            found.setdefault(f"log of {row}", []).append(version)
        for _id, fields in redis.xrange("changes"):
            event = fields[b"event"].decode()
            found.setdefault(f"stream of {fields[b'id'].decode()}", []).append(
                event if event == "delete" else f"{event} {fields[b'version'].decode()}"
            )
        return {
            place: (wanted.get(place), found.get(place))
            for place in wanted.keys() | found.keys()
            if wanted.get(place) != found.get(place)
        }


class Observer:
    """Looks at the rows' versions in a Redis from the beginning of the block to its end: none may fall."""

    def __init__(self, redis: Any, ids: list[int]) -> None:
        self._redis, self._ids = redis, ids
        self.fallen: Counter[int] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        highest: dict[int, int] = {}
        while not self._stop.wait(0.005):
            pipeline = self._redis.pipeline(transaction=False)
            for row in self._ids:
                pipeline.hget(f"item:{row}", "version")
            for row, version in zip(self._ids, pipeline.execute()):
                if version is not None:
                    self.fallen[row] += int(version) < highest.get(row, 0)
                    highest[row] = int(version)

    def __enter__(self) -> Observer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert +self.fallen == Counter(), "versions that went back, by row"
