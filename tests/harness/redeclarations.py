# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations of one table that follow each other at random, and what each makes of its rows in Redis."""

from __future__ import annotations

import json
import random
from typing import Any

COLUMNS = ["id", "code", "name", "city", "amount", "body"]


class History:
    """Declarations, each made from the one before it at random.

    No write comes back under its former keys: what it had left there is its owner's to remove.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.made = 0
        self.identity = "id"
        self.columns = list(COLUMNS)
        self.transform = False
        self.writes = [self.new_write("hash")]

    def new_write(self, kind: str = "") -> dict[str, Any]:
        self.made += 1
        kind = kind or self.chance.choice(["hash", "json", "set", "zset"])
        column = self.chance.choice(
            [column for column in self.columns if column in ("name", "city")] or ["code"]
        )
        key = (
            f"w{self.made}:{{{self.identity}}}" if kind in ("hash", "json") else f"w{self.made}:{{{column}}}"
        )
        return {
            "type": kind,
            "key": key,
            **({"member": f"{{{self.identity}}}"} if kind in ("set", "zset") else {}),
            **({"score": f"{{{'amount' if 'amount' in self.columns else 'id'}}}"} if kind == "zset" else {}),
        }

    def go_on(self) -> str:
        """Make the next one. Returns what was done."""
        done = self.chance.choice(["add", "add", "remove", "identity", "columns", "transform", "interval"])
        if done == "identity" or (done == "remove" and len(self.writes) == 1):
            self.identity = self.chance.choice(["id", "code"])
            self.writes = [self.new_write("hash"), self.new_write()]
        elif done == "add":
            self.writes.append(self.new_write())
        elif done == "remove":
            self.writes.remove(self.chance.choice(self.writes))
        elif done == "columns":
            kept = [column for column in COLUMNS[2:] if self.chance.random() < 0.7]
            self.columns = ["id", "code", *kept]
            self.writes = [
                write
                for write in self.writes
                if not any(f"{{{column}}}" in str(write) for column in COLUMNS if column not in self.columns)
            ]
            self.writes = self.writes or [self.new_write("hash")]
        elif done == "transform":
            self.transform = not self.transform
        else:
            # Not synced for a while: no change contains what its writes have written before.
            self.writes = [self.new_write("hash"), self.new_write()]
        return done

    @property
    def declaration(self) -> dict[str, Any]:
        return {
            "table": "shop.item",
            "columns": self.columns,
            "write": self.writes,
            **({"transform": "ours:shout", "computed": ["loud"]} if self.transform else {}),
        }

    def expected(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """The data of these rows in Redis; hashes and documents without their large column."""
        contents: dict[str, Any] = {}
        for write in self.writes:
            for row in rows:
                key = write["key"].format(**row)
                if "{" in write["key"] and any(
                    row[column] is None for column in COLUMNS if f"{{{column}}}" in write["key"]
                ):
                    continue
                if write["type"] in ("hash", "json"):
                    contents[key] = {
                        column: str(row[column])
                        for column in self.columns
                        if row[column] is not None and column != "body"
                    }
                    contents[key].update({"loud": f"{row['code']}!"} if self.transform else {})
                elif write["type"] == "set":
                    contents.setdefault(key, set()).add(write["member"].format(**row))
                elif row[write["score"][1:-1]] is not None:
                    contents.setdefault(key, {})[write["member"].format(**row)] = float(
                        row[write["score"][1:-1]]
                    )
        return contents

    def there(self, r: Any) -> dict[str, Any]:
        """The data of its writes in Redis."""
        contents: dict[str, Any] = {}
        for write in self.writes:
            for name in r.scan_iter(write["key"].partition("{")[0] + "*", count=1000):
                key = name.decode()
                if write["type"] == "hash":
                    wanted = [*self.columns, *(["loud"] if self.transform else [])]
                    contents[key] = {
                        column: value.decode()
                        for column, value in zip(wanted, r.hmget(name, wanted))
                        if value is not None and column != "body"
                    }
                elif write["type"] == "json":
                    contents[key] = {
                        column: str(value)
                        for column, value in json.loads(r.get(name)).items()
                        if value is not None and column != "body"
                    }
                elif write["type"] == "set":
                    contents[key] = {member.decode() for member in r.smembers(name)}
                else:
                    contents[key] = {
                        member.decode(): score for member, score in r.zrange(name, 0, -1, withscores=True)
                    }
        return contents
