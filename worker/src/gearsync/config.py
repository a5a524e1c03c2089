"""The configuration file: read, checked as a whole, and never printed with its secrets."""

from __future__ import annotations

import pathlib
import re
from typing import Literal, Optional

import msgspec

from gearsync.declaration import Table, mistakes

DEFAULT_PATH = "/etc/gearsync/worker.yml"
DEFAULT_JOB_PORT = 4730

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
    prefetch: int = 128
    io_timeout: float = 5.0
    reconnect_max: float = 30.0
    shutdown_timeout: float = 20.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"


class Config(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    job_servers: list[str]
    redis: RedisSettings = msgspec.field(default_factory=RedisSettings)
    mysql: Optional[MySQLSettings] = None
    worker: WorkerSettings = msgspec.field(default_factory=WorkerSettings)
    tables: list[Table] = msgspec.field(default_factory=list)


def parse_address(text: str) -> tuple[str, int]:
    """``host``, ``host:port`` or ``[v6]:port`` → host and port. Raises ValueError."""
    match = _ADDRESS.fullmatch(text)
    port = int(match["port"] or DEFAULT_JOB_PORT) if match else 0
    if not match or not 0 < port < 65536:
        raise ValueError(f"{text!r} is no job server; write host, host:port or [v6]:port")
    return match["v6"] or match["host"], port


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
    for name, low, high in (("processes", 1, 256), ("prefetch", 1, 10_000)):
        if not low <= getattr(settings, name) <= high:
            found.append(f"worker.{name}: {getattr(settings, name)} is not between {low} and {high}")
    times = ("io_timeout", "reconnect_max", "shutdown_timeout")
    found += [f"worker.{name}: must be greater than 0" for name in times if getattr(settings, name) <= 0]
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
