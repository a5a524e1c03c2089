# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration file: read, checked as a whole, and never printed with its secrets."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Literal, NamedTuple, Optional, Union

import msgspec

from gearsync.declare.config_file import Document, Path, Unreadable
from gearsync.declare.declaration import Table, typed
from gearsync.declare.fields import FIELDS, WRITE_FIELDS
from gearsync.declare.problem import Problem, path_text
from gearsync.declare.rules import is_durable, source_problems, tables_problems
from gearsync.declare.tls import ServingTls, Tls, TlsSettings, tls_problems, tls_settings

DEFAULT_JOB_PORT = 4730
DEFAULT_MYSQL_PORT = 3306
DEFAULT_SENTINEL_PORT = 26379
DEFAULT_METRICS_PORT = 9788
#: Longer than a replica that is promoted is behind.
_REMEMBER = 60.0

_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^\s:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")


class ConfigError(Exception):
    """A configuration that cannot be used; ``sentences`` holds all that is wrong with it."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class RedisSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where Redis is."""

    host: str = "127.0.0.1"
    port: int = 6379
    db: int = 0
    username: Optional[str] = None
    password: Optional[str] = None
    unix_socket: Optional[str] = None
    tls: Tls = None
    #: The ``ca`` of ``tls: true``.
    tls_ca: Optional[str] = None
    sentinels: list[str] = msgspec.field(default_factory=list)
    cluster: list[str] = msgspec.field(default_factory=list)
    sentinel_master: Optional[str] = None
    sentinel_username: Optional[str] = None
    sentinel_password: Optional[str] = None
    sentinel_tls: Tls = None
    replicas: int = 0
    replicas_timeout: float = 1.0

    @property
    def secured(self) -> Optional[TlsSettings]:
        """TLS to Redis."""
        return TlsSettings(ca=self.tls_ca) if self.tls is True else tls_settings(self.tls)

    def __repr__(self) -> str:
        return (
            f"RedisSettings(host={self.host!r}, port={self.port}, db={self.db}, "
            f"unix_socket={self.unix_socket!r}, tls={self.tls})"
        )


class Member(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Where one server of a source is: the primary, or a replica that may become it."""

    host: Optional[str] = None
    port: int = DEFAULT_MYSQL_PORT
    unix_socket: Optional[str] = None

    @property
    def name(self) -> str:
        """Its address, for messages."""
        return self.unix_socket or f"{self.host}:{self.port}"


class MySQLSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where MySQL is, and who the worker is there."""

    user: str
    host: str = "localhost"
    port: int = DEFAULT_MYSQL_PORT
    unix_socket: Optional[str] = None
    members: list[Union[Member, str]] = msgspec.field(default_factory=list)
    password: str = ""
    tls: Tls = None

    @property
    def servers(self) -> list[Member]:
        """All members, or the one server. Raises ValueError for an invalid address."""
        if not self.members:
            return [Member(host=self.host, port=self.port, unix_socket=self.unix_socket)]
        return [each if isinstance(each, Member) else _member_at(each) for each in self.members]

    def __repr__(self) -> str:
        return f"MySQLSettings(user={self.user!r}, servers={[member.name for member in self.servers]!r})"


def _member_at(address: str) -> Member:
    host, port = parse_address(address, DEFAULT_MYSQL_PORT)
    return Member(host=host, port=port)


class WorkerSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How the worker runs. Times are in seconds."""

    processes: int = 1
    drainers: int = 1
    batch: int = 1000
    lease: float = 10.0
    sweep: float = 0.25
    linger: float = 0.25
    keep: float = 1.0
    #: None: a minute where there are several members, which may fail over, and not at all with one.
    remember: Optional[float] = None
    #: Whether workers of other sources take jobs from the same job servers: a function that no table of this
    #: source has by direct delivery is theirs.
    shared_job_servers: bool = False
    python_path: Optional[str] = None
    prefetch: int = 128
    io_timeout: float = 5.0
    reconnect_max: float = 30.0
    shutdown_timeout: float = 20.0
    metrics_listen: Optional[str] = None
    metrics_tls: Optional[ServingTls] = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    job_servers: list[str]
    job_server_tls: Optional[TlsSettings] = None
    source: str = "main"
    redis: RedisSettings = msgspec.field(default_factory=RedisSettings)
    mysql: Optional[MySQLSettings] = None
    worker: WorkerSettings = msgspec.field(default_factory=WorkerSettings)
    tables: list[Table] = msgspec.field(default_factory=list)

    @property
    def remember(self) -> float:
        """Seconds for which the fences record what is applied after its rows are deleted."""
        if self.worker.remember is not None:
            return self.worker.remember
        return _REMEMBER if self.mysql is not None and len(self.mysql.servers) > 1 else 0.0

    @property
    def durable_tables(self) -> list[Table]:
        return [table for table in self.tables if table.delivery == "durable"]


def parse_address(text: str, port: int = DEFAULT_JOB_PORT) -> tuple[str, int]:
    """``host``, ``host:port`` or ``[v6]:port`` → host and port. Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or port) if match else 0
    if not match or not 0 < port < 65536:
        raise ValueError(
            f"{text!r} cannot be the address of a job server; write host, host:port or [v6]:port"
        )
    return match["v6"] or match["host"], port


