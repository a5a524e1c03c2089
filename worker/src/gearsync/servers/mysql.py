# SPDX-License-Identifier: GPL-3.0-or-later
"""A session with MySQL that connects when it is needed, and raises DatabaseUnavailable for every error."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import time
from collections.abc import Iterator, Mapping
from typing import Any, Optional, Union

import pymysql
from pymysql.constants import CLIENT, ER

from gearsync.declare.configuration import Member, MySQLSettings
from gearsync.declare.tls import tls_settings
from gearsync.servers.hops import Hop
from gearsync.servers.mysql_connection import Connection
from gearsync.servers.mysql_errors import (
    DatabaseUnavailable,
    RowsLocked,
    StatementRefused,
    classified,
)


def _break_cycle(error: BaseException) -> None:
    """Break the reference cycle of a failed connection in PyMySQL (socket, TLS context, frames): the
    collector runs too seldom.
    """
    original = getattr(error, "original_exception", None)
    for each in (error, original, error.__context__):
        if each is not None:
            each.__traceback__ = each.__context__ = None
    if original is not None:
        error.original_exception = None  # type: ignore[attr-defined]  # PyMySQL's


class Choice:
    """Which member a session is opened with."""

    def choose(self) -> Member:
        """The member. Raises DatabaseUnavailable."""
        raise NotImplementedError

    def doubt(self) -> None:
        """A session has ended, or its server takes no writes: another member may be the primary by now."""


class Only(Choice):
    """One member, whatever its state."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def choose(self) -> Member:
        return self._member


#: Seconds for connecting, and for each step of a login, where there are other members.
_QUICK = 1.0
#: What makes a server read-only; the last two are one, by the names that different servers give it.
_READ_ONLY = ("read_only", "innodb_read_only", "tx_read_only", "transaction_read_only")
#: What identifies a server. MariaDB has no server_uuid.
_IDENTITY = ("server_uuid", "hostname", "port", "server_id", "datadir")


def _is_off(value: bytes) -> bool:
    return value in (b"0", b"OFF")


def identity_of(variables: Mapping[str, bytes]) -> str:
    """A text that identifies the server with these variables, whatever its address. Pure."""
    if uuid := variables.get("server_uuid"):
        return uuid.decode()
    values = b" ".join(variables.get(name, b"") for name in _IDENTITY[1:])
    return hashlib.sha256(values).hexdigest()[:32]


