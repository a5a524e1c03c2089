# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is in Redis what a payload stands for? Run by the worker's Python, with the payload on stdin; prints no value of the row."""

from __future__ import annotations

import sys

import redis
from gearsync.change import decode
from gearsync.commands import Writer, as_bytes
from gearsync.config import load

CONFIG = "/etc/gearsync/worker.yml"


def connect(settings, timeout):
    if settings.unix_socket:
        where = {"unix_socket_path": settings.unix_socket}
    else:
        where = {"host": settings.host, "port": settings.port}
    if settings.tls:
        where.update(ssl=True, ssl_ca_certs=settings.tls_ca)
    return redis.Redis(**where, db=settings.db, username=settings.username, password=settings.password, socket_timeout=timeout)


def is_there(client, name, *words):
    """Whether Redis looks as it must after a command."""
    if name == "SET":
        return client.get(words[0]) == as_bytes(words[1])
    if name == "DEL":
        return not client.exists(words[0])
    if name == "HSET":
        return client.hmget(words[0], words[1::2]) == [as_bytes(value) for value in words[2::2]]
    if name == "HDEL":
        return client.hmget(words[0], words[1:]) == [None] * (len(words) - 1)
    if name in ("SADD", "SREM"):
        return bool(client.sismember(words[0], words[1])) == (name == "SADD")
    if name == "ZADD":
        return client.zscore(words[0], words[2]) == float(words[1])
    if name == "ZREM":
        return client.zscore(words[0], words[1]) is None
    if name == "EXPIRE":
        return client.ttl(words[0]) > 0
    sys.exit(f"{name} is no command that can be read back")


def main():
    config = load(CONFIG)
    change = decode(sys.stdin.buffer.read())
    tables = [table for table in config.tables if table.table == change.table]
    if not tables:
        sys.exit(f"the worker does not know table {change.table}: its configuration is older than the triggers")
    commands = Writer(tables[0]).commands(change)
    client = connect(config.redis, config.worker.io_timeout)
    wrong = sorted({str(command[0]) for command in commands if not is_there(client, *command)})
    if wrong:
        sys.exit(f"Redis does not hold what {', '.join(wrong)} of that row write")
    print(f"{len(commands)} commands")


main()
