"""Private servers for the benchmarks: a database with the schema of durable delivery, a Redis, a gearmand, and the worker, all on this machine."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import redis
import yaml

ROOT = Path(__file__).resolve().parent.parent
SEARCH = os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"


def machine() -> str:
    """One line about where this runs."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(what: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.01)


def program(*names: str) -> str:
    for name in names:
        if found := shutil.which(name, path=SEARCH):
            return found
    raise FileNotFoundError(f"{' or '.join(names)} is not installed: tests/setup test")


def _listens(port: int) -> bool:
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


class Bench:
    """Everything that was started, in one temporary directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = str(home / "socket")
        self.processes: list[subprocess.Popen[bytes]] = []
        self.redis: redis.Redis
        self.redis_port = self.gearmand_port = 0

    def run(self, *command: str, log: str) -> subprocess.Popen[bytes]:
        with (self.home / log).open("ab") as output:
            self.processes.append(subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT / "worker/src")}))
        return self.processes[-1]

    def start_database(self, *options: str) -> None:
        """MariaDB with the collection's schema `gearsync`, and a schema `bench`."""
        # A server that starts removes the temporary tables that it finds in /tmp, those of another one too.
        user = [f"--tmpdir={self.home}", *(["--user=root"] if os.geteuid() == 0 else [])]
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={self.home}/data", "--auth-root-authentication-method=normal", "--skip-test-db", *user],
            check=True, capture_output=True)
        self.run(
            program("mariadbd"), "--no-defaults", *user, f"--datadir={self.home}/data", f"--socket={self.socket}", f"--pid-file={self.home}/pid",
            "--innodb-buffer-pool-size=512M", "--max-allowed-packet=64M", "--character-set-server=utf8mb4", *options, log="mariadb.log")
        until(self._answers)
        collection = self.home / "ansible_collections/gearsync"
        collection.mkdir(parents=True)
        (collection / "mysql_redis").symlink_to(ROOT)
        sys.path.insert(0, str(self.home))
        outbox = importlib.import_module("ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox")
        self.sql("CREATE DATABASE bench", *outbox.migration_statements(0))

    def _answers(self) -> bool:
        with contextlib.suppress(pymysql.MySQLError):
            self.connect().close()
            return True
        return False

    def connect(self, **options: Any) -> Any:
        return pymysql.connect(unix_socket=self.socket, user="root", charset="utf8mb4", **{"autocommit": True, **options})

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def start_redis(self) -> None:
        self.redis_port = free_port()
        self.run(program("redis-server", "valkey-server"), "--port", str(self.redis_port), "--save", "", "--dir", str(self.home), log="redis.log")
        until(lambda: _listens(self.redis_port))
        self.redis = redis.Redis(port=self.redis_port)

    def start_gearmand(self, port: int = 0) -> subprocess.Popen[bytes]:
        self.gearmand_port = port or free_port()
        found = self.run(program("gearmand"), "--listen=127.0.0.1", f"--port={self.gearmand_port}", "--log-file=stderr", log="gearmand.log")
        until(lambda: _listens(self.gearmand_port))
        return found

    def start_worker(self, tables: list[dict[str, Any]], **settings: Any) -> subprocess.Popen[bytes]:
        path = self.home / "worker.yml"
        path.write_text(yaml.safe_dump({
            "job_servers": [f"127.0.0.1:{self.gearmand_port or free_port()}"], "redis": {"port": self.redis_port},
            "mysql": {"user": "root", "unix_socket": self.socket}, "worker": settings, "tables": tables,
        }))
        return self.run(sys.executable, "-m", "gearsync", "run", "--config", str(path), log="worker.log")

    def start_pipeline(self) -> None:
        """MariaDB with the functions of udf/ that durable triggers need, Redis and gearmand."""
        plugins = self.home / "plugin"
        plugins.mkdir()
        subprocess.run(["make", "-s", "-C", ROOT / "udf", "all", f"BUILD_DIR={self.home}/build"], check=True, stdout=subprocess.DEVNULL)
        for library in (self.home / "build").glob("*.so"):
            shutil.copy(library, plugins)
        self.start_database(f"--plugin-dir={plugins}", "--skip-networking")
        self.start_redis()
        self.start_gearmand()
        self.sql(
            "USE mysql", "CREATE FUNCTION gman_wake RETURNS INTEGER SONAME 'libgearman_mysql_udf.so'",
            "CREATE FUNCTION gman_servers_set RETURNS STRING SONAME 'libgearman_mysql_udf.so'", f"SELECT gman_servers_set('127.0.0.1:{self.gearmand_port}')")

    def sync_table(self, **declaration: object) -> None:
        """Make a table's triggers with the collection's module."""
        arguments = {"ANSIBLE_MODULE_ARGS": {"login_user": "root", "login_unix_socket": self.socket, "config_file": "", **declaration}}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "ansible_collections.gearsync.mysql_redis.plugins.modules.sync_table"], input=json.dumps(arguments),
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(self.home)})
        if '"queries"' not in done.stdout or '"failed": true' in done.stdout:
            raise RuntimeError(done.stdout + done.stderr)

    def drained_by(self, leases: int) -> bool:
        """Whether so many shards have an owner."""
        return bool(self.sql("SELECT COUNT(*) FROM gearsync.lease WHERE owner IS NOT NULL")[0][0] >= leases)

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(timeout=60)
        self.processes.remove(process)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """An empty bench; what was started on it is stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="gearsync-bench-") as home:
        found = Bench(Path(home))
        try:
            yield found
        except BaseException:
            for log in Path(home).glob("*.log"):
                print(f"--- the end of {log.name}\n{log.read_text(errors='replace')[-2000:]}", file=sys.stderr)
            raise
        finally:
            for process in reversed(found.processes):
                process.terminate()
            for process in reversed(found.processes):
                process.wait(timeout=60)
