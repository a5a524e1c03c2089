"""What MySQL's errors mean for whoever asked, and what may be said of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Container

import pymysql
from pymysql.constants import ER

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


def words_of(error: Exception) -> str:
    """What MySQL says, without what it quotes of values and statements, and its number where that leaves something out. Pure."""
    words = str(error.args[-1]) if error.args else type(error).__name__
    code = code_of(error)
    if not code or code in _CLIENT or code in _NAMING:
        return words
    # A trigger of the application's may say anything.
    kept = "" if code == _SIGNAL else _QUOTED.sub("…", words)
    return words if kept == words else f"error {code}: {kept}".rstrip(": ")


def code_of(error: Exception) -> int:
    """The number of an error of the server or the client library; 0 for all others. Pure."""
    return error.args[0] if isinstance(error, pymysql.MySQLError) and error.args and isinstance(error.args[0], int) else 0


class DatabaseUnavailable(Exception):
    """MySQL did not do it; whether a transaction was committed is not known. What the server may do the next time, unless it is one of the errors below."""

    def __init__(self, error: Exception) -> None:
        super().__init__(words_of(error))
        self.code = code_of(error)


class RowsLocked(DatabaseUnavailable):
    """Another session has locked what the statement needs."""


class AccessDenied(DatabaseUnavailable):
    """The account may not do it."""


class StatementRefused(DatabaseUnavailable):
    """The server works, and gives the same answer the next time."""


class StatementInvalid(StatementRefused):
    """The statement names what is not there, or the server does not know its syntax."""


class SchemaAbsent(StatementInvalid):
    """The schema or one of its tables is not there (yet)."""


_KINDS: tuple[tuple[type[DatabaseUnavailable], Container[int]], ...] = (
    (SchemaAbsent, _ABSENT), (StatementInvalid, _STATEMENT), (RowsLocked, _LOCKED), (AccessDenied, _DENIED))


def classified(error: Exception) -> DatabaseUnavailable:
    """The error that callers tell apart. Pure."""
    code = code_of(error)
    for kind, codes in _KINDS:
        if code in codes:
            return kind(error)
    return DatabaseUnavailable(error) if code <= 0 or code in _CLIENT or code in _PASSING else StatementRefused(error)
