"""Real servers for the tests: a gearmand, a Redis and a database of their own, and the worker as a process."""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
import redis
import yaml
from hypothesis import settings

# A machine that is busy is no mistake.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")

SOURCES = pathlib.Path(__file__).resolve().parent.parent / "src"
SUBMIT_JOB, SUBMIT_JOB_BG, JOB_CREATED, WORK_COMPLETE, WORK_DATA = 7, 18, 8, 13, 28


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(what: Callable[[], Any], wanted: Any = True, seconds: float = 30.0) -> None:
    """Wait until ``what()`` equals ``wanted``."""
    deadline = time.monotonic() + seconds
    while (answer := what()) != wanted:
        assert time.monotonic() < deadline, f"after {seconds} s still {answer!r}, wanted {wanted!r}"
        time.sleep(0.02)


class Server:
    """A server process that a test can stop, kill and start again on the same port."""

    def __init__(self, command: list[str], port: int) -> None:
        self.command = command
        self.port = port
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=20)


class Gearmand(Server):
    """A job server, with the client side of the protocol."""

    def __init__(self) -> None:
        port = free_port()
        program = shutil.which("gearmand", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        assert program, "gearmand is not installed: tests/setup test"
        super().__init__([program, "--listen=127.0.0.1", f"--port={port}", "--log-file=stderr"], port)

    def _packets(self, kind: int, function: str, payloads: list[bytes]) -> bytes:
        bodies = [b"\0".join([function.encode(), b"", payload]) for payload in payloads]
        return b"".join(struct.pack("!4sII", b"\0REQ", kind, len(body)) + body for body in bodies)

    @staticmethod
    def _answer(client: socket.socket) -> tuple[int, bytes]:
        def exactly(size: int) -> bytes:
            data = b""
            while len(data) < size:
                more = client.recv(size - len(data))
                assert more, "gearmand closed the connection"
                data += more
            return data

        _magic, kind, size = struct.unpack("!4sII", exactly(12))
        return kind, exactly(size)

    def submit(self, function: str, *payloads: bytes) -> list[bytes]:
        """Queue background jobs; their handles."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(self._packets(SUBMIT_JOB_BG, function, list(payloads)))
            answers = [self._answer(client) for _ in payloads]
        assert {kind for kind, _ in answers} == {JOB_CREATED}
        return [handle for _, handle in answers]

    def do(self, function: str, payload: bytes) -> list[tuple[int, bytes]]:
        """Run a foreground job; the kind and the data of each packet about it, the last being WORK_COMPLETE."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(self._packets(SUBMIT_JOB, function, [payload]))
            found = []
            while not found or found[-1][0] != WORK_COMPLETE:
                kind, body = self._answer(client)
                found.append((kind, body.partition(b"\0")[2]))
            return found

    def queue(self, function: str) -> tuple[int, int, int]:
        """Jobs in all, jobs running, workers."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(b"status\n")
            text = b""
            while not text.endswith(b".\n"):
                text += client.recv(65536)
        rows = {row.split("\t")[0]: row.split("\t")[1:] for row in text.decode().splitlines()[:-1]}
        return tuple(int(number) for number in rows.get(function, ("0", "0", "0")))  # type: ignore[return-value]  # always three


class Redis(Server):
    """A Redis that survives being killed."""

    def __init__(self, directory: pathlib.Path) -> None:
        port = free_port()
        self.client = redis.Redis(port=port, socket_timeout=20)
        super().__init__(["redis-server", "--port", str(port), "--dir", str(directory), "--appendonly", "yes", "--appendfsync", "always"], port)

    def _listens(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class Worker:
    """The worker under test, as systemd would start it."""

    def __init__(self, config: dict[str, Any], directory: pathlib.Path, environment: dict[str, str] | None = None) -> None:
        self.config = directory / "worker.yml"
        self.config.write_text(yaml.safe_dump(config))
        self.log = directory / "worker.log"
        self.environment = {**os.environ, "PYTHONPATH": str(SOURCES), **(environment or {})}
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gearsync", "run", "--config", str(self.config)], stderr=log, env=self.environment, start_new_session=True
            )

    def kill(self) -> None:
        """Kill -9, all processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=20)

    def terminate(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=30)


@pytest.fixture
def gearmand() -> Iterator[Gearmand]:
    server = Gearmand()
    yield server
    server.stop()


@pytest.fixture
def redis_server(tmp_path: pathlib.Path) -> Iterator[Redis]:
    server = Redis(tmp_path)
    yield server
    server.client.close()
    server.stop()


