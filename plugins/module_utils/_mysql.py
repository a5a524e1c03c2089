# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log in to MySQL or MariaDB, run statements and remember those that change something."""

from __future__ import annotations

import configparser
import contextlib
import os
import random
import re
import time
import traceback

from ansible.module_utils.basic import missing_required_lib
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql_tls import open_connection

try:
    import pymysql
    import pymysql.constants.CLIENT

    PYMYSQL_ERROR = None
except ImportError:
    pymysql = None
    PYMYSQL_ERROR = traceback.format_exc()

# The server's error numbers that the modules distinguish.
ER_ACCESS_DENIED_DB = 1044
ER_ACCESS_DENIED = 1045
ER_LOCK_WAIT_TIMEOUT = 1205
# MariaDB's, where max_statement_time bounds what lock_wait_timeout does not.
ER_STATEMENT_TIMEOUT = 1969
NO_LOCK = (ER_LOCK_WAIT_TIMEOUT, ER_STATEMENT_TIMEOUT)
ER_UDF_EXISTS = 1125
ER_CANT_OPEN_LIBRARY = 1126
ER_CANT_FIND_DL_ENTRY = 1127
ER_TABLE_ACCESS_DENIED = 1142
ER_SPECIFIC_ACCESS_DENIED = 1227
ER_OPTION_PREVENTS_STATEMENT = 1290
ER_FUNCTION_UNKNOWN = 1305
ER_BINLOG_CREATE_ROUTINE_NEED_SUPER = 1419
ER_NATIVE_FCT_NAME_COLLISION = 1585

# Every statement of ours is written for this mode, and it is what triggers are stored with.
SQL_MODE = "STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION"

# What a statement may take beside waiting for locks; a server that is silent for longer is an error.
READ_TIMEOUT = 60

# Seconds that one try waits for a lock. Every writer of the table queues behind it for as long.
TRY_SECONDS = 1
# The first pause between two tries in seconds, what each further one is longer, and the longest.
FIRST_PAUSE, PAUSE_GROWTH, LONGEST_PAUSE = 1.5, 1.5, 10


def login_argument_spec():
    return {
        "login_user": {"type": "str"},
        "login_password": {"type": "str", "no_log": True},
        "login_host": {"type": "str", "default": "localhost"},
        "login_port": {"type": "int"},
        "login_unix_socket": {"type": "path"},
        "config_file": {"type": "path", "default": "~/.my.cnf"},
        "connect_timeout": {"type": "int", "default": 10},
        "client_cert": {"type": "path", "aliases": ["ssl_cert"]},
        "client_key": {"type": "path", "aliases": ["ssl_key"]},
        "ca_cert": {"type": "path", "aliases": ["ssl_ca"]},
        "check_hostname": {"type": "bool"},
    }


def lock_wait_argument_spec():
    return {"lock_wait_timeout": {"type": "int", "default": 60}}


class Patience:
    """How long locks are waited for in all: short tries with longer pauses between them, in which the
    writers go on.
    """

    def __init__(self, seconds, *, clock=time.monotonic, sleep=time.sleep, jitter=random.random):  # noqa: S311 - no secret
        self._left, self._pause = seconds, FIRST_PAUSE
        self._clock, self._sleep, self._jitter = clock, sleep, jitter
        self._since = clock()

    def begin(self):
        """Called before a try."""
        self._since = self._clock()

    def pause(self):
        """Called after a try that got no lock: pause, or return False when there is no time for another
        one.
        """
        length = self._pause * (1 + self._jitter() / 2)
        self._left -= self._clock() - self._since
        if length + TRY_SECONDS > self._left:
            self._left = 0
            return False
        self._sleep(length)
        self._left -= length
        self._pause = min(self._pause * PAUSE_GROWTH, LONGEST_PAUSE)
        return True


class ServerError(Exception):
    """The server answered with an error."""

    def __init__(self, code, text, sql=""):
        super().__init__(f"{text} (error {code})")
        self.code = code
        self.text = text
        self.sql = sql


def _server_error(error, sql=""):
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    return ServerError(code, str(error.args[1]) if len(error.args) > 1 else str(error), sql)