def _address_problems(config: Config) -> Iterator[Problem]:
    lists: list[tuple[Path, list[str], int]] = [
        (("job_servers",), config.job_servers, DEFAULT_JOB_PORT),
        (("redis", "sentinels"), config.redis.sentinels, DEFAULT_SENTINEL_PORT),
        (("redis", "cluster"), config.redis.cluster, 6379),
    ]
    for path, servers, port in lists:
        for number, server in enumerate(servers):
            try:
                parse_address(server, port)
            except ValueError:
                yield Problem(
                    (*path, number), f"{server!r} is not an address", "write host, host:port or [v6]:port"
                )
    if not config.job_servers:
        yield Problem(("job_servers",), "the list is empty", "name at least one: host or host:port")
    listen = config.worker.metrics_listen
    try:
        parse_address(listen or "localhost", DEFAULT_METRICS_PORT)
    except ValueError:
        yield Problem(
            ("worker", "metrics_listen"),
            f"{listen!r} is not an address",
            "write host, host:port or [v6]:port",
        )
    if config.redis.cluster and (config.redis.sentinels or config.redis.unix_socket or config.redis.db):
        yield Problem(
            ("redis", "cluster"),
            "a cluster has neither sentinels nor a unix_socket, and only database 0",
            "leave these out",
        )
    if bool(config.redis.sentinels) != bool(config.redis.sentinel_master):
        yield Problem(
            ("redis", "sentinels"), "sentinels and sentinel_master need each other", "name both, or neither"
        )


def _tls_problems(config: Config) -> Iterator[Problem]:
    for path, written in (
        (("job_server_tls",), config.job_server_tls),
        (("mysql", "tls"), config.mysql.tls if config.mysql else None),
        (("redis", "tls"), config.redis.tls),
        (("redis", "sentinel_tls"), config.redis.sentinel_tls),
    ):
        yield from tls_problems(path, written)
    if config.redis.tls_ca and isinstance(config.redis.tls, TlsSettings):
        yield Problem(("redis", "tls_ca"), "belongs to tls: true alone", "write tls: {ca: …} in its place")


def _member_problems(config: Config, document: Document) -> Iterator[Problem]:
    if config.mysql is None or not document.has(("mysql", "members")):
        return
    path: Path = ("mysql", "members")
    if beside := [name for name in ("host", "port", "unix_socket") if document.has(("mysql", name))]:
        yield Problem(path, f"stands beside {', '.join(beside)}", "name all servers in members alone")
    if not config.mysql.members:
        yield Problem(path, "the list is empty", "name at least one, or leave it out and give host")
    names: list[str] = []
    for number, each in enumerate(config.mysql.members):
        try:
            member = each if isinstance(each, Member) else _member_at(each)
        except ValueError:
            yield Problem(
                (*path, number), f"{each!r} is not an address", "write host, host:port or [v6]:port"
            )
            continue
        if bool(member.host) == bool(member.unix_socket):
            yield Problem(
                (*path, number), "needs host or unix_socket, not both", "write {host, port} or {unix_socket}"
            )
        elif member.name in names:
            yield Problem((*path, number), f"{member.name} is named twice", "leave one of them out")
        names.append(member.name)


def _replica_problems(config: Config) -> Iterator[Problem]:
    if config.redis.replicas < 0:
        yield Problem(("redis", "replicas"), "must be 0 or more", "0 waits for none")
    if config.redis.replicas > 0 and not 0.001 <= config.redis.replicas_timeout < config.worker.io_timeout:
        message = (
            f"{config.redis.replicas_timeout:g} is not between 0.001 and worker.io_timeout, "
            f"{config.worker.io_timeout:g}"
        )
        yield Problem(("redis", "replicas_timeout"), message, "give less, or raise worker.io_timeout")