@pytest.fixture
def start_worker(tmp_path: pathlib.Path) -> Iterator[Callable[..., Worker]]:
    """A function that starts a worker; all of them are killed at the end."""
    started: list[Worker] = []

    def start(config: dict[str, Any], environment: dict[str, str] | None = None) -> Worker:
        directory = tmp_path / f"worker{len(started)}"
        directory.mkdir()
        started.append(Worker(config, directory, environment))
        return started[-1]

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


class Database:
    """A private MariaDB or MySQL, whichever this machine has, with the schema as the collection makes it."""

    def __init__(self, directory: pathlib.Path) -> None:
        path = os.environ["PATH"] + ":/usr/sbin"
        self.socket = str(directory / "socket")
        self.log = directory / "log"
        mariadb = shutil.which("mariadbd", path=path)
        program = mariadb or shutil.which("mysqld", path=path)
        assert program, "neither mariadbd nor mysqld is installed: tests/setup test"
        if mariadb:
            make = ["mariadb-install-db", "--no-defaults", f"--datadir={directory / 'data'}", "--auth-root-authentication-method=normal", "--skip-test-db"]
        else:
            make = [program, "--no-defaults", "--initialize-insecure", f"--datadir={directory / 'data'}"]
        # A MariaDB that starts removes the temporary tables that it finds in /tmp, those of another one too.
        user = [f"--tmpdir={directory}", *(["--user=root"] if os.geteuid() == 0 else [])]
        made = subprocess.run(make + user, check=False, capture_output=True, text=True)
        assert made.returncode == 0, made.stdout + made.stderr
        self.command = [
            program, "--no-defaults", *user, f"--datadir={directory / 'data'}", f"--socket={self.socket}", "--skip-networking",
            f"--pid-file={directory / 'pid'}", "--innodb-buffer-pool-size=64M", "--max-allowed-packet=64M", "--character-set-server=utf8mb4",
            *([] if mariadb else ["--mysqlx=OFF", "--secure-file-priv=NULL"]),
        ]
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        until(self._answers, seconds=60)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-3000:]
        try:
            self.connect().close()
        except pymysql.MySQLError:
            return False
        return True

    def stop(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(timeout=60)

    def connect(self, **options: Any) -> Any:
        connection = pymysql.connect(unix_socket=self.socket, user="root", charset="utf8mb4", defer_connect=True, **{"autocommit": True, **options})
        # PyMySQL leaves the socket of a failed attempt of its own to the garbage collection, which the tests take for an error.
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(self.socket)
            connection.connect(found)
        except BaseException as error:
            found.close()
            if isinstance(error, OSError):
                raise pymysql.err.OperationalError(2003, "the server is down") from error
            raise
        return connection

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        with self.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall())

    def reset(self) -> None:
        """Nothing but the collection's empty schema, with one shard, and an empty schema `shop`."""
        self.execute("DROP DATABASE IF EXISTS gearsync", "DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop", *collection("_outbox").migration_statements(0))

    def put(self, *changes: tuple[Any, ...], shard: int = 0, table: str = "shop.item") -> None:
        """Put changes into the outbox in one transaction: (operation, payload) each."""
        with self.connect() as connection, connection.cursor() as cursor:
            connection.begin()
            for operation, payload in changes:
                text = payload if isinstance(payload, (str, bytes)) else json.dumps(payload)
                cursor.execute("INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (%s, %s, %s, %s)", (shard, table, operation, text))
            connection.commit()

    @property
    def waiting(self) -> int:
        ((number,),) = self.execute("SELECT COUNT(*) FROM gearsync.outbox")
        return int(number)


def collection(name: str) -> Any:
    """A module of the collection's module_utils: what it does to a server is what the worker must live with."""
    home = pathlib.Path(tempfile.gettempdir()) / f"gearsync-collection-{os.getpid()}"
    if str(home) not in sys.path:
        (home / "ansible_collections/gearsync").mkdir(parents=True)
        (home / "ansible_collections/gearsync/mysql_redis").symlink_to(SOURCES.parent.parent)
        atexit.register(shutil.rmtree, home)
        sys.path.insert(0, str(home))
    return importlib.import_module(f"ansible_collections.gearsync.mysql_redis.plugins.module_utils.{name}")


@pytest.fixture(scope="session")
def mysqld(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    server = Database(tmp_path_factory.mktemp("mysql"))
    yield server
    server.stop()


@pytest.fixture
def database(mysqld: Database) -> Database:
    """The database server, running, with an empty outbox."""
    if mysqld.process.poll() is not None:
        mysqld.start()
    mysqld.reset()
    return mysqld
