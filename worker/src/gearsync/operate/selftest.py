# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that every server can be used with the configuration, including each command of Redis that the
worker needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pymysql
from pymysql.constants import ER

from gearsync.contract import SCHEMA
from gearsync.declare.configuration import Config, Member, MySQLSettings, parse_address
from gearsync.servers.gearman_admin import version
from gearsync.servers.mysql_errors import DatabaseUnavailable, message_of
from gearsync.servers.primary import Members
from gearsync.servers.redis_errors import Unavailable
from gearsync.servers.target import Target, open_target
from gearsync.shapes import TYPES
from gearsync.shapes.shape import Command

#: What the fence and the drain need beside the write types, each without the key that is its first argument.
_FENCE: tuple[Command, ...] = (
    ("DEL",),
    ("EXPIRE", 1),
    ("SET", "v"),
    ("GET",),
    ("HSET", "f", "v"),
    ("HDEL", "f"),
    ("HMGET", "f"),
    ("HGET", "f"),
    ("HGETALL",),
)
#: What verify and resync need beside the write types.
_READS: tuple[Command, ...] = (("TYPE",), ("TTL",))


def _commands(config: Config) -> list[Command]:
    """One command of each kind that the worker needs: of all write types, since a change of the
    declaration may add or remove any.
    """
    key = f"gearsync:{config.source}:selftest"
    needed = [*_FENCE, *(command for shape in TYPES.values() for command in shape.writes)]
    if config.durable_tables:
        needed += [*_READS, *(command for shape in TYPES.values() for command in shape.reads)]
    commands: list[Command] = [(name, key, *rest) for name, *rest in dict.fromkeys(needed)]
    commands += [("EVAL", "return 1", 1, key), ("EVALSHA", "0" * 40, 1, key)]
    if config.durable_tables:
        commands.append(("SCAN", 0))
    return [*commands, ("WAIT", 0, 1)] if config.redis.replicas else commands


def hindrance(config: Config, target: Target) -> str:
    """What may keep workers from applying changes: commands that Redis refuses, or else the worker.
    Raises Unavailable.
    """
    refused = target.refused(_commands(config))
    if refused:
        return f"Redis refuses {', '.join(refused)} (see gearsync selftest)"
    return (
        "check that a worker is running (gearsync status), and search the workers' logs for "
        "action=table_held and redis_lost"
    )


class Result(NamedTuple):
    """Whether one server can be used, and its version or its error."""

    server: str
    ok: bool
    detail: str


def _job_server(address: str, config: Config) -> Result:
    name = f"job server {address}"
    try:
        answer = version(parse_address(address), config.worker.io_timeout, config.job_server_tls)
    except OSError as error:
        return Result(name, False, str(error))
    return Result(name, answer.startswith("OK"), answer)


def _redis(config: Config) -> Result:
    target = open_target(config.redis, config.worker.io_timeout)
    name = f"Redis {target.name}"
    try:
        target.ping()
        refused = target.refused(_commands(config))
    except Unavailable as error:
        return Result(name, False, str(error))
    finally:
        target.close()
    if refused:
        return Result(
            name,
            False,
            f"refuses {', '.join(refused)}: grant them to the account (ACL SETUSER), unless they are "
            "renamed or disabled on the server",
        )
    return Result(name, True, "accepts all commands that are needed")


def _mysql(settings: MySQLSettings, member: Member, timeout: float, durable: bool) -> Result:
    name = f"MySQL {member.name}"
    try:
        connection = pymysql.connect(
            host=member.host,
            port=member.port,
            unix_socket=member.unix_socket,
            user=settings.user,
            password=settings.password,
            connect_timeout=max(1, int(timeout)),
            read_timeout=timeout,
        )
    except pymysql.MySQLError as error:
        return Result(name, False, message_of(error))
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION(), @@global.read_only IN ('0', 'OFF')")
        version, is_writable = map(str, cursor.fetchone())
        if is_writable == "0":
            return Result(name, len(settings.members) > 1, f"{version}, read-only")
        if durable:
            try:
                # Nothing is read or written: the server only checks the account's rights.
                for table in ("outbox", "lease", "worker", "dead_letter", "resync", "verification"):
                    cursor.execute(f"DELETE FROM {SCHEMA}.{table} WHERE FALSE")
                cursor.execute(f"SELECT 1 FROM {SCHEMA}.synced_table WHERE FALSE")
            except pymysql.MySQLError as error:
                problem = f"the schema {SCHEMA} cannot be used: {message_of(error)}"
                if error.args[0] in (ER.BAD_DB_ERROR, ER.NO_SUCH_TABLE):
                    problem = f"the schema {SCHEMA} does not exist yet, run site.yml: {message_of(error)}"
                return Result(name, False, f"{version}, but {problem}")
        return Result(name, True, version)


def _primary(settings: MySQLSettings) -> Result:
    try:
        return Result("MySQL", True, f"the primary is {Members(settings).choose().name}")
    except DatabaseUnavailable as error:
        return Result("MySQL", False, str(error))


def results(config: Config) -> Iterator[Result]:
    """One result for each configured server, as they come."""
    for address in config.job_servers:
        yield _job_server(address, config)
    yield _redis(config)
    if config.mysql is not None:
        for member in config.mysql.servers:
            yield _mysql(config.mysql, member, config.worker.io_timeout, bool(config.durable_tables))
        if len(config.mysql.servers) > 1:
            yield _primary(config.mysql)
