"""MySQL: one connection that is made again when it is needed, and one word for everything that means "later"."""

from __future__ import annotations

import contextlib
import select
import ssl
from collections.abc import Iterator
from typing import Any, Optional, Union

import pymysql
from pymysql.constants import CLIENT

from gearsync.declare.configuration import MySQLSettings
from gearsync.servers.mysql_errors import DatabaseUnavailable, RowsLocked, StatementRefused, classified


def _tls() -> ssl.SSLContext:
    """TLS to whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_TLS = _tls()


def _let_go(error: BaseException) -> None:
    """Take apart the cycle of a failed connection in PyMySQL, its socket, its TLS context and the frames between them: the collector comes too seldom."""
    original = getattr(error, "original_exception", None)
    for each in (error, original, error.__context__):
        if each is not None:
            each.__traceback__ = each.__context__ = None
    if original is not None:
        error.original_exception = None  # type: ignore[attr-defined]  # PyMySQL's


class _Connection(pymysql.connections.Connection):  # type: ignore[misc]  # PyMySQL has no types
    """PyMySQL's, which reads the machine's authorities for each connection to a server that may have TLS, and then asks none of them."""

    def _create_ssl_ctx(self, sslp: Any) -> ssl.SSLContext:
        return _TLS


class Database:
    """One session: READ COMMITTED, UTC, autocommit, values as bytes."""

    def __init__(self, settings: MySQLSettings, timeout: float, idle: float = 30.0) -> None:
        """``timeout`` bounds connecting and every answer; after ``idle`` seconds without a word the server ends the session. Connects at the first use."""
        self.name = settings.unix_socket or f"{settings.host}:{settings.port}"
        self._settings = settings
        self._timeout = timeout
        self._idle = max(2, int(idle))
        self._connection: Any = None
        #: How many sessions there were: in another one the server may be another one.
        self.sessions = 0

    @property
    def connection(self) -> Any:
        """The connection, connected. Raises DatabaseUnavailable."""
        if self._connection is None:
            settings = self._settings
            try:
                self._connection = _Connection(
                    host=settings.host, port=settings.port, unix_socket=settings.unix_socket, user=settings.user, password=settings.password,
                    charset="utf8mb4", use_unicode=False, conv=pymysql.converters.encoders.copy(), autocommit=True,
                    client_flag=CLIENT.FOUND_ROWS | CLIENT.MULTI_STATEMENTS,
                    # A socket of this host needs no TLS, for which each connection reads the machine's authorities.
                    ssl_disabled=bool(settings.unix_socket),
                    connect_timeout=max(1, int(self._timeout)), read_timeout=self._timeout, write_timeout=self._timeout,
                    # What waits for a lock is tried again. The idle limit: a process that was paused inside a transaction must not hold its locks for long.
                    init_command="SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_TRANS_TABLES',"
                    f" innodb_lock_wait_timeout = 2, lock_wait_timeout = 2, wait_timeout = {self._idle}",
                )
                self._connection.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                self.sessions += 1
            except (pymysql.MySQLError, OSError) as error:
                self.close()
                found = classified(error)
                _let_go(error)
            else:
                return self._connection
            try:
                raise found
            finally:
                # Its traceback has this frame.
                del found
        return self._connection

    def run(self, sql: Union[str, bytes], arguments: Any = None) -> int:
        """Execute one statement; how many rows it found. Raises DatabaseUnavailable."""
        return int(self._execute(sql, arguments).rowcount)

    def run_each(self, *statements: str) -> list[int]:
        """Execute statements in one round trip; how many rows each of them found. Raises DatabaseUnavailable; those before the one that failed are done."""
        cursor = self._execute("; ".join(statements), None)
        found = [int(cursor.rowcount)]
        with self._heard_out():
            while cursor.nextset():
                found.append(int(cursor.rowcount))
        return found

    def rows_of_each(self, *selects: str) -> list[list[tuple[Any, ...]]]:
        """The rows of several SELECTs, in one round trip. Raises DatabaseUnavailable."""
        cursor = self._execute("; ".join(selects), None)
        found = [list(cursor.fetchall())]
        with self._heard_out():
            while cursor.nextset():
                found.append(list(cursor.fetchall()))
        return found

    def rows(self, sql: Union[str, bytes], arguments: Any = None) -> list[tuple[Any, ...]]:
        """The rows of one SELECT. Raises DatabaseUnavailable."""
        return list(self._execute(sql, arguments).fetchall())

    def rows_within(self, sql: Union[str, bytes], most: int) -> tuple[list[tuple[Any, ...]], bool]:
        """The first rows of one SELECT, until they hold ``most`` bytes, at least one; whether others were left. Raises DatabaseUnavailable."""
        cursor = self.connection.cursor(pymysql.cursors.SSCursor)
        found: list[tuple[Any, ...]] = []
        try:
            cursor.execute(sql)
            while most > 0 and (row := cursor.fetchone()) is not None:
                found.append(row)
                most -= sum([len(value) for value in row if value is not None])
            cut = most <= 0 and cursor.fetchone() is not None
            # What is left is read and thrown away.
            cursor.close()
        except BaseException as error:
            # The rest would be looked for on a connection that is closed.
            if cursor._result is not None:
                cursor._result.unbuffered_active = False
            if isinstance(error, (pymysql.MySQLError, OSError)):
                raise self.failed(error) from None
            self.close()
            raise
        return found, cut

    def now(self) -> float:
        """The server's clock, in seconds since 1970. Raises DatabaseUnavailable."""
        ((moment,),) = self.rows("SELECT UNIX_TIMESTAMP(NOW(6))")
        return float(moment)

    def named_rows(self, sql: str) -> list[dict[bytes, Any]]:
        """The rows of one SELECT or SHOW by the names of its columns. Raises DatabaseUnavailable."""
        cursor = self._execute(sql, None)
        names = [column[0] if isinstance(column[0], bytes) else column[0].encode() for column in cursor.description or ()]
        return [dict(zip(names, row)) for row in cursor.fetchall()]

    def _execute(self, sql: Union[str, bytes], arguments: Any) -> Any:
        cursor = self.connection.cursor()
        with self._heard_out():
            cursor.execute(sql, arguments)
        return cursor

    @contextlib.contextmanager
    def _heard_out(self) -> Iterator[None]:
        """Around a question and its answer. Raises DatabaseUnavailable."""
        try:
            yield
        except (pymysql.MySQLError, OSError) as error:
            raise self.failed(error) from None
        except BaseException:
            # Interrupted between a question and its answer, by a signal for example: the next answer would be the wrong one.
            self.close()
            raise

    def failed(self, error: Exception) -> DatabaseUnavailable:
        """The error as everybody here knows it; the connection is closed, unless only the statement was wrong, or a value in it, or a row was locked."""
        found = classified(error)
        # A resync that meets a locked row keeps its session, and with it the lock that tells others of it.
        if not isinstance(found, (StatementRefused, RowsLocked)):
            self.close()
        return found

    @contextlib.contextmanager
    def transaction(self, *first: str) -> Iterator[list[int]]:
        """All or nothing: rolled back by every exception, which goes on; committed otherwise. Raises DatabaseUnavailable, also when nobody knows.

        ``first`` are statements that change rows: it begins with them, in one round trip. Yields how many rows each of them has found.
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
        """Everything that is read is of one moment. Raises DatabaseUnavailable."""
        self.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with self.transaction():
            yield

    def drop_closed(self) -> None:
        """Let go of a connection that the server has ended for its idleness; not within a transaction, and not where the session holds a lock."""
        if self._connection is not None:
            readable = select.poll()
            readable.register(self._connection._sock, select.POLLIN)
            if readable.poll(0):
                self.close()

    def close(self) -> None:
        """Close the connection; a transaction that is open is rolled back by the server."""
        connection: Optional[Any] = self._connection
        self._connection = None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.close()
