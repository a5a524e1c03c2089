# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is in Redis what a payload stands for? Run by the worker's Python, with the payload on stdin; prints no value of the row."""

from __future__ import annotations

import sys

import msgspec
from gearsync.change import decode
from gearsync.cluster import open_target
from gearsync.commands import Writer, as_bytes
from gearsync.config import load
from gearsync.declared import Declared

CONFIG = "/etc/gearsync/worker.yml"


def question(name, *words):
    """The command that shows what a command has done, and whether its answer is as it must be."""
    key = words[0]
    if name == "SET":
        return ("GET", key), lambda answer: answer == as_bytes(words[1])
    if name == "DEL":
        return ("EXISTS", key), lambda answer: answer == 0
    if name == "HSET":
        return ("HMGET", key, *words[1::2]), lambda answer: answer == [as_bytes(value) for value in words[2::2]]
    if name == "HDEL":
        return ("HMGET", key, *words[1:]), lambda answer: answer == [None] * (len(words) - 1)
    if name in ("SADD", "SREM"):
        return ("SISMEMBER", key, words[1]), lambda answer: bool(answer) == (name == "SADD")
    if name == "ZADD":
        return ("ZSCORE", key, words[2]), lambda answer: answer is not None and float(answer) == float(words[1])
    if name == "ZREM":
        return ("ZSCORE", key, words[1]), lambda answer: answer is None
    if name == "EXPIRE":
        return ("TTL", key), lambda answer: answer > 0
    sys.exit(f"{name} is no command that can be read back")


def main():
    config = load(CONFIG)
    given = sys.stdin.buffer.read()
    sent = msgspec.json.decode(given)
    if "declaration" in sent:
        # A row of the outbox.
        declared = msgspec.json.decode(sent["declaration"], type=Declared)
        change = declared.layout().decode(sent["table"], "refresh", sent["payload"].encode())
    else:
        change = decode(given)
    tables = [table for table in config.tables if table.table == change.table]
    if not tables:
        sys.exit(f"the worker does not know table {change.table}: its configuration is older than the triggers")
    commands = Writer(tables[0]).commands(change)
    questions = [question(*command) for command in commands]
    answers = open_target(config.redis, config.worker.io_timeout).ask([asked for asked, _right in questions])
    wrong = sorted({
        str(command[0]) for command, (_asked, right), answer in zip(commands, questions, answers)
        if isinstance(answer, Exception) or not right(answer)
    })
    if wrong:
        sys.exit(f"Redis does not hold what {', '.join(wrong)} of that row write")
    print(f"{len(commands)} commands")


main()
