# SPDX-License-Identifier: GPL-3.0-or-later
"""MySQL's errors by what the caller can do about them, and the part of their messages that is safe to
log. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Container

import pymysql
from pymysql.constants import ER

#: The schema or one of its tables does not exist (yet).
_ABSENT = (ER.BAD_DB_ERROR, ER.NO_SUCH_TABLE)
#: A lock was not granted: at once (MySQL's NOWAIT), in time (also MariaDB's NOWAIT), or after a deadlock.
_LOCKED = (3572, ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK)
#: A statement that fails in the same way each time, whatever the server's state. NO_DB_ERROR is what MySQL
#: reports for an unknown function: it looks for one in the session's schema, and the session has none.
_STATEMENT = (
    ER.BAD_FIELD_ERROR,
    ER.NO_SUCH_TABLE,
    ER.PARSE_ERROR,
    ER.BAD_DB_ERROR,
    ER.SP_DOES_NOT_EXIST,
    ER.NO_DB_ERROR,
)
#: The account lacks a privilege, which an administrator can grant.
_DENIED = (
    ER.TABLEACCESS_DENIED_ERROR,
    ER.COLUMNACCESS_DENIED_ERROR,
    ER.DBACCESS_DENIED_ERROR,
    ER.ACCESS_DENIED_ERROR,
    ER.SPECIFIC_ACCESS_DENIED_ERROR,
)
#: The server takes no writes: because of read_only or super_read_only (1290, which other options have, too),
#: because new transactions are read-only, or because InnoDB is.
_READ_ONLY = (ER.OPTION_PREVENTS_STATEMENT, 1792, 1836)
#: Errors that are temporary, whatever the statement: locks, connections, limits, memory, disk, read-only,
#: shutdown. (3024, 1969: a statement took too long; 3168, 3169, 4031, 1927, 1053: the session ends.)
_TEMPORARY = frozenset(
    {
        *_LOCKED,
        *_READ_ONLY,
        ER.CON_COUNT_ERROR,
        ER.OUT_OF_RESOURCES,
        ER.OUTOFMEMORY,
        ER.OUT_OF_SORTMEMORY,
        ER.SERVER_SHUTDOWN,
        ER.NORMAL_SHUTDOWN,
        ER.SHUTDOWN_COMPLETE,
        ER.FORCING_CLOSE,
        ER.ABORTING_CONNECTION,
        ER.NEW_ABORTING_CONNECTION,
        ER.NET_READ_ERROR,
        ER.NET_READ_INTERRUPTED,
        ER.NET_ERROR_ON_WRITE,
        ER.NET_WRITE_INTERRUPTED,
        ER.NET_FCNTL_ERROR,
        ER.NET_PACKETS_OUT_OF_ORDER,
        ER.NET_UNCOMPRESS_ERROR,
        ER.QUERY_INTERRUPTED,
        ER.TOO_MANY_USER_CONNECTIONS,
        ER.USER_LIMIT_REACHED,
        ER.DISK_FULL,
        ER.ERROR_ON_READ,
        ER.CANT_OPEN_FILE,
        ER.CANT_CREATE_THREAD,
        ER.GET_ERRNO,
        ER.CANT_LOCK,
        ER.LOCK_TABLE_FULL,
        ER.UNKNOWN_ERROR,
        ER.TABLE_DEF_CHANGED,
        1927,
        1969,
        3024,
        3168,
        3169,
        3572,
        4031,
    }
)
#: Numbers of the client library's own errors: they are about the connection.
_CLIENT = range(2000, 3000)


#: Errors that quote only names: of accounts, tables, columns, variables.
_QUOTING_NAMES = frozenset({*_STATEMENT, *_DENIED, *_TEMPORARY}) - {ER.PARSE_ERROR}
_SIGNAL = 1644
#: All from the first quotation mark to the last.
_QUOTED = re.compile(r"['\"].*['\"]|['\"].*", re.DOTALL)


def message_of(error: Exception) -> str:
    """MySQL's message without the values and statements that it quotes, and with its number where a part
    is left out. Pure.
    """
    message = str(error.args[-1]) if error.args else type(error).__name__
    code = code_of(error)
    if not code or code in _CLIENT or code in _QUOTING_NAMES:
        return message
    # The message of an application's trigger may contain data.
    kept = "" if code == _SIGNAL else _QUOTED.sub("…", message)
    return message if kept == message else f"error {code}: {kept}".rstrip(": ")


def code_of(error: Exception) -> int:
    """The number of an error of the server or the client library; 0 for all others. Pure."""
    return (
        error.args[0]
        if isinstance(error, pymysql.MySQLError) and error.args and isinstance(error.args[0], int)
        else 0
    )


class DatabaseUnavailable(Exception):
    """MySQL did not execute a statement; whether a transaction was committed is unknown. A retry may
    succeed, unless it is one of the errors below.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(message_of(error))
        self.code = code_of(error)


class RowsLocked(DatabaseUnavailable):
    """Another session holds a lock that the statement needs."""


class ReadOnly(DatabaseUnavailable):
    """The server is read-only: another one may be the primary."""


class AccessDenied(DatabaseUnavailable):
    """The account lacks a privilege."""


class StatementRefused(DatabaseUnavailable):
    """The server works, and refuses the statement each time."""


class StatementInvalid(StatementRefused):
    """The statement names something that does not exist, or has a syntax that the server does not know."""


class SchemaAbsent(StatementInvalid):
    """The schema or one of its tables does not exist (yet)."""


_KINDS: tuple[tuple[type[DatabaseUnavailable], Container[int]], ...] = (
    (SchemaAbsent, _ABSENT),
    (StatementInvalid, _STATEMENT),
    (RowsLocked, _LOCKED),
    (ReadOnly, _READ_ONLY),
    (AccessDenied, _DENIED),
)


def classified(error: Exception) -> DatabaseUnavailable:
    """An error of the driver as one of the classes above. Pure."""
    code = code_of(error)
    for kind, codes in _KINDS:
        if code in codes:
            return kind(error)
    return (
        DatabaseUnavailable(error)
        if code <= 0 or code in _CLIENT or code in _TEMPORARY
        else StatementRefused(error)
    )
