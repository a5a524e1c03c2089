# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server knows about an account, its password and the tables that it is for."""

from __future__ import annotations

import collections
import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._account_plan import Records, Use
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import split_table_name
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._grants import (
    parse_grants,
    without_secrets,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ER_ACCESS_DENIED,
    ER_ACCESS_DENIED_DB,
    ER_OPTION_PREVENTS_STATEMENT,
    ER_SPECIFIC_ACCESS_DENIED,
    ER_TABLE_ACCESS_DENIED,
    ServerError,
    account_sql,
    literal,
    login_sql,
    split_account,
    try_login,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import NO_TRIGGERS, SCHEMA
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._password_hash import is_password
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._table import find_table
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import OWN_NAME

ER_NO_SUCH_USER = 1133
ER_NONEXISTING_GRANT = 1141
ER_NONEXISTING_TABLE_GRANT = 1147
# MariaDB's for ALTER USER, whatever the reason.
ER_CANNOT_USER = 1396
ER_ACCESS_DENIED_NO_PASSWORD = 1698
ER_NOT_VALID_PASSWORD = 1819
ER_MUST_CHANGE_PASSWORD = 1820
ER_MUST_CHANGE_PASSWORD_LOGIN = 1862
ER_CREDENTIALS_CONTRADICT_HISTORY = 3638
# PyMySQL's for an authentication plugin that it does not have.
CR_AUTH_PLUGIN_CANNOT_LOAD = 2059

RIGHT, WRONG, UNKNOWN = "right", "wrong", "unknown"
_EXPIRED = (ER_MUST_CHANGE_PASSWORD, ER_MUST_CHANGE_PASSWORD_LOGIN)
_REFUSED = (ER_ACCESS_DENIED, ER_ACCESS_DENIED_NO_PASSWORD, CR_AUTH_PLUGIN_CANNOT_LOAD)
_NO_RIGHT = (ER_ACCESS_DENIED_DB, ER_TABLE_ACCESS_DENIED, ER_SPECIFIC_ACCESS_DENIED)

# plugin, stored: how the account logs in, as mysql.user has it. grants: a Grants.
Account = collections.namedtuple("Account", "plugin stored locked grants")


class AccountError(Exception):
    """The account cannot be brought to what is needed; the message is why and what to do."""


def explain(database, error, doing, needed):
    """The message for a server's error. doing: what was tried. needed: the privileges that it takes, ON what,
    as GRANT has them.
    """
    reasons = _warnings(database) if error.code in (ER_NOT_VALID_PASSWORD, ER_CANNOT_USER) else []
    if error.code == ER_NOT_VALID_PASSWORD or ER_NOT_VALID_PASSWORD in (code for code, _text in reasons):
        texts = "; ".join(text for code, text in reasons if code != ER_CANNOT_USER) or error.text
        return (
            f"{doing}: the server's password policy refuses the password: {texts}. Choose one that it "
            "accepts, or change the policy (SHOW VARIABLES LIKE '%password%')"
        )
    if error.code == ER_CREDENTIALS_CONTRADICT_HISTORY:
        return f"{doing}: the password was used before, and the server's policy refuses it: {error}"
    if error.code == ER_OPTION_PREVENTS_STATEMENT:
        return f"{doing}: {error}. Accounts are made on the primary, whose replicas get them from it"
    if error.code not in _NO_RIGHT:
        return f"{doing}: {error}"
    # The server names what it wants beside the usual, such as SYSTEM_USER.
    named = re.search(r"at least one of\) the (.+?) privilege", error.text)
    if named and error.code == ER_SPECIFIC_ACCESS_DENIED:
        names = [name for name in re.split(r", | or ", named.group(1)) if name != "SUPER"]
        needed = f"{(names or ['SUPER'])[-1]} ON *.*"
    login = login_sql(database)
    privileges, _with, option = needed.partition(" WITH ")
    grant = f"GRANT {privileges} TO {login}{' WITH ' + option if option else ''}"
    return f"{doing}: {login} lacks a right ({error}). It needs: {grant}"


def _warnings(database):
    """What the server adds to the error of the last statement, as (code, text)."""
    try:
        return [(int(row["code"]), str(row["message"])) for row in database.rows("SHOW WARNINGS")]
    except ServerError:
        return []


def read_account(database, user, host):
    """The Account, None when there is none. Raises AccountError."""
    sql = account_sql(user, host)
    try:
        rows = database.rows(
            "SELECT plugin, authentication_string FROM mysql.user WHERE User = %s AND Host = %s",
            user,
            host,
        )
        if not rows:
            return None
        made = without_secrets(next(iter(database.rows(f"SHOW CREATE USER {sql}")[0].values())))
        database.session("SET SESSION sql_quote_show_create = 1")
        lines = [next(iter(row.values())) for row in database.rows(f"SHOW GRANTS FOR {sql}")]
    except ServerError as error:
        # Dropped at this moment.
        if error.code in (ER_NO_SUCH_USER, ER_NONEXISTING_GRANT, ER_CANNOT_USER):
            return None
        doing = f"account {sql} cannot be looked at"
        raise AccountError(explain(database, error, doing, "SELECT ON `mysql`.*")) from error
    locked = re.search(r"\bACCOUNT LOCK\b", re.sub(r"'(?:[^']|'')*'|`(?:[^`]|``)*`", "", made)) is not None
    return Account(
        _text(rows[0]["plugin"]), _text(rows[0]["authentication_string"]), locked, parse_grants(lines)
    )


def _text(value):
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""


def judge_password(params, account):
    """Whether the account's password is the wanted one: (RIGHT, WRONG or UNKNOWN, the error of logging in).

    A hash shows it for accounts that nothing can log in to from here: those for other hosts, and those to
    which the server prefers one with another host. A login shows it for hashes that are not known here.
    """
    equal = is_password(params["password"], account.plugin, account.stored)
    if equal is False:
        return WRONG, None
    taken, error = try_login(params, params["name"], params["password"])
    if error and error.code in _EXPIRED:
        return WRONG, error
    if equal or (taken is not None and split_account(taken) == (params["name"], params["host"])):
        return RIGHT, error
    return (WRONG if error and error.code in _REFUSED else UNKNOWN), error


def _split_names(names):
    """Names of tables as (schema, table). Raises AccountError for what is none."""
    pairs = [split_table_name(name) for name in names]
    for name, pair in zip(names, pairs):
        if pair is None:
            raise AccountError(f"tables: {name!r} does not name a schema and a table; write schema.table")
    return pairs


def known_tables(database, names, *, required=False):
    """The tables as (schema, table) by the server's spelling, where it has them. Raises AccountError, with
    required also for those that are not there.
    """
    pairs = _split_names(names)
    rows = [find_table(database, *pair) for pair in pairs]
    missing = [name for name, row in zip(names, rows) if not row]
    if required and missing:
        raise AccountError(
            f"{', '.join(missing)}: no such table on this server, or {login_sql(database)} may not see it, "
            "so no right on it can be granted. Create it, correct its name, or grant SELECT on it"
        )
    return list(dict.fromkeys((row["s"], row["t"]) if row else pair for pair, row in zip(pairs, rows)))


def read_records(database):
    """The Records of the schema of durable delivery. Raises AccountError."""
    there = {
        row["t"]
        for row in database.rows(
            "SELECT TABLE_NAME AS t FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s", SCHEMA
        )
    }
    synced, ever = set(), set()
    try:
        if "synced_table" in there:
            # The longer question only of tables without triggers.
            rows = database.rows(
                f"SELECT source_schema AS s, source_table AS t, (triggers <> "
                f"{literal(NO_TRIGGERS)} OR EXISTS (SELECT 1 FROM `{SCHEMA}`.outbox AS o "
                f"WHERE o.table_name = k.table_name) OR EXISTS (SELECT 1 FROM "
                f"`{SCHEMA}`.dead_letter AS d WHERE d.table_name = k.table_name)) AS needed"
                f" FROM `{SCHEMA}`.synced_table AS k"
            )
            ever.update((row["s"], row["t"]) for row in rows)
            synced.update((row["s"], row["t"]) for row in rows if row["needed"])
        if "numbered_declaration" in there:
            rows = database.rows(f"SELECT DISTINCT table_name AS name FROM `{SCHEMA}`.numbered_declaration")
            ever.update(filter(None, (split_table_name(_text(row["name"])) for row in rows)))
    except ServerError as error:
        doing = f"the tables that are synced cannot be read from the schema {SCHEMA}"
        raise AccountError(explain(database, error, doing, f"SELECT ON `{SCHEMA}`.*")) from error
    if int(database.value("SELECT @@lower_case_table_names")):
        # Declarations may write a name in another case than the server, which makes all of them lower.
        ever |= {(schema.lower(), table.lower()) for schema, table in ever}
    return Records("outbox" in there, synced, ever)


def read_use(database, user, host, ignored):
    """The Use of the account as a definer. ignored: whether a trigger of the collection's on a table is as if
    it was not there.
    """
    rows = database.rows(
        "SELECT TRIGGER_NAME AS name, EVENT_OBJECT_SCHEMA AS s, EVENT_OBJECT_TABLE AS t, "
        f"ACTION_STATEMENT LIKE '%%`{SCHEMA}`.`outbox`%%' AS writes FROM information_schema.TRIGGERS "
        "WHERE DEFINER = %s",
        f"{user}@{host}",
    )
    left = [row for row in rows if not (OWN_NAME.match(row["name"]) and ignored((row["s"], row["t"])))]
    return Use({(row["s"], row["t"]) for row in left}, any(row["writes"] for row in left))
