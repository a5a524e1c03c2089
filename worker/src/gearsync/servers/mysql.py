"""MySQL: one connection that is made again when it is needed, and one word for everything that means "later"."""

from __future__ import annotations

import contextlib
import re
import select
import ssl
from collections.abc import Iterator
from typing import Any, Optional, Union

import pymysql
from pymysql.constants import CLIENT, ER

from gearsync.declare.configuration import MySQLSettings

#: The schema of the durable delivery.

#: The schema or one of its tables is not there (yet).
_ABSENT = (ER.BAD_DB_ERROR, ER.NO_SUCH_TABLE)
#: A lock could not be had: at once (MySQL's NOWAIT), in time (and MariaDB's NOWAIT), or not at all.
_LOCKED = (3572, ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK)
#: A statement that will fail in the same way the next time, whatever the server's state. NO_DB_ERROR is MySQL's word for a function that is not there:
#: it looks for one in the session's schema, and there is none.
_STATEMENT = (ER.BAD_FIELD_ERROR, ER.NO_SUCH_TABLE, ER.PARSE_ERROR, ER.BAD_DB_ERROR, ER.SP_DOES_NOT_EXIST, ER.NO_DB_ERROR)
#: The account may not; somebody can mend that.
_DENIED = (ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.ACCESS_DENIED_ERROR, ER.SPECIFIC_ACCESS_DENIED_ERROR)
#: What the server cannot do at the moment, whatever the statement says: locks, connections, limits, memory, disk, read-only, shutdown. (3024, 1969: a
#: statement took too long; 3168, 3169, 4031, 1927, 1053: the session ends; 1792, 1836: read-only; 1290: an option, read_only most of all.)
_PASSING = frozenset({
    *_LOCKED, ER.CON_COUNT_ERROR, ER.OUT_OF_RESOURCES, ER.OUTOFMEMORY, ER.OUT_OF_SORTMEMORY, ER.SERVER_SHUTDOWN, ER.NORMAL_SHUTDOWN,
    ER.SHUTDOWN_COMPLETE, ER.FORCING_CLOSE, ER.ABORTING_CONNECTION, ER.NEW_ABORTING_CONNECTION, ER.NET_READ_ERROR, ER.NET_READ_INTERRUPTED,
    ER.NET_ERROR_ON_WRITE, ER.NET_WRITE_INTERRUPTED, ER.NET_FCNTL_ERROR, ER.NET_PACKETS_OUT_OF_ORDER, ER.NET_UNCOMPRESS_ERROR, ER.QUERY_INTERRUPTED,
    ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED, ER.OPTION_PREVENTS_STATEMENT, ER.DISK_FULL,
    ER.ERROR_ON_READ, ER.CANT_OPEN_FILE, ER.CANT_CREATE_THREAD, ER.GET_ERRNO, ER.CANT_LOCK, ER.LOCK_TABLE_FULL, ER.UNKNOWN_ERROR, ER.TABLE_DEF_CHANGED,
    1792, 1836, 1927, 1969, 3024, 3168, 3169, 3572, 4031,
})
#: Numbers of the client library's own errors: they are about the connection.
_CLIENT = range(2000, 3000)


#: Errors whose quotations are names: of accounts, tables, columns, variables.
_NAMING = frozenset({*_STATEMENT, *_DENIED, *_PASSING}) - {ER.PARSE_ERROR}
_SIGNAL = 1644
#: All from the first quotation mark to the last.
_QUOTED = re.compile(r"['\"].*['\"]|['\"].*", re.DOTALL)


def _tls() -> ssl.SSLContext:
    """TLS to whoever answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


_TLS = _tls()


def words_of(error: Exception) -> str:
    """What MySQL says, without what it quotes of values and statements, and its number where that leaves something out. Pure."""
    words = str(error.args[-1]) if error.args else type(error).__name__
    code = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args and isinstance(error.args[0], int) else 0
    if not code or code in _CLIENT or code in _NAMING:
        return words
    # A trigger of the application's may say anything.
    kept = "" if code == _SIGNAL else _QUOTED.sub("…", words)
    return words if kept == words else f"error {code}: {kept}".rstrip(": ")


class DatabaseUnavailable(Exception):
    """MySQL did not do it; of a transaction, nobody knows whether it did.

    ``statement``: it is the statement that is wrong; ``locked``: rows are; ``denied``: the account may not; ``refused``: the server works, and will say the
    same the next time.
    """

    def __init__(self, error: Exception) -> None:
        code = error.args[0] if isinstance(error, pymysql.MySQLError) and error.args and isinstance(error.args[0], int) else 0
        super().__init__(words_of(error))
        self.code = code
        self.schema_absent = code in _ABSENT
        self.statement = code in _STATEMENT
        self.locked = code in _LOCKED
        self.denied = code in _DENIED
        self.refused = code > 0 and code not in _CLIENT and code not in _PASSING and not self.denied


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
                found = DatabaseUnavailable(error)
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
        found = DatabaseUnavailable(error)
        # A resync that meets a locked row keeps its session, and with it the lock that tells others of it.
        if not found.statement and not found.refused and not found.locked:
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
