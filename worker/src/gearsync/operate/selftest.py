# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that every server can be used with the configuration, including each command of Redis that the
worker needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from gearsync.contract import SCHEMA
from gearsync.declare.configuration import (
    DEFAULT_METRICS_PORT,
    Config,
    Member,
    MySQLSettings,
    WorkerSettings,
    parse_address,
)
from gearsync.operate.metrics_tls import file_problems
from gearsync.servers.gearman_admin import version
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable, SchemaAbsent
from gearsync.servers.primary import Members
from gearsync.servers.redis_client import sentinel_hop
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
    """Whether one server can be used, its version or its error, and what to do about a hop that others may
    read.
    """

    server: str
    ok: bool
    detail: str
    warning: str = ""

    @property
    def word(self) -> str:
        """What the line about it begins with."""
        return ("warning" if self.warning else "ok") if self.ok else "FAILED"


def _job_server(address: str, config: Config) -> Result:
    name = f"job server {address}"
    try:
        answer, hop = version(parse_address(address), config.worker.io_timeout, config.job_server_tls)
    except OSError as error:
        return Result(name, False, str(error))
    warning = "set job_server_tls" if hop.is_exposed else ""
    return Result(name, answer.startswith("OK"), f"{answer}, {hop.text}", warning)


def _redis(config: Config) -> Result:
    target = open_target(config.redis, config.worker.io_timeout)
    name = f"Redis {target.name}"
    try:
        target.ping()
        hops = target.hops()
        refused = target.refused(_commands(config))
    except Unavailable as error:
        return Result(name, False, str(error))
    finally:
        target.close()
    protection = " and ".join(dict.fromkeys(hop.text for hop in hops))
    warning = "set redis.tls" if any(hop.is_exposed for hop in hops) else ""
    if refused:
        return Result(
            name,
            False,
            f"refuses {', '.join(refused)}: grant them to the account (ACL SETUSER), unless they are "
            "renamed or disabled on the server",
        )
    return Result(name, True, f"accepts all commands that are needed, {protection}", warning)


def _sentinel(config: Config, address: str) -> Result:
    name = f"Sentinel {address}"
    try:
        hop = sentinel_hop(config.redis, address, config.worker.io_timeout)
    except Unavailable as error:
        return Result(name, False, str(error))
    warning = "set redis.sentinel_tls" if hop.is_exposed else ""
    return Result(name, True, f"knows {config.redis.sentinel_master}, {hop.text}", warning)


def _mysql(settings: MySQLSettings, member: Member, timeout: float, durable: bool) -> Result:
    name = f"MySQL {member.name}"
    of_member = msgspec.structs.replace(settings, members=[member])
    database = Database(of_member, timeout, any_state=True)
    with contextlib.closing(database):
        try:
            ((version,),) = database.rows("SELECT VERSION()")
            shown = f"{version.decode()}, {database.hop.text}"
        except DatabaseUnavailable as error:
            return Result(name, False, str(error))
        warning = "set mysql.tls" if database.hop.is_exposed else ""
        if database.is_read_only:
            return Result(name, len(settings.members) > 1, f"{shown}, read-only", warning)
        problem = _schema_problem(database) if durable else ""
        return Result(name, not problem, f"{shown}, but {problem}" if problem else shown, warning)


def _schema_problem(database: Database) -> str:
    """Why the account cannot use the schema; empty when it can."""
    try:
        # Nothing is read or written: the server only checks the account's rights.
        for table in ("outbox", "lease", "worker", "dead_letter", "resync", "verification"):
            database.run(f"DELETE FROM {SCHEMA}.{table} WHERE FALSE")
        database.rows(f"SELECT 1 FROM {SCHEMA}.synced_table WHERE FALSE")
    except SchemaAbsent as error:
        return f"the schema {SCHEMA} does not exist yet, run site.yml: {error}"
    except DatabaseUnavailable as error:
        return f"the schema {SCHEMA} cannot be used: {error}"
    return ""


def _primary(settings: MySQLSettings) -> Result:
    try:
        return Result("MySQL", True, f"the primary is {Members(settings).choose().name}")
    except DatabaseUnavailable as error:
        return Result("MySQL", False, str(error))


def _metrics(settings: WorkerSettings) -> Result:
    """Of the settings alone: the service may not run yet."""
    name, tls = f"metrics {settings.metrics_listen}", settings.metrics_tls
    for problem in file_problems(settings):
        return Result(name, False, f"{problem.message}; {problem.hint}")
    if tls is not None:
        clients = "of clients with a certificate" if tls.ca else "of any client"
        return Result(name, True, f"{tls.minimum_version} or later, {clients}")
    host, _port = parse_address(str(settings.metrics_listen), DEFAULT_METRICS_PORT)
    if host in {"localhost", "::1"} or host.startswith("127."):
        return Result(name, True, "plain text within this host")
    return Result(name, True, "plain text over a network", "set worker.metrics_tls")


def results(config: Config) -> Iterator[Result]:
    """One result for each configured server, as they come."""
    for address in config.job_servers:
        yield _job_server(address, config)
    yield _redis(config)
    for address in config.redis.sentinels:
        yield _sentinel(config, address)
    if config.mysql is not None:
        for member in config.mysql.servers:
            yield _mysql(config.mysql, member, config.worker.io_timeout, bool(config.durable_tables))
        if len(config.mysql.servers) > 1:
            yield _primary(config.mysql)
    if config.worker.metrics_listen is not None:
        yield _metrics(config.worker)
