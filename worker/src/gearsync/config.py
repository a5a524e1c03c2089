"""The configuration file: read, checked as a whole, and never printed with its secrets."""

from __future__ import annotations

import pathlib
import re
from typing import Literal, Optional

import msgspec

from gearsync.declaration import Table, mistakes

DEFAULT_PATH = "/etc/gearsync/worker.yml"
DEFAULT_JOB_PORT = 4730
DEFAULT_SENTINEL_PORT = 26379
DEFAULT_METRICS_PORT = 9788

#: It is part of names of Gearman functions and of Redis keys.
_SOURCE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
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
    tls: bool = False
    tls_ca: Optional[str] = None
    sentinels: list[str] = msgspec.field(default_factory=list)
    sentinel_master: Optional[str] = None

    def __repr__(self) -> str:
        return f"RedisSettings(host={self.host!r}, port={self.port}, db={self.db}, unix_socket={self.unix_socket!r}, tls={self.tls})"


class MySQLSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Where MySQL is, and who the worker is there."""

    user: str
    host: str = "localhost"
    port: int = 3306
    unix_socket: Optional[str] = None
    password: str = ""

    def __repr__(self) -> str:
        return f"MySQLSettings(user={self.user!r}, host={self.host!r}, port={self.port}, unix_socket={self.unix_socket!r})"


class WorkerSettings(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """How the worker runs. Times are in seconds."""

    processes: int = 1
    drainers: int = 1
    batch: int = 1000
    lease: float = 10.0
    sweep: float = 0.25
    linger: float = 0.03
    python_path: Optional[str] = None
    prefetch: int = 128
    io_timeout: float = 5.0
    reconnect_max: float = 30.0
    shutdown_timeout: float = 20.0
    metrics_listen: Optional[str] = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    job_servers: list[str]
    source: str = "main"
    redis: RedisSettings = msgspec.field(default_factory=RedisSettings)
    mysql: Optional[MySQLSettings] = None
    worker: WorkerSettings = msgspec.field(default_factory=WorkerSettings)
    tables: list[Table] = msgspec.field(default_factory=list)

    @property
    def durable_tables(self) -> list[Table]:
        return [table for table in self.tables if table.delivery == "durable"]


def parse_address(text: str, port: int = DEFAULT_JOB_PORT) -> tuple[str, int]:
    """``host``, ``host:port`` or ``[v6]:port`` → host and port. Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or port) if match else 0
    if not match or not 0 < port < 65536:
        raise ValueError(f"{text!r} is no job server; write host, host:port or [v6]:port")
    return match["v6"] or match["host"], port


def _durable_mistakes(config: Config) -> list[str]:
    found = []
    if not _SOURCE.fullmatch(config.source):
        found.append(f"source: {config.source!r} is no name; use letters, digits, '_', '.' and '-', 64 at most")
    if config.durable_tables and config.mysql is None:
        found.append(f"mysql: is needed for the durable delivery of {config.durable_tables[0].table}")
    if 0 < config.worker.lease < 1:
        found.append("worker.lease: less than a second would be lost at every pause")
    settings = config.redis
    if bool(settings.sentinels) != bool(settings.sentinel_master):
        found.append("redis: sentinels and sentinel_master need each other")
    for number, server in enumerate(settings.sentinels):
        try:
            parse_address(server, DEFAULT_SENTINEL_PORT)
        except ValueError:
            found.append(f"redis.sentinels[{number}]: {server!r} is no address; write host, host:port or [v6]:port")
    return found


def _check(config: Config) -> list[str]:
    found = []
    if not config.job_servers:
        found.append("job_servers: the list is empty")
    for number, server in enumerate(config.job_servers):
        try:
            parse_address(server)
        except ValueError as error:
            found.append(f"job_servers[{number}]: {error}")
    settings = config.worker
    for name, low, high in (("processes", 1, 256), ("drainers", 0, 256), ("prefetch", 1, 10_000), ("batch", 1, 10_000)):
        if not low <= getattr(settings, name) <= high:
            found.append(f"worker.{name}: {getattr(settings, name)} is not between {low} and {high}")
    times = ("io_timeout", "reconnect_max", "shutdown_timeout", "lease", "sweep", "linger")
    found += [f"worker.{name}: must be greater than 0" for name in times if getattr(settings, name) <= 0]
    if settings.metrics_listen is not None:
        try:
            parse_address(settings.metrics_listen, DEFAULT_METRICS_PORT)
        except ValueError:
            found.append(f"worker.metrics_listen: {settings.metrics_listen!r} is no address; write host, host:port or [v6]:port")
    found += _durable_mistakes(config)
    names: dict[str, int] = {}
    for number, table in enumerate(config.tables):
        found += [f"tables[{number}] ({table.table}): {sentence}" for sentence in mistakes(table)]
        if table.table in names:
            found.append(f"tables[{number}] ({table.table}): declared by tables[{names[table.table]}] already")
        names.setdefault(table.table, number)
    return found


def load(path: str) -> Config:
    """The configuration in the file ``path``. Raises ConfigError with all that is wrong with it."""
    try:
        text = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    try:
        config = msgspec.yaml.decode(text, type=Config)
    except msgspec.ValidationError as error:
        # msgspec ends its sentence with the path of the field, in JSONPath's way.
        raise ConfigError([f"{path}: {error}".replace("`$.", "`")]) from None
    except msgspec.DecodeError as error:
        raise ConfigError([f"{path}: not YAML: {error}"]) from None
    found = _check(config)
    if found:
        raise ConfigError([f"{path}: {sentence}" for sentence in found])
    return config