def _worker_problems(settings: WorkerSettings) -> Iterator[Problem]:
    for name, low, high in (
        ("processes", 1, 256),
        ("drainers", 0, 256),
        ("prefetch", 1, 10_000),
        ("batch", 1, 10_000),
    ):
        if not low <= getattr(settings, name) <= high:
            yield Problem(
                ("worker", name),
                f"{getattr(settings, name)} is not between {low} and {high}",
                f"the default is {getattr(WorkerSettings(), name)}",
            )
    for name in ("io_timeout", "reconnect_max", "shutdown_timeout", "lease", "sweep", "linger"):
        if getattr(settings, name) <= 0:
            yield Problem(
                ("worker", name),
                "must be greater than 0",
                f"the default is {getattr(WorkerSettings(), name):g} seconds",
            )
    for name in ("keep", "remember"):
        seconds = getattr(settings, name)
        if seconds is not None and not 0 <= seconds <= 3600:
            yield Problem(
                ("worker", name), f"{seconds:g} is not between 0 and 3600", "leave it out for the default"
            )
    if 0 < settings.lease < 1:
        yield Problem(
            ("worker", "lease"), "less than a second would be lost at every pause", "give a second or more"
        )


def _check(config: Config, declared: Any, document: Document, source: Optional[str]) -> Iterator[Problem]:
    wrong = source_problems(config.source)
    if not wrong and source not in (None, config.source):
        message = f"{config.source} is not {source}, the name of the file"
        wrong = [
            Problem(("source",), message, "the file of a source has its name: correct one, or remove it")
        ]
    yield from wrong
    durable = (
        [each.get("table") for each in declared if is_durable(each)] if isinstance(declared, list) else []
    )
    if durable and not document.has(("mysql",)):
        message = (
            "is needed for the durable delivery of "
            f"{durable[0] if isinstance(durable[0], str) and durable[0].isprintable() else 'a table'}"
        )
        yield Problem(("mysql",), message, "set it, or declare the table with delivery: direct")
    yield from _address_problems(config)
    yield from _tls_problems(config)
    yield from _member_problems(config, document)
    yield from _replica_problems(config)
    yield from _worker_problems(config.worker)


class Shown(NamedTuple):
    """A problem as it is shown."""

    file: str
    line: Optional[int]
    path: str
    message: str
    hint: str
    table: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        where = f"{self.path}{f' of {self.table}' if self.table else ''}: " if self.path else ""
        return f"{place}: {where}{self.message}{f'; {self.hint}' if self.hint else ''}"


#: Looks at what the file names: in the worker's settings, and the functions of transforms by the numbers of
#: their tables.
LookAround = Callable[[WorkerSettings, Mapping[int, str]], Iterable[Problem]]


def inspect(
    path: str, look: LookAround = lambda _worker, _names: (), source: Optional[str] = None
) -> tuple[Optional[Config], list[Shown]]:
    """The configuration in the file ``path``, and all that is wrong with it, by line. With a problem the
    configuration is not to be used.

    ``source``: the source that it must be of, if that is known.
    """
    try:
        document = Document(pathlib.Path(path).read_bytes())
    except OSError as error:
        return None, [Shown(path, None, "", error.strerror or str(error), "")]
    except Unreadable as error:
        return None, [Shown(path, error.line, "", str(error), "")]
    config, problems = document.convert(Config, "tables")
    declared = document.value("tables", [])
    further = _check(config, declared, document, source)
    # What stands in the place of something that is wrong or missing is no further problem.
    problems += [
        each
        for each in further
        if not any(each.path[:length] in document.replaced for length in range(1, len(each.path) + 1))
    ]
    of_tables = tables_problems(declared)
    if not of_tables:
        config.tables = [typed(each) for each in declared]
    places = {problem.path for problem in of_tables}
    transforms = {
        number: each["transform"]
        for number, each in enumerate(declared if isinstance(declared, list) else ())
        if isinstance(each, dict) and each.get("transform") and ("tables", number, "transform") not in places
    }
    problems += [
        *of_tables,
        *document.twice("tables", {*FIELDS, *WRITE_FIELDS}),
        *look(config.worker, transforms),
    ]
    shown = [
        Shown(path, document.line(each.path), path_text(each.path), each.message, each.hint, each.table)
        for each in problems
    ]
    return config, sorted(shown, key=lambda each: each.line or 0)


def load(path: str, source: Optional[str] = None) -> Config:
    """The configuration of the ``source``, if one is given, in the file ``path``. Raises ConfigError with
    all that is wrong with it.
    """
    config, problems = inspect(path, source=source)
    if problems or config is None:
        raise ConfigError([str(problem) for problem in problems])
    return config
