# SPDX-License-Identifier: GPL-2.0-or-later
"""The database server with both libraries that their tests start, and a connection to it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pymysql
from harness.database import DatabaseServer
from pymysql.constants import CLIENT
from sanitized import BUILD, SANITIZED

HOST = os.environ.get("UDF_TEST_HOST", "127.0.0.1")
UDF = Path(__file__).resolve().parent.parent


def sanitizers() -> dict[str, str]:
    """The environment of a server that can load the libraries with the sanitizers."""
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    # A finding ends the server. What the server itself never frees, or does on purpose, is not ours.
    options = "detect_leaks=0:abort_on_error=1:detect_odr_violation=0"
    return {"LD_PRELOAD": runtime, "ASAN_OPTIONS": options, "UBSAN_OPTIONS": "print_stacktrace=1"}


class Database(DatabaseServer):
    """A private server with both libraries in its plugin directory, with UDF_TEST_SANITIZED those that are
    built with the sanitizers.
    """

    def __init__(self, *options: str) -> None:
        build, env = (SANITIZED, sanitizers()) if os.environ.get("UDF_TEST_SANITIZED") else (BUILD, {})
        super().__init__("--max-connections=200", "--skip-log-bin", *options, env=env)
        for name in ("libgearman_mysql_udf.so", "lib_mysqludf_json.so"):
            shutil.copy(build / name, self.plugin_dir)

    def connect(self, **options: object) -> pymysql.connections.Connection:
        return super().connect(client_flag=CLIENT.MULTI_STATEMENTS, **options)

    def alive(self) -> bool:
        return self.running

    def descriptors(self) -> int:
        """Without the server's data files, which it opens and closes at any time."""
        count = 0
        for one in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                count += not os.readlink(one).startswith(str(self.directory))
        return count

    def maps(self, library: str) -> bool:
        return library in Path(f"/proc/{self.process.pid}/maps").read_text()


class OtherDatabase:
    """A server that runs elsewhere and has both libraries in its plugin directory:
    UDF_TEST_SERVER=user:password@host:port.

    The tests' job servers then listen on UDF_TEST_HOST, an address of this machine that it can reach. Its
    process cannot be looked into, so the number of its connections to a job server stands in for that of its
    descriptors.
    """

    def __init__(self, where: str) -> None:
        account, _, address = where.rpartition("@")
        self.user, _, self.password = account.partition(":")
        self.host, _, self.port = address.partition(":")
        self.began = time.monotonic()

    def connect(self) -> pymysql.connections.Connection:
        return pymysql.connect(
            host=self.host,
            port=int(self.port),
            user=self.user,
            password=self.password,
            charset="utf8mb4",
            autocommit=True,
            client_flag=CLIENT.MULTI_STATEMENTS,
        )

    def alive(self) -> bool:
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Uptime'")
            return int(cursor.fetchall()[0][1]) >= int(time.monotonic() - self.began)  # else it has restarted

    def descriptors(self) -> int:
        listing = subprocess.run(
            ["ss", "-Htn", "state", "established", "dst", self.host],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return sum(1 for line in listing.splitlines() if not line.endswith(f":{self.port} "))

    def maps(self, library: str) -> bool:
        return False

    def remove(self) -> None:
        pass


class Session:
    """A connection whose results are plain values: text in place of bytes."""

    def __init__(self, database: Database | OtherDatabase) -> None:
        self.connection = database.connect()

    def all(self, sql: str, *values: object) -> list[tuple]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            rows = list(cursor.fetchall())
            while cursor.nextset():
                rows = list(cursor.fetchall()) or rows
            return [tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in rows]

    def one(self, sql: str, *values: object) -> object:
        return self.all(sql, *values)[0][0]

    def row(self, sql: str, *values: object) -> tuple:
        return self.all(sql, *values)[0]


def statements(file: str) -> list[str]:
    """Those of install.sql or uninstall.sql."""
    text = re.sub(r"^--.*$", "", (UDF / file).read_text(), flags=re.MULTILINE)
    return [one.strip() for one in text.split(";") if one.strip()]
