# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Register, replace and drop the functions of a library on the server."""

from __future__ import annotations

import contextlib
import os

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._functions import (
    drop_sql,
    forget_sql,
    recreate_sql,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_state import GearmanState
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._local_statements import LocalStatements
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._lock_holders import lock_timeout_message
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ER_CANT_FIND_DL_ENTRY,
    ER_CANT_OPEN_LIBRARY,
    ER_FUNCTION_UNKNOWN,
    ER_LOCK_WAIT_TIMEOUT,
    ER_NATIVE_FCT_NAME_COLLISION,
    Patience,
    ServerError,
    connect,
    qualified,
    quote,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._table import registered_functions
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._udf_plan import (
    Plan,
    PlanError,
    Removal,
    calling_triggers,
    registered_as_wanted,
    tables_of,
)


def read_registered(module, database, purpose):
    """The server's loadable functions. Ends the module when the account may not read them. purpose: what
    needs them.
    """
    registered = registered_functions(database)
    if registered is None:
        module.fail_json(
            msg=f"the account that is logged in may not read mysql.func, which {purpose} functions needs"
        )
    return registered


def _callers(database, names):
    """The triggers that call one of these functions, as (schema, table, trigger)."""
    if not names:
        return []
    return calling_triggers(
        database.rows(
            "SELECT TRIGGER_SCHEMA AS s, EVENT_OBJECT_TABLE AS t, TRIGGER_NAME AS name, ACTION_STATEMENT AS "
            "body FROM information_schema.TRIGGERS"
        ),
        names,
    )


def _is_loaded(database, name):
    """Whether the server knows a function that mysql.func names; it does not when its library could not
    be loaded at start-up.
    """
    try:
        # Only prepared, never executed. An error of the function itself shows that it is loaded.
        database.session("PREPARE gearsync_probe FROM %s", f"SELECT {quote(name)}()")
        database.session("DEALLOCATE PREPARE gearsync_probe")
    except ServerError as error:
        return error.code != ER_FUNCTION_UNKNOWN
    return True


def _drop(local, name):
    error = local.attempt(drop_sql(name))
    if error is not None and error.code != ER_FUNCTION_UNKNOWN:
        raise error
    if error is not None:
        # MySQL drops only what it has loaded.
        local.change(forget_sql(name))


def _lock(module, database, tables):
    """Lock tables, all or none. Ends the module when that does not succeed in time."""
    try:
        database.change(
            "LOCK TABLES {}".format(
                ", ".join(f"{qualified(schema, table)} WRITE" for schema, table in tables)
            )
        )
    except ServerError as error:
        if error.code != ER_LOCK_WAIT_TIMEOUT:
            raise
        blocked = [
            lock_timeout_message(database, schema, table, module.params["lock_wait_timeout"])
            for schema, table in tables
        ]
        # The server does not name the table that it could not lock: it is one that a connection holds.
        held = [message for message in blocked if message[1]] or blocked[:1]
        module.fail_json(
            msg=held[0][0],
            blocked_by=sorted({number for message in held for number in message[1]}),
            queries=[],
        )


@contextlib.contextmanager
def _locked(module, database, tables):
    """Keep writers away from tables, by a connection of its own: one that holds locks may use no other
    table.
    """
    if not tables:
        yield
        return
    with contextlib.closing(connect(module)) as locker:
        _lock(module, locker, tables)
        database.queries.extend(locker.queries)
        # A backup may hold up what follows, and the tables' writers with it: no second try.
        database.patience, patience = Patience(0), database.patience
        try:
            yield
        finally:
            # Closing the connection would release them too.
            locker.attempt("UNLOCK TABLES")
            database.queries.append("UNLOCK TABLES")
            database.patience = patience


class Exchange:
    """One replacement of functions and file, and what it has done so far."""

    def __init__(self, module, local, plan, library):
        """local: how functions are registered and dropped on this server alone."""
        self.module = module
        self.local = local
        self.database = local.database
        self.plan = plan
        self.library = library
        self.dropped, self.created, self.is_installed = [], [], False

    def run(self):
        """Replace what the plan names while no trigger can call these functions. Ends the module when
        that fails.
        """
        rows = self.plan.to_drop()
        tables = tables_of(_callers(self.database, [row["name"] for row in rows]))
        state = GearmanState(self.module, self.database, rows)
        with self.local.writable(), _locked(self.module, self.database, tables):
            if self._may_not_be_dropped():
                self.module.fail_json(msg=self._in_use(), queries=self.database.queries)
            problems = [self._replace(rows)]
            is_kept = self.plan.reload and not self.module.check_mode and self._is_still_loaded(state)
            problems.append(self._in_use() if is_kept else state.restore())
        if any(problems):
            self.module.fail_json(msg=" ".join(filter(None, problems)), queries=self.database.queries)
        if not self.module.check_mode:
            self._reopen_triggers()

    def _replace(self, rows):
        """The problem that made it go back, '' without one."""
        try:
            for row in rows:
                _drop(self.local, row["name"])
                self.dropped.append(row)
            if self.plan.install and not self.module.check_mode:
                self.library.install()
                self.is_installed = True
            for row in self.plan.to_recreate():
                self._recreate(row)
            for function in list(self.plan.create):
                self._create(function)
        except (ServerError, OSError) as error:
            return f"library {self.library.soname}: {self._explain(error)}. {self._go_back()}"
        return ""

    def _may_not_be_dropped(self):
        """Whether a statement is using a function on MySQL, which loses count of a function that is dropped
        then, and keeps the library until it is restarted.
        """
        return (
            self.plan.reload
            and self.database.engine == "mysql"
            and not self.module.check_mode
            and bool(
                self.database.rows(
                    "SELECT 1 FROM performance_schema.user_defined_functions WHERE udf_library = %s AND "
                    "udf_usage_count > 1 LIMIT 1",
                    self.library.soname,
                )
            )
        )

    def _is_still_loaded(self, state):
        """Whether the server keeps the library that it was to load again."""
        return self.library.is_outdated(self.database) or (state.is_locked() and state.is_locked_now())

    def _in_use(self):
        return (
            f"library {self.library.soname}: the server keeps what it has loaded, because the library "
            "is in use by a statement. Run this again when that has ended (SHOW FULL PROCESSLIST), or "
            "restart the server"
        )

    def _recreate(self, row):
        error = self.local.attempt(recreate_sql(row))
        if error is None:
            self.created.append(row["name"])
        elif error.code == ER_CANT_FIND_DL_ENTRY and row in self.plan.extra:
            self.plan.extra.remove(row)
            self.module.warn(
                f"function {row['name']} was dropped: the new library {row['dl']} does not have it, and "
                "functions does not list it"
            )
        else:
            raise error

    def _create(self, function):
        error = self.local.attempt(self.plan.statement(function))
        if error is None:
            self.created.append(function["name"])
        elif error.code == ER_NATIVE_FCT_NAME_COLLISION and function["native"] == "skip":
            self.plan.skip(function["name"])
        else:
            raise error

    def _go_back(self):
        """Register what was registered before, with the library that it was registered with."""
        try:
            for name in self.created:
                _drop(self.local, name)
            if self.is_installed:
                self.library.restore()
            for row in self.dropped:
                self.local.change(recreate_sql(row))
        except (ServerError, OSError) as error:
            return (
                f"What was there before could not be put back either ({error}); run this again with a "
                "library that loads"
            )
        return "The library and the functions that were there before were put back."

    def _explain(self, error):
        code = error.code if isinstance(error, ServerError) else None
        path = self.library.path
        if code == ER_CANT_OPEN_LIBRARY:
            return (
                f"the server cannot load {path}: {error.text}. Add the directory of a library that it needs "
                "and does not find to the linker's path, by a file in /etc/ld.so.conf.d and ldconfig; "
                "AppArmor or SELinux may refuse one that is found but not mapped"
            )
        if code == ER_CANT_FIND_DL_ENTRY:
            return f"{path} does not export that function or its _init: {error.text}"
        return str(error)

    def _reopen_triggers(self):
        """Let the server read again the triggers that it has parsed while a function that they call was
        missing.
        """
        for schema, table in tables_of(_callers(self.database, self.plan.replaced())):
            error = self.database.attempt(f"FLUSH NO_WRITE_TO_BINLOG TABLES {qualified(schema, table)}")
            if error is not None:
                self.module.warn(
                    f"table {schema}.{table}: its triggers may have been read while a function was missing, "
                    "and go on without it until "
                    f"FLUSH TABLES, which failed: {error}"
                )


def register(module, database, library):
    """Register the wanted functions, with the file that is given. Returns the plan."""
    install = library.check()
    registered = read_registered(module, database, "registering")
    functions = module.params["functions"]
    loaded = [
        name
        for name in registered_as_wanted(functions, registered, library.soname)
        if _is_loaded(database, name)
    ]
    try:
        plan = Plan(functions, registered, library.soname, server=database, loaded=loaded)
    except PlanError as error:
        module.fail_json(msg=str(error))
    plan.install = install
    is_to_unlock = module.params["unlock"] and GearmanState(module, database, plan.registered).is_locked()
    plan.reload = bool(plan.registered) and (install or is_to_unlock or library.is_outdated(database))
    if not module.check_mode and not install:
        library.clean_up()
    if not plan.is_change():
        return plan
    local = LocalStatements(module, database, module.params["lift_super_read_only"])
    try:
        if install and not module.check_mode:
            library.stage()
        Exchange(module, local, plan, library).run()
    finally:
        if install and not module.check_mode:
            library.clean_up()
    return plan


def unregister(module, database, library):
    """Drop functions of a library, and its file when that is wanted. Returns the removal and whether the
    file goes too.
    """
    removal = Removal(
        module.params["functions"] or [], read_registered(module, database, "dropping"), library.soname
    )
    callers = _callers(database, [row["name"] for row in removal.drop])
    if callers and not module.params["force"]:
        names = ", ".join(f"{schema}.{name} on table {table}" for schema, table, name in callers)
        module.fail_json(
            msg=f"library {library.soname}: triggers still call its functions: {names}. Drop them "
            "first, or set force: true",
            queries=[],
        )
    if removal.drop:
        local = LocalStatements(module, database, module.params["lift_super_read_only"])
        with local.writable():
            for row in removal.drop:
                _drop(local, row["name"])
    is_removed = module.params["remove_file"] and not removal.after and os.path.lexists(library.path)
    if is_removed and not module.check_mode:
        library.remove()
    return removal, is_removed