def quote(identifier):
    """An identifier as SQL; valid under ANSI_QUOTES too."""
    if not identifier or "\0" in identifier:
        raise ValueError(f"{identifier!r} is not a name that a server accepts")
    return "`{}`".format(identifier.replace("`", "``"))


def qualified(schema, name):
    return f"{quote(schema)}.{quote(name)}"


def literal(text):
    """A text as SQL, for SQL_MODE: backslashes escape there."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0")
    return f"'{escaped}'"


def split_account(text):
    """'user@host' as (user, host); a missing host is '%' as in the server's own statements."""
    if "@" not in text:
        return text, "%"
    user, host = text.rsplit("@", 1)
    return user.strip("'`\""), host.strip("'`\"")


def account_sql(user, host):
    return f"{literal(user)}@{literal(host)}"


def login_sql(database):
    """The account that is logged in, as SQL."""
    return account_sql(*split_account(database.value("SELECT CURRENT_USER()")))


def grant_sql(database, right, level="*.*"):
    """The statement that gives a right to the account that is logged in."""
    return f"GRANT {right} ON {level} TO {login_sql(database)}"


def parse_version(text):
    """The server's VERSION() as (engine, (major, minor, patch))."""
    engine = "mariadb" if "mariadb" in text.lower() else "mysql"
    # Old MariaDB servers put 5.5.5- before their real version for the sake of replicas.
    cleaned = re.sub(r"^5\.5\.5-(?=\d+\.\d+\.\d+-mariadb)", "", text, flags=re.IGNORECASE)
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", cleaned)
    if not numbers:
        raise ValueError(f"the server calls its version {text!r}")
    return engine, tuple(int(number or 0) for number in numbers.groups())


class Database:
    """One connection. What changes something goes through `change`, which keeps quiet in check mode.

    patience: for all statements together; without it the first lock that cannot be had is an error.
    """

    def __init__(self, connection, check_mode=False, patience=None):
        self.connection = connection
        self.check_mode = check_mode
        self.patience = patience or Patience(0)
        self.queries = []
        self.version_text = self.value("SELECT VERSION()")
        self.engine, self.version = parse_version(self.version_text)

    def _execute(self, sql, parameters=None, patient=True):
        while True:
            self.patience.begin()
            try:
                return self._try(sql, parameters)
            except ServerError as error:
                # The statement was rolled back, and each is a transaction of its own.
                if error.code not in NO_LOCK or not patient or not self.patience.pause():
                    raise

    def _try(self, sql, parameters):
        try:
            with self.connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                if cursor.description is None:
                    return []
                names = [column[0].lower() for column in cursor.description]
                return [dict(zip(names, row)) for row in cursor.fetchall()]
        except pymysql.MySQLError as error:
            raise _server_error(error, sql) from error

    def rows(self, sql, *parameters):
        """What a SELECT finds, column names in lower case whatever the server's version makes of them."""
        return self._execute(sql, parameters or None)

    def value(self, sql, *parameters):
        rows = self.rows(sql, *parameters)
        return next(iter(rows[0].values())) if rows else None

    def variable(self, name):
        """A global variable, None on servers that do not have it."""
        rows = self.rows("SHOW GLOBAL VARIABLES WHERE Variable_name = %s", name)
        return rows[0]["value"] if rows else None

    def session(self, sql, *parameters):
        """A statement that touches nothing but this connection."""
        self._execute(sql, parameters or None)

    def change(self, sql, *, patient=True, shown=None):
        """Execute a statement. patient: whether to pause and try again when it gets no lock; not while
        this session holds one. shown: the statement without its secrets.
        """
        if not self.check_mode:
            self._execute(sql, patient=patient)
        self.queries.append(shown or sql)

    def attempt(self, sql, *, patient=True, shown=None):
        """Change something that may be refused: None, or the server's error."""
        try:
            self.change(sql, patient=patient, shown=shown)
        except ServerError as error:
            return error
        return None

    def set_sql_mode(self, mode):
        """Set the session's mode and return it as the server spells it."""
        self.session("SET SESSION sql_mode = %s", mode)
        return self.value("SELECT @@SESSION.sql_mode")

    def close(self):
        # One that the other side has closed already is just as well.
        with contextlib.suppress(pymysql.MySQLError):
            self.connection.close()


