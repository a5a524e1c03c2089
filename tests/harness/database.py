# SPDX-License-Identifier: GPL-3.0-or-later
"""A private MariaDB or MySQL."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pymysql

from harness.places import kept, scratch
from harness.ports import free_port
from harness.server import Server

#: Sizes that a copied data directory and its server must agree on.
SIZES = {
    "mariadb": ["--innodb-log-file-size=32M"],
    "mysql": ["--innodb-redo-log-capacity=64M"],
}
#: No TLS at all; MySQL makes certificates of its own otherwise.
WITHOUT_TLS = {"mariadb": ["--skip-ssl"], "mysql": ["--tls-version="]}
# Summer time matters for TIMESTAMP columns, and the servers need no time zone tables for their own zone.
ZONE = "Europe/Berlin"


def server_program() -> tuple[str, str]:
    """The server that this machine has, MariaDB before MySQL, as (engine, path of the program).
    GEARSYNC_SERVER is the path of another one.
    """
    if named := os.environ.get("GEARSYNC_SERVER"):
        # MariaDB has a mysqld too, which is a link.
        return "mariadb" if Path(named).resolve().name.startswith("maria") else "mysql", named
    path = os.environ["PATH"] + ":/usr/sbin:/usr/libexec"
    for engine, name in (("mariadb", "mariadbd"), ("mysql", "mysqld")):
        if program := shutil.which(name, path=path):
            return engine, program
    raise AssertionError("neither mariadbd nor mysqld is installed: tests/setup test")


def account() -> str:
    """The user that the servers run as: the caller."""
    return pwd.getpwuid(os.getuid()).pw_name


def initial_data() -> Path:
    """A data directory as the server's own program makes it, made once for each version of the server and
    never started.

    Copying it takes a tenth of a second, making it several.
    """
    engine, program = server_program()
    version = subprocess.run(
        [program, "--no-defaults", "--version"], check=True, capture_output=True, text=True
    ).stdout
    name = hashlib.sha256(repr((version, SIZES, account())).encode()).hexdigest()[:16]
    home = kept("data")
    made = home / f"{engine}-{name}"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.is_dir():
            return made
        unfinished = made.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        places = [f"--datadir={unfinished}", f"--tmpdir={home}", f"--user={account()}", *SIZES[engine]]
        command = (
            [
                "mariadb-install-db",
                "--no-defaults",
                *places,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ]
            if engine == "mariadb"
            else [program, "--no-defaults", "--initialize-insecure", *places]
        )
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert done.returncode == 0, done.stdout
        # The identity of a server is made at its first start.
        (unfinished / "auto.cnf").unlink(missing_ok=True)
        unfinished.rename(made)
    return made


class DatabaseServer(Server):
    """A server with data, a socket and a port of its own, which it keeps over stops and starts. root has no
    password.

    It keeps its data when it is killed. ``options`` come after, and so before, those of this class.
    """

    ends_by = signal.SIGTERM

    def __init__(self, *options: str, env: dict[str, str] | None = None) -> None:
        self.engine, program = server_program()
        directory = scratch("database")
        self.socket = str(directory / "socket")
        self.port = free_port()
        self.plugin_dir = directory / "plugin"
        self.plugin_dir.mkdir()
        subprocess.run(
            ["cp", "--archive", "--reflink=auto", "--sparse=always", initial_data(), directory / "data"],
            check=True,
        )
        super().__init__(
            self.engine,
            [
                program,
                "--no-defaults",
                f"--user={account()}",
                f"--datadir={directory / 'data'}",
                # A MariaDB that starts removes the temporary tables that it finds in /tmp, those of another
                # one too.
                f"--tmpdir={directory}",
                f"--socket={self.socket}",
                "--bind-address=127.0.0.1",
                f"--port={self.port}",
                f"--plugin-dir={self.plugin_dir}",
                f"--pid-file={directory / 'pid'}",
                "--character-set-server=utf8mb4",
                "--max-allowed-packet=64M",
                "--innodb-buffer-pool-size=64M",
                *SIZES[self.engine],
                # As a primary, which has its triggers' changes in the binary log. A killed server loses
                # nothing of what it wrote to a file.
                "--server-id=1",
                "--log-bin=binlog",
                "--binlog-format=ROW",
                "--sync-binlog=0",
                "--innodb-flush-log-at-trx-commit=2",
                *(["--mysqlx=OFF", "--secure-file-priv=NULL"] if self.engine == "mysql" else []),
                *options,
            ],
            directory,
            env={"TZ": ZONE, **(env or {})},
        )

    def answers(self) -> bool:
        """Whether root can connect."""
        try:
            self.connect().close()
        except pymysql.MySQLError:
            return False
        return True

    def connect(self, **options: Any) -> Any:
        """A connection of root's, with autocommit unless ``options`` say otherwise."""
        # With TLS it would read the machine's authorities each time, which takes longer than most statements.
        login = {
            "unix_socket": self.socket,
            "user": "root",
            "charset": "utf8mb4",
            "autocommit": True,
            "ssl_disabled": True,
        }
        connection = pymysql.connect(defer_connect=True, **{**login, **options})
        # PyMySQL leaves the socket of a failed attempt of its own to the garbage collection, which the tests
        # take for an error.
        plain = socket.socket(socket.AF_UNIX)
        try:
            plain.connect(self.socket)
            connection.connect(plain)
        except BaseException as error:
            plain.close()
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

    def take_renewed_certificates(self) -> None:
        """Read the files of TLS again."""
        self.execute("FLUSH SSL" if self.engine == "mariadb" else "ALTER INSTANCE RELOAD TLS")

    @property
    def login(self) -> dict[str, str]:
        """The options by which a module of the collection logs in."""
        return {"login_unix_socket": self.socket, "login_user": "root", "config_file": "/nonexistent"}