class Database:
    """One session: READ COMMITTED, UTC, autocommit, values as bytes."""

    def __init__(
        self,
        settings: MySQLSettings,
        timeout: float,
        idle: float = 30.0,
        choice: Optional[Choice] = None,
        any_state: bool = False,
    ) -> None:
        """``timeout`` bounds connecting and each answer, in seconds; after ``idle`` seconds the server ends
        an idle session. ``choice`` is needed for several members.

        A server that is read-only is unavailable, unless ``any_state`` allows it. Connects at the first use.
        """
        members = settings.servers
        self.name = ", ".join(member.name for member in members)
        self._settings = settings
        self._choice = choice or Only(members[0])
        self._timeout = timeout
        self._login_timeout = min(timeout, _QUICK) if len(members) > 1 else timeout
        self._idle = max(2, int(idle))
        self._any_state = any_state
        self._connection: Any = None
        #: The number of sessions so far: a new session may be with another server.
        self.sessions = 0
        #: The member of the last session, what identifies its server, and whether that is read-only.
        self.member = members[0]
        self.server = ""
        self.is_read_only = False
        #: Since when an answer is waited for, by the monotonic clock; 0 when none is.
        self.busy_since = 0.0

    @property
    def connection(self) -> Any:
        """The connection, connected. Raises DatabaseUnavailable."""
        if self._connection is None:
            member = self._choice.choose()
            try:
                self._open(member)
            except (pymysql.MySQLError, OSError) as error:
                self.close()
                self._choice.doubt()
                unavailable = classified(error)
                _break_cycle(error)
            else:
                return self._connection
            try:
                raise unavailable
            finally:
                # Its traceback refers to this frame.
                del unavailable
        return self._connection

    def _open(self, member: Member) -> None:
        """Raises MySQLError and OSError."""
        self._connection = Connection(
            tls_settings(self._settings.tls),
            host=member.host,
            port=member.port,
            unix_socket=member.unix_socket,
            user=self._settings.user,
            password=self._settings.password,
            charset="utf8mb4",
            use_unicode=False,
            conv=pymysql.converters.encoders.copy(),
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
            connect_timeout=max(1, int(self._login_timeout)),
            read_timeout=self._login_timeout,
            write_timeout=self._login_timeout,
            # A statement that waits for a lock fails soon and is retried. The idle limit bounds how
            # long a process that was paused inside a transaction holds its locks.
            init_command="SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_TRANS_TABLES',"
            f" innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = {self._idle}",
        )
        cursor = self._connection.cursor()
        names = ", ".join(f"'{name}'" for name in (*_READ_ONLY, *_IDENTITY))
        cursor.execute(
            "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; "
            f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})"
        )
        cursor.nextset()
        variables = {name.decode(): value for name, value in cursor.fetchall()}
        states = [name for name in _READ_ONLY if name in variables]
        self._state_sql = f"CONCAT_WS(' ', {', '.join(f'@@global.{name}' for name in states)})"
        self.member, self.server = member, identity_of(variables)
        self._note_state([variables[name] for name in states])
        self._connection._read_timeout = self._connection._write_timeout = self._timeout
        self.sessions += 1

    @property
    def hop(self) -> Hop:
        """How the way to the server is protected. Raises DatabaseUnavailable."""
        return self.connection.hop  # type: ignore[no-any-return]  # PyMySQL has no types

    def _note_state(self, values: list[bytes]) -> None:
        """Raises OperationalError for a server that is read-only, unless any state is allowed."""
        self.is_read_only = not all(map(_is_off, values))
        if self.is_read_only and not self._any_state:
            raise pymysql.err.OperationalError(
                ER.OPTION_PREVENTS_STATEMENT, f"{self.member.name} is read-only"
            )

    def run(self, sql: Union[str, bytes], arguments: Any = None) -> int:
        """Execute one statement. Returns how many rows it matched. Raises DatabaseUnavailable."""
        return int(self._execute(sql, arguments).rowcount)

    def run_each(self, *statements: str) -> list[int]:
        """Execute statements in one round trip. Returns how many rows each of them matched.

        Raises DatabaseUnavailable; the statements before the one that failed are executed.
        """
        cursor = self._execute("; ".join(statements), None)
        counts = [int(cursor.rowcount)]
        with self._failing_as_unavailable():
            while cursor.nextset():
                counts.append(int(cursor.rowcount))
        return counts

    def commit_each(self, *statements: str) -> list[int]:
        """Execute statements as one transaction, in one round trip. Returns how many rows each of them
        matched.

        Raises DatabaseUnavailable; then either all are committed or none is.
        """
        try:
            return self.run_each("START TRANSACTION", *statements, "COMMIT")[1:-1]
        except DatabaseUnavailable:
            # A statement that waited for a lock in vain leaves the transaction open.
            if self._connection is not None:
                with contextlib.suppress(DatabaseUnavailable):
                    self.run("ROLLBACK")
            raise

    def rows_of_each(self, *selects: str) -> list[list[tuple[Any, ...]]]:
        """The rows of several SELECTs, in one round trip. Raises DatabaseUnavailable."""
        cursor = self._execute("; ".join(selects), None)
        results = [list(cursor.fetchall())]
        with self._failing_as_unavailable():
            while cursor.nextset():
                results.append(list(cursor.fetchall()))
        return results

    def rows(self, sql: Union[str, bytes], arguments: Any = None) -> list[tuple[Any, ...]]:
        """The rows of one SELECT. Raises DatabaseUnavailable."""
        return list(self._execute(sql, arguments).fetchall())

    def rows_within(self, sql: Union[str, bytes], most: int) -> tuple[list[tuple[Any, ...]], bool]:
        """The first rows of one SELECT, at least one, until they hold ``most`` bytes; and whether rows were
        left out.

        Raises DatabaseUnavailable.
        """
        cursor = self.connection.cursor(pymysql.cursors.SSCursor)
        rows: list[tuple[Any, ...]] = []
        self.busy_since = time.monotonic()
        try:
            cursor.execute(sql)
            while most > 0 and (row := cursor.fetchone()) is not None:
                rows.append(row)
                most -= sum([len(value) for value in row if value is not None])
            cut = most <= 0 and cursor.fetchone() is not None
            # Reads and discards the rest of the result.
            cursor.close()
        except BaseException as error:
            # Otherwise PyMySQL would read the rest of the result from a closed connection.
            if cursor._result is not None:
                cursor._result.unbuffered_active = False
            if isinstance(error, (pymysql.MySQLError, OSError)):
                raise self.failed(error) from None
            self.close()
            raise
        finally:
            self.busy_since = 0.0
        return rows, cut

    def now(self) -> float:
        """The server's clock, in seconds since 1970. Raises DatabaseUnavailable, also for a server that is
        read-only by now: it may be a replica, on which SELECTs still work.
        """
        # The name of the last variable is known when it is connected.
        cursor = self.connection.cursor()
        with self._failing_as_unavailable():
            cursor.execute(f"SELECT UNIX_TIMESTAMP(NOW(6)), {self._state_sql}")
            ((moment, states),) = cursor.fetchall()
            self._note_state(states.split())
        return float(moment)

    def named_rows(self, sql: str) -> list[dict[bytes, Any]]:
        """The rows of one SELECT or SHOW by the names of its columns. Raises DatabaseUnavailable."""
        cursor = self._execute(sql, None)
        names = [
            column[0] if isinstance(column[0], bytes) else column[0].encode()
            for column in cursor.description or ()
        ]
        return [dict(zip(names, row)) for row in cursor.fetchall()]

    def _execute(self, sql: Union[str, bytes], arguments: Any) -> Any:
        cursor = self.connection.cursor()
        with self._failing_as_unavailable():
            cursor.execute(sql, arguments)
        return cursor

    @contextlib.contextmanager
    def _failing_as_unavailable(self) -> Iterator[None]:
        """For a statement and its answer: raises DatabaseUnavailable for errors of the driver."""
        self.busy_since = time.monotonic()
        try:
            yield
        except (pymysql.MySQLError, OSError) as error:
            raise self.failed(error) from None
        except BaseException:
            # Interrupted between a statement and its answer, for example by a signal: the next statement
            # would read this answer.
            self.close()
            raise
        finally:
            self.busy_since = 0.0

    def failed(self, error: Exception) -> DatabaseUnavailable:
        """The driver's ``error`` as DatabaseUnavailable. Closes the connection, unless the statement was
        refused or a row was locked.
        """
        unavailable = classified(error)
        # A resync that finds a locked row keeps its session, and with it the named lock that keeps other
        # resyncs out.
        if not isinstance(unavailable, (StatementRefused, RowsLocked)):
            self.close()
            self._choice.doubt()
        return unavailable

    @contextlib.contextmanager
    def transaction(self, *first: str) -> Iterator[list[int]]:
        """A transaction: rolled back by every exception, which is raised again; committed otherwise.

        ``first`` are statements that change rows and run in the same round trip as its start. Yields how many
        rows each of them matched. Raises DatabaseUnavailable, also when it is unknown whether the transaction
        is committed.
        """
        try:
            yield self.run_each("START TRANSACTION", *first)[1:]
        except BaseException:
            if self._connection is not None:
                with contextlib.suppress(DatabaseUnavailable):
                    self.run("ROLLBACK")
            raise
        self.run("COMMIT")

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[None]:
        """A transaction that reads everything from one snapshot. Raises DatabaseUnavailable."""
        self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with self.transaction():
            yield

    def drop_closed(self) -> None:
        """Close a connection that the server has ended because it was idle. Not to be called within a
        transaction, or while the session holds a lock.
        """
        if self._connection is not None:
            readable = select.poll()
            readable.register(self._connection._sock, select.POLLIN)
            if readable.poll(0):
                self.close()

    def interrupt(self) -> None:
        """End the connection from another thread: who waits for an answer fails at once."""
        # The other thread may close its socket, and the number may become another file's.
        with (
            contextlib.suppress(AttributeError, OSError, ValueError),
            socket.socket(fileno=os.dup(self._connection._sock.fileno())) as duplicate,
        ):
            duplicate.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the server rolls back an open transaction."""
        connection: Optional[Any] = self._connection
        self._connection = None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