def _connection_arguments(params):
    arguments = {
        "host": params["login_host"],
        "charset": "utf8mb4",
        "autocommit": True,  # an open transaction of ours would hold locks on the tables that we look at
        "connect_timeout": params["connect_timeout"],
        "read_timeout": READ_TIMEOUT + TRY_SECONDS,
        "write_timeout": READ_TIMEOUT,
    }
    config_file = os.path.expanduser(params["config_file"] or "")
    if config_file and os.path.exists(config_file):
        arguments["read_default_file"] = config_file
        arguments["read_default_group"] = "client"
        if params["login_host"] == "localhost":
            # PyMySQL prefers what it is given to what is in the file, and our default is not what the user
            # gave.
            del arguments["host"]
    for option, name in (
        ("login_user", "user"),
        ("login_password", "password"),
        ("login_port", "port"),
        ("login_unix_socket", "unix_socket"),
    ):
        if params[option] is not None:
            arguments[name] = params[option]
    names = (("ca_cert", "ca"), ("client_cert", "cert"), ("client_key", "key"))
    tls = {name: params[option] for option, name in names if params[option]}
    if params["check_hostname"] is not None:
        if params["check_hostname"] and "ca" not in tls:
            raise ValueError(
                "check_hostname needs ca_cert: without it the server's certificate is not verified at all"
            )
        tls["check_hostname"] = params["check_hostname"]
    if tls:
        arguments["ssl"] = tls
    return arguments


def connect(module, check_mode=None):
    """A Database, or the end of the module with an error that names how the login was tried."""
    if pymysql is None:
        module.fail_json(msg=missing_required_lib("PyMySQL"), exception=PYMYSQL_ERROR)
    params = module.params
    target = params["login_unix_socket"] or "{}:{}".format(params["login_host"], params["login_port"] or 3306)
    try:
        connection = open_connection(pymysql, _connection_arguments(params))
        database = Database(
            connection,
            module.check_mode if check_mode is None else check_mode,
            Patience(params.get("lock_wait_timeout") or 0),
        )
        # Names in our queries are looked up without a schema of the user's.
        database.session("USE information_schema")
        database.set_sql_mode(SQL_MODE)
        database.session(
            "SET SESSION lock_wait_timeout = %s, innodb_lock_wait_timeout = %s", TRY_SECONDS, TRY_SECONDS
        )
        return database
    except configparser.Error as error:
        module.fail_json(msg="config_file {} cannot be read: {}".format(params["config_file"], error))
    except (pymysql.MySQLError, ServerError, OSError, ValueError, RuntimeError) as error:
        # RuntimeError: PyMySQL's error when a package for the account's password method is missing.
        user = params["login_user"] or "the account of config_file"
        module.fail_json(
            msg=f"cannot log in to the database server at {target} as {user}: {error}. Check "
            "login_unix_socket or login_host and login_port, login_user and login_password, or the "
            f"[client] section of {params['config_file']}."
        )


def try_login(params, user, password):
    """Log in to the server of a module's options as another account: ('user@host' of the account that the
    server takes for it, None), or (None, the ServerError).

    An error that is not the server's own has the code 0.
    """
    arguments = _connection_arguments({**params, "login_user": user, "login_password": password})
    try:
        opened = contextlib.closing(open_connection(pymysql, arguments))
        with opened as connection, connection.cursor() as cursor:
            cursor.execute("SELECT CURRENT_USER()")
            return cursor.fetchone()[0], None
    except (pymysql.MySQLError, OSError, RuntimeError) as error:
        # RuntimeError: as for connect.
        return None, _server_error(error)


def check_lock_wait_timeout(module):
    if module.params["lock_wait_timeout"] < 1:
        module.fail_json(
            msg="lock_wait_timeout must be at least 1 second, not {}".format(
                module.params["lock_wait_timeout"]
            )
        )
