# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an account is made, given its password and rights, and removed."""

from __future__ import annotations

import secrets

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._account import (
    ER_CREDENTIALS_CONTRADICT_HISTORY,
    ER_NONEXISTING_GRANT,
    ER_NONEXISTING_TABLE_GRANT,
    UNKNOWN,
    WRONG,
    AccountError,
    explain,
    judge_password,
    known_tables,
    read_account,
    read_records,
    read_use,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._account_plan import (
    MONITORING,
    NO_USE,
    ON_OUTBOX,
    needs_of,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._grants import (
    NO_GRANTS,
    apply_steps,
    foreign_lines,
    level_sql,
    missing_steps,
    show_grants,
    statement,
    surplus_steps,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    NO_LOCK,
    account_sql,
    literal,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._password_hash import native_hash

# MySQL keeps the plugin of an account that gets a password. These take one.
_PASSWORD_PLUGINS = ("caching_sha2_password", "sha256_password", "mysql_native_password")
_CREATE_USER = "CREATE USER ON *.*"


class Change:
    """What is done to one account by the options of a module."""

    def __init__(self, module, database):
        self.module, self.params, self.database = module, module.params, database
        self.worker = self.params["purpose"] == "worker"
        self.sql = account_sql(self.params["name"], self.params["host"])
        self.account = read_account(database, self.params["name"], self.params["host"])
        self.grants = self.account.grants if self.account else NO_GRANTS
        present = self.params["state"] == "present"
        tables = known_tables(database, self.params["tables"], required=present)
        self.records = read_records(database)
        remaining = self.params["remaining_tables"]
        # What the run takes out of the sync is still there in check mode.
        self.remaining = known_tables(database, remaining) if remaining is not None else None
        self.use = NO_USE if self.worker else self._read_use(set(tables))
        self.needs = needs_of(
            self.params["purpose"],
            tables,
            self.grants,
            records=self.records,
            use=self.use,
            outbox=self.params["outbox"],
            gone={table for table in self.records.synced if self._leaves(table)},
        )

    def _leaves(self, table):
        """Whether a table is as good as taken out of the sync."""
        return self.module.check_mode and self.remaining is not None and table not in self.remaining

    def _read_use(self, tables):
        # In check mode those of declared tables stand for the ones that would be there.
        return read_use(
            self.database,
            self.params["name"],
            self.params["host"],
            lambda table: (self.module.check_mode and table in tables) or self._leaves(table),
        )

    def execute(self, sql, doing, needed, shown=None):
        """Execute a statement. doing, needed: for explain."""
        error = self.database.attempt(sql, shown=shown)
        if error is not None:
            self._fail(error, doing, needed)

    def _fail(self, error, doing, needed):
        if error.code in NO_LOCK:
            raise error
        raise AccountError(explain(self.database, error, f"account {self.sql}, {doing}", needed)) from error

    def change_rights(self, steps):
        """Grant and revoke; the Grants afterwards."""
        for step in steps:
            level = level_sql(step.level)
            doing = f"{step.verb} {', '.join(step.privileges)} ON {level}"
            error = self.database.attempt(statement(step, self.sql))
            # Another host's run may have revoked it in the meantime.
            if error and (
                step.verb == "GRANT" or error.code not in (ER_NONEXISTING_GRANT, ER_NONEXISTING_TABLE_GRANT)
            ):
                self._fail(error, doing, f"{', '.join(step.privileges)} ON {level} WITH GRANT OPTION")
        return apply_steps(self.grants, steps)

    def _identified(self, password, plugin=""):
        """(the part of a statement that sets a password, the same without it).

        MariaDB's binary log has statements as they came, so it gets the hash where it takes one.
        """
        if self.database.engine == "mariadb" and not self._validates():
            return f" IDENTIFIED BY PASSWORD {literal(native_hash(password))}", " IDENTIFIED BY 'hidden'"
        by = f" IDENTIFIED {'WITH ' + plugin + ' ' if plugin else ''}BY "
        return f"{by}{literal(password)}", f"{by}'hidden'"

    def _validates(self):
        """Whether a plugin of MariaDB's must see passwords as they are."""
        return self.database.value(
            "SELECT COUNT(*) FROM information_schema.PLUGINS WHERE PLUGIN_TYPE = 'PASSWORD VALIDATION' AND "
            "PLUGIN_STATUS = 'ACTIVE'"
        )

    def create(self):
        """Make the account. It may be there by now: several workers' runs make it at the same time."""
        create = f"CREATE USER IF NOT EXISTS {self.sql}"
        if not self.worker:
            # The end is for servers that ask for every kind of character.
            part, shown = self._identified(secrets.token_urlsafe(30) + "-aA1")
            lock = " ACCOUNT LOCK"
            self.execute(create + part + lock, "creating it", _CREATE_USER, create + shown + lock)
            return
        part, shown = self._identified(self.params["password"])
        self.execute(create + part, "creating it", _CREATE_USER, create + shown)
        # For one that is there by now, here or on a replica.
        alter = f"ALTER USER {self.sql}"
        error = self.database.attempt(alter + part, shown=alter + shown)
        # A server that remembers passwords refuses the one that it has just got.
        if error and error.code != ER_CREDENTIALS_CONTRADICT_HISTORY:
            self._fail(error, "setting its password", _CREATE_USER)

    def make_usable(self):
        """Give an account that is there its password, or lock it; what diffs show of it before that."""
        if not self.worker:
            if not self.account.locked:
                self.execute(f"ALTER USER {self.sql} ACCOUNT LOCK", "locking it", _CREATE_USER)
            return f"ACCOUNT {self.sql}{', locked' if self.account.locked else ', not locked'}"
        if self.account.locked:
            raise AccountError(
                f"account {self.sql} is locked, and a worker cannot log in as it. When that is not meant any "
                f"more: ALTER USER {self.sql} ACCOUNT UNLOCK"
            )
        judgement, error = judge_password(self.params, self.account)
        if judgement == UNKNOWN:
            why = f" ({error})" if error else ": the server takes another account for it"
            self.module.warn(
                f"account {self.sql}: whether its password is the given one cannot be found out from this "
                f"host{why}. It was left as it is"
            )
        if judgement != WRONG:
            return f"ACCOUNT {self.sql}, with the password"
        is_other = self.database.engine == "mysql" and self.account.plugin not in _PASSWORD_PLUGINS
        part, shown = self._identified(self.params["password"], "caching_sha2_password" if is_other else "")
        alter = f"ALTER USER {self.sql}"
        self.execute(alter + part, "setting its password", _CREATE_USER, alter + shown)
        return f"ACCOUNT {self.sql}, with another password"

    def result(self, grants, before, after):
        """What both states return: (results, the diff's before and after)."""
        foreign = foreign_lines(grants, self.needs.ours, MONITORING)
        results = {"account": self.sql, "outbox": self.records.outbox, "foreign": foreign}
        shown = ("".join(f"{line}\n" for line in lines) for lines in (before, after))
        # In brackets: Python 3.7 takes no star after a bare `return`.
        return (results, *shown)


def make_present(module, database):
    """Make the account, or give it what it lacks: (results, the diff's before and after)."""
    change = Change(module, database)
    surplus = surplus_steps(change.grants, change.needs.unneeded) if module.params["revoke"] else []
    if not module.params["grant"]:
        first = [f"ACCOUNT {change.sql}"] if change.account else []
        grants = change.change_rights(surplus)
        return change.result(grants, [*first, *show_grants(change.grants)], [*first, *show_grants(grants)])
    level, _privileges = ON_OUTBOX["definer"]
    if level in change.needs.wanted and not change.records.outbox and not module.check_mode:
        raise AccountError(
            f"there is no {level_sql(level)} to grant rights on. Make it with the module outbox first"
        )
    if change.account is None:
        change.create()
        before = []
    else:
        before = [change.make_usable(), *show_grants(change.grants)]
    grants = change.change_rights(missing_steps(change.grants, change.needs.wanted) + surplus)
    last = ", with the password" if change.worker else ", locked"
    return change.result(grants, before, [f"ACCOUNT {change.sql}{last}", *show_grants(grants)])


def make_absent(module, database):
    """Remove the account, or of one that others need the rights that the collection has granted: (results,
    the diff's before and after).
    """
    change = Change(module, database)
    if change.account is None:
        return change.result(NO_GRANTS, [], [])
    first = f"ACCOUNT {change.sql}"
    before = [first, *show_grants(change.grants)]
    if change.use.tables:
        names = ", ".join(sorted(map(level_sql, change.use.tables)))
        module.warn(
            f"account {change.sql} was left: triggers of {names} run as it, and every write there would fail "
            "without it"
        )
        return change.result(change.grants, before, before)
    foreign = foreign_lines(change.grants, change.needs.ours, MONITORING)
    if not foreign:
        # Another host's run may have dropped it in the meantime.
        change.execute(f"DROP USER IF EXISTS {change.sql}", "removing it", _CREATE_USER)
        return change.result(NO_GRANTS, before, [])
    module.warn(
        f"account {change.sql} was left, because it has rights that this collection has not granted: "
        f"{'; '.join(foreign)}. Drop it by hand when they are not needed"
    )
    grants = change.change_rights(surplus_steps(change.grants, change.needs.ours))
    return change.result(grants, before, [first, *show_grants(grants)])
