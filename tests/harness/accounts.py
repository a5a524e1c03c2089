# SPDX-License-Identifier: GPL-3.0-or-later
"""The accounts that mysql_account makes, and what the server shows of them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pymysql

from harness.database import DatabaseServer
from harness.modules import Modules

FIRST, SECOND = "first-Pass.word1", "second-Pass.word2"
WORKER = {"name": "gearsync", "host": "%", "password": FIRST}
DEFINER = {"name": "gearsync_definer", "purpose": "definer"}
WRITE = {"write": [{"type": "hash", "key": "t:{id}"}], "columns": ["id"]}

SCHEMA_RIGHTS = "GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON `gearsync`.*"


def grants(database: DatabaseServer, account: str) -> list[str]:
    """What the server prints of the account's rights, without hashes of passwords."""
    lines = [line for (line,) in database.execute(f"SHOW GRANTS FOR {account}")]
    return sorted(re.sub(r" (TO|IDENTIFIED) .*?(?= WITH GRANT OPTION|$)", "", line) for line in lines)


def accounts(database: DatabaseServer) -> list[tuple[Any, ...]]:
    return sorted(
        database.execute(
            "SELECT User, Host, authentication_string FROM mysql.user WHERE User LIKE 'gearsync%'"
        )
    )


def look_at(database: DatabaseServer, account: str = "gearsync@'%'") -> Callable[[], Any]:
    """A function that shows accounts, and the rights of one."""

    def look() -> Any:
        try:
            return accounts(database), grants(database, account)
        except pymysql.MySQLError:
            return accounts(database), None

    return look


def can_log_in(modules: Modules, password: str) -> bool:
    """Whether the worker can, by the socket."""
    login = {"login_user": "gearsync", "login_password": password}
    return "cannot log in" not in modules.run("outbox", check=True, **login).get("msg", "")
