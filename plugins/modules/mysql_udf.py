#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mysql_udf
short_description: Install a library of loadable functions into MySQL or MariaDB and register its functions
version_added: 1.0.0
description:
  - Registers the functions of a shared library with C(CREATE FUNCTION … SONAME), and installs the library first when O(src) is given.
  - A library that has changed is never written over while the server has it mapped. The new file is put beside the old one, the tables whose
    triggers call its functions are locked so that no write meets a missing function, all functions of the library are dropped, the file
    is renamed, the functions are created again, and the tables are released. When the server refuses the new library, the old one is put back.
    Settings that were changed with C(gman_configure), and then the job servers that were set with C(gman_servers_set), are set again. When TLS was
    switched on and cannot be again, the job servers are not set, and the module fails and says so.
  - Functions that are registered otherwise than wanted are replaced in the same way.
  - What a run that was interrupted has left behind is completed by the next one.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
  - gearsync.mysql_redis.login
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  soname:
    description:
      - The library's file name. The server takes libraries from its plugin directory only.
    type: str
    required: true
  functions:
    description:
      - The functions to register. Needed when O(state=present).
      - With O(state=absent) these functions of the library are dropped, all of them when the list is left out.
    type: list
    elements: dict
    suboptions:
      name:
        description:
          - The function's name, as the library exports it.
        type: str
        required: true
      returns:
        description:
          - What it returns.
        type: str
        choices: [string, integer, real, decimal]
        default: string
      aggregate:
        description:
          - Whether it is an aggregate function.
        type: bool
        default: false
      native:
        description:
          - What to do when the server has a function of that name itself, and thus refuses another (error 1585).
          - V(skip) leaves the function out, V(fail) is an error.
        type: str
        choices: [skip, fail]
        default: fail
  src:
    description:
      - A library file on the managed host, to be installed as O(soname) into the server's plugin directory. The server must run on that host.
      - Without it the library must be in that directory already.
    type: path
  remove_file:
    description:
      - Whether O(state=absent) removes the library's file too, once no function of it is registered any more.
    type: bool
    default: false
  force:
    description:
      - Drop functions even when triggers call them. Those triggers will then fail or do nothing.
    type: bool
    default: false
  lock_wait_timeout:
    description:
      - Seconds in all to wait for running transactions that use a table whose triggers call the functions.
      - When they do not end in time, the error names them and says what was changed until then.
      - One try waits for one second, because writers queue behind it for as long. Between two tries there is a longer pause, in which they go on.
    type: int
    default: 60
  state:
    description:
      - Whether the functions should be registered.
    type: str
    choices: [present, absent]
    default: present
notes:
  - Stored procedures, events and statements that call a function at the very moment in which its library is replaced may see an error; only
    triggers are waited for.
seealso:
  - module: gearsync.mysql_redis.gearman_servers
"""

EXAMPLES = r"""
- name: The Gearman functions
  gearsync.mysql_redis.mysql_udf:
    login_unix_socket: /run/mysqld/mysqld.sock
    soname: libgearman_mysql_udf.so
    src: /usr/local/lib/gearsync/libgearman_mysql_udf.so
    functions:
      - name: gman_do
      - name: gman_do_background
      - name: gman_servers_set
      - {name: gman_sum, returns: integer, aggregate: true}

- name: The JSON functions, but not those that the server has itself
  gearsync.mysql_redis.mysql_udf:
    login_unix_socket: /run/mysqld/mysqld.sock
    soname: lib_mysqludf_json.so
    functions:
      - {name: json_object, native: skip}
      - {name: udf_json_object}
      - {name: json_members}

- name: Remove the Gearman functions and their library
  gearsync.mysql_redis.mysql_udf:
    login_unix_socket: /run/mysqld/mysqld.sock
    soname: libgearman_mysql_udf.so
    remove_file: true
    state: absent
"""

RETURN = r"""
queries:
  description: The statements that changed something, or would have in check mode.
  returned: always
  type: list
  elements: str
  sample: ["CREATE FUNCTION `gman_do` RETURNS STRING SONAME 'libgearman_mysql_udf.so'"]
plugin_dir:
  description: The directory that the server takes libraries from.
  returned: success
  type: str
  sample: /usr/lib/mysql/plugin/
path:
  description: The library's path.
  returned: success
  type: str
  sample: /usr/lib/mysql/plugin/libgearman_mysql_udf.so
functions:
  description: The functions of the library that are registered after the run.
  returned: success
  type: list
  elements: str
  sample: [gman_do, gman_do_background]
native:
  description: The functions that were left out because the server has functions of these names itself.
  returned: success
  type: list
  elements: str
  sample: [json_object]
reloaded:
  description: Whether the server was made to load a changed library.
  returned: success
  type: bool
  sample: false
blocked_by:
  description: The connections that held a table, or may have held it.
  returned: when a lock could not be had within O(lock_wait_timeout)
  type: list
  elements: int
  sample: [42]
"""

import contextlib
import json
import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._functions import (
    calls,
    create_sql,
    drop_sql,
    forget_sql,
    is_as_wanted,
    is_native,
    name_problem,
    recreate_sql,
    show,
    soname_problem,
    wanted_row,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ER_CANT_FIND_DL_ENTRY,
    ER_CANT_OPEN_LIBRARY,
    ER_FUNCTION_UNKNOWN,
    ER_LOCK_WAIT_TIMEOUT,
    ER_NATIVE_FCT_NAME_COLLISION,
    Patience,
    ServerError,
    check_lock_wait_timeout,
    connect,
    literal,
    lock_timeout_message,
    lock_wait_argument_spec,
    login_argument_spec,
    qualified,
    quote,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._table import registered_functions


class Library:
    """The library's file in the plugin directory, and the file that it is to be."""

    def __init__(self, module, plugin_dir):
        self.module = module
        self.soname = module.params["soname"]
        self.src = module.params["src"]
        self.plugin_dir = plugin_dir
        self.path = os.path.join(plugin_dir, self.soname)
        # Beside the library, so that a rename is all that is left to do. Hidden files cannot be loaded by name.
        self.new = os.path.join(plugin_dir, f".{self.soname}.new")
        self.old = os.path.join(plugin_dir, f".{self.soname}.old")

    def check(self):
        """Whether the file has to be installed; the end of the module when that cannot be done."""
        fail = self.module.fail_json
        if self.src is None:
            # A server on another host has its own directory, of which nothing is known here.
            if os.path.isdir(self.plugin_dir) and not os.path.isfile(self.path):
                fail(msg=f"library {self.soname} is not in the server's plugin directory {self.plugin_dir}; give its file as src, or put it there")
            return False
        if not os.path.isfile(self.src):
            fail(msg=f"src {self.src} does not exist on the managed host, or is no file")
        if not os.access(self.src, os.R_OK):
            fail(msg=f"src {self.src} cannot be read")
        if not os.path.isdir(self.plugin_dir):
            fail(msg=f"the server's plugin directory {self.plugin_dir} does not exist on this host; create it, or run this on the server's host")
        changed = self.module.sha256(self.src) != (self.module.sha256(self.path) if os.path.isfile(self.path) else None)
        if changed and not os.access(self.plugin_dir, os.W_OK):
            fail(msg=f"the server's plugin directory {self.plugin_dir} cannot be written; run this as root (become: true)")
        return changed

    def is_outdated(self, database):
        """Whether the running server has mapped a file that has lost its name since, as far as we may look."""
        try:
            with open(database.value("SELECT @@pid_file")) as pid_file:
                pid = int(pid_file.read().strip())
            with open(f"/proc/{pid}/maps") as maps:
                return any(line.rstrip().endswith(f"{os.path.realpath(self.path)} (deleted)") for line in maps)
        except (OSError, ValueError):
            return False

    def stage(self):
        """Put the new file beside the old one, complete and on disk."""
        shutil.copyfile(self.src, self.new)
        os.chmod(self.new, 0o644)
        with open(self.new, "rb") as staged:
            os.fsync(staged.fileno())

    def install(self):
        """Give the new file its name, and keep the old one for a way back. The old inode stays as it is: the server may have it mapped."""
        if os.path.exists(self.path):
            if os.path.exists(self.old):
                os.unlink(self.old)
            os.link(self.path, self.old)
        os.rename(self.new, self.path)

    def go_back(self):
        if os.path.exists(self.old):
            os.rename(self.old, self.path)
        elif os.path.exists(self.path):
            os.unlink(self.path)

    def tidy(self):
        for path in (self.new, self.old):
            if os.path.exists(path):
                os.unlink(path)


def _check_parameters(module):
    problem = soname_problem(module.params["soname"])
    if problem:
        module.fail_json(msg=problem)
    seen = set()
    for function in module.params["functions"] or []:
        problem = name_problem(function["name"])
        if problem:
            module.fail_json(msg=f"function {problem}")
        if function["name"].lower() in seen:
            module.fail_json(msg="function {} is named twice".format(function["name"]))
        seen.add(function["name"].lower())


def _calling_triggers(database, names):
    """Triggers that call one of these functions: a list of (schema, table, trigger)."""
    if not names:
        return []
    rows = database.rows(
        "SELECT TRIGGER_SCHEMA AS s, EVENT_OBJECT_TABLE AS t, TRIGGER_NAME AS name, ACTION_STATEMENT AS body FROM information_schema.TRIGGERS")
    return [(row["s"], row["t"], row["name"]) for row in rows if calls(row["body"], names)]


def _tables(triggers):
    return sorted({(schema, table) for schema, table, _name in triggers})


def _is_loaded(database, name):
    """Whether the server knows a function that mysql.func names; it does not when its library could not be loaded at start-up."""
    try:
        # Only prepared, never executed. An error of the function's own says that it is there.
        database.session("PREPARE gearsync_probe FROM %s", f"SELECT {quote(name)}()")
        database.session("DEALLOCATE PREPARE gearsync_probe")
    except ServerError as error:
        return error.code != ER_FUNCTION_UNKNOWN
    return True


def _drop(database, name):
    error = database.attempt(drop_sql(name))
    if error is not None and error.code != ER_FUNCTION_UNKNOWN:
        raise error
    if error is not None:
        # MySQL drops only what it has loaded.
        database.change(forget_sql(name))


def _lock(module, database, tables):
    """Lock tables, all or none; the end of the module when that does not succeed in time."""
    if not tables:
        return
    try:
        database.change("LOCK TABLES {}".format(", ".join(f"{qualified(schema, table)} WRITE" for schema, table in tables)))
    except ServerError as error:
        if error.code != ER_LOCK_WAIT_TIMEOUT:
            raise
        blocked = [(schema, table, lock_timeout_message(database, schema, table, module.params["lock_wait_timeout"]))
                   for schema, table in tables]
        # The server does not say which of the tables it could not lock: the one that somebody holds.
        held = [message for _schema, _table, message in blocked if message[1]] or [blocked[0][2]]
        module.fail_json(msg=held[0][0], blocked_by=sorted({number for message in held for number in message[1]}), queries=[])


def _explain(error, library):
    if error.code == ER_CANT_OPEN_LIBRARY:
        return (f"the server cannot load {library.path}: {error.text}. A library that is needed by it and not found is added to the linker's path by a file in "
                "/etc/ld.so.conf.d and ldconfig; one that is found but not mapped may be refused by AppArmor or SELinux")
    if error.code == ER_CANT_FIND_DL_ENTRY:
        return f"{library.path} does not export that function or its _init: {error.text}"
    return str(error)


class Plan:
    """What has to be done so that the wanted functions, and no broken ones, are registered."""

    def __init__(self, module, database, library, registered):
        self.skipped = []
        self.drop = []
        self.create = []
        self.keep = []
        wanted = set()
        for function in module.params["functions"] or []:
            name = function["name"]
            row = registered.get(name.lower())
            if row is None and is_native(name, database.engine, database.version):
                if function["native"] == "fail":
                    module.fail_json(msg=f"function {name}: {database.engine} {database.version_text} has a function of that name itself and refuses "
                                         f"another (error {ER_NATIVE_FCT_NAME_COLLISION}); leave it out, or set native: skip")
                self.skipped.append(name)
                continue
            wanted.add(name.lower())
            if row is not None and is_as_wanted(row, function, library.soname) and _is_loaded(database, row["name"]):
                self.keep.append(row)
                continue
            if row is not None:
                self.drop.append(row)
            self.create.append((function, create_sql(name, function["returns"], function["aggregate"], library.soname)))
        # All that is registered with this library, and of it what nobody asks for; that is left as it is.
        self.registered = [row for _name, row in sorted(registered.items()) if row["dl"] == library.soname]
        self.extra = [row for row in self.registered if row["name"].lower() not in wanted]
        self.install = self.reload = False

    def changes(self):
        return self.install or self.reload or bool(self.drop or self.create)


def _create(database, plan):
    """Create what the plan wants; yields each function when it is there."""
    for function, statement in plan.create:
        error = database.attempt(statement)
        if error is None:
            yield function["name"]
        elif error.code == ER_NATIVE_FCT_NAME_COLLISION and function["native"] == "skip":
            plan.skipped.append(function["name"])
        else:
            raise error


def _recreate(module, database, plan):
    """Create again what was registered before; yields each function when it is there."""
    for row in plan.keep + plan.extra:
        error = database.attempt(recreate_sql(row))
        if error is None:
            yield row["name"]
        elif error.code == ER_CANT_FIND_DL_ENTRY and row in plan.extra:
            module.warn(f"function {row['name']} was dropped: the new library {row['dl']} does not have it, and functions does not list it")
        else:
            raise error


def _reopen(module, database, names):
    """Let the server read again the triggers that it has parsed while a function that they call was missing."""
    for schema, table in _tables(_calling_triggers(database, names)):
        error = database.attempt(f"FLUSH NO_WRITE_TO_BINLOG TABLES {qualified(schema, table)}")
        if error is not None:
            module.warn(f"table {schema}.{table}: its triggers may have been read while a function was missing, and go on without it until "
                        f"FLUSH TABLES, which failed: {error}")


class Memory:
    """What a Gearman library has been told, and forgets when it is unloaded: its settings and the job servers."""

    def __init__(self, module, database, rows):
        self.module = module
        self.database = database
        self.settings, self.lists = {}, {}
        if {"gman_stats", "gman_servers_set"}.issubset(row["name"] for row in rows):
            stats = self._stats()
            self.settings, self.lists = stats.get("settings", {}), stats.get("server_lists", {})

    def _stats(self):
        try:
            stats = json.loads(self.database.value("SELECT gman_stats()"))
            return stats if isinstance(stats, dict) else {}
        except (ServerError, TypeError, ValueError):
            return {}  # another library's function of that name, or a broken one

    def tell(self):
        """Tell it again, settings before job servers: nothing may go to these in plain text. Returns what is wrong, '' if nothing is."""
        if not self.settings and not self.lists:
            return ""
        secure = self.settings.get("tls") == "on"
        for name, value in sorted(self._forgotten().items(), key=lambda setting: (setting[0] == "tls", setting[0])):
            # Not DO, which forgets errors.
            error = self.database.attempt(f"SELECT gman_configure({literal(name)}, {literal(str(value))})")
            if error is not None and not (secure and name.startswith("tls")):
                self.module.warn(f"the library does not take the setting {name} that it had, {value}: {error}")
            elif error is not None:
                return (f"The functions speak to no job server until TLS is set and the job servers are set again, because {name}, {value!r} before, "
                        f"cannot be set again: {error}")
        if secure and not self.module.check_mode and self._stats().get("settings", {}).get("tls") != "on":
            return "The functions speak to no job server, because they spoke TLS before and the library cannot"
        for function, servers in sorted(self.lists.items()):
            arguments = literal(servers) + (f", {literal(function)}" if function else "")
            error = self.database.attempt(f"DO gman_servers_set({arguments})")
            if error is not None:
                self.module.warn(f"the library does not take the job servers that were set, {servers}: {error}")
        return ""

    def _forgotten(self):
        """The settings that the library, as it is loaded now, has otherwise."""
        if self.module.check_mode:
            return {}  # a library that is not loaded yet cannot be asked for its defaults
        now = self._stats().get("settings", {})
        return {name: value for name, value in self.settings.items() if now.get(name) != value and (name in now or name == "tls")}


def _exchange(module, database, locker, plan, library):
    """Drop what has to go, exchange the file, create everything; nobody writes to the tables whose triggers call these functions meanwhile."""
    gone = plan.registered + [row for row in plan.drop if row not in plan.registered] if plan.reload else plan.drop
    tables = _tables(_calling_triggers(database, [row["name"] for row in gone]))
    memory = Memory(module, database, gone)
    _lock(module, locker, tables)
    database.queries.extend(locker.queries)
    if tables:
        # A backup may hold up what follows, and these tables' writers with it: no second try.
        database.patience, patience = Patience(0), database.patience
    dropped, created, exchanged = [], [], False
    problem = ""
    try:
        for row in gone:
            _drop(database, row["name"])
            dropped.append(row)
        if plan.install and not module.check_mode:
            library.install()
            exchanged = True
        if plan.reload:
            created.extend(_recreate(module, database, plan))
        created.extend(_create(database, plan))
    except (ServerError, OSError) as error:
        reason = _explain(error, library) if isinstance(error, ServerError) else str(error)
        problem = f"library {library.soname}: {reason}. {_go_back(database, library, dropped, created, exchanged)}"
    untold = memory.tell()
    if tables:
        # A locker that is closed releases them too.
        locker.attempt("UNLOCK TABLES")
        database.queries.append("UNLOCK TABLES")
        database.patience = patience
    if problem or untold:
        module.fail_json(msg=" ".join(part for part in (problem, untold) if part), queries=database.queries)


def _go_back(database, library, dropped, created, exchanged):
    """Register what was registered before, with the library that it was registered with."""
    try:
        for name in created:
            _drop(database, name)
        if exchanged:
            library.go_back()
        for row in dropped:
            database.change(recreate_sql(row))
    except (ServerError, OSError) as error:
        return f"What was there before could not be put back either ({error}); run this again with a library that loads"
    return "The library and the functions that were there before were put back."


def _present(module, database, library):
    install = library.check()
    registered = registered_functions(database)
    if registered is None:
        module.fail_json(msg="the account that is logged in may not read mysql.func, which registering functions needs")
    plan = Plan(module, database, library, registered)
    plan.install = install
    plan.reload = bool(plan.registered) and (install or library.is_outdated(database))
    if not module.check_mode and not install:
        library.tidy()
    if not plan.changes():
        return plan
    try:
        if install and not module.check_mode:
            library.stage()
        with contextlib.closing(connect(module)) as locker:
            _exchange(module, database, locker, plan, library)
        plan.create = [(function, statement) for function, statement in plan.create if function["name"] not in plan.skipped]
        if not module.check_mode:
            _reopen(module, database, [function["name"] for function, _statement in plan.create] + [row["name"] for row in plan.registered if plan.reload])
    finally:
        if install and not module.check_mode:
            library.tidy()
    return plan


def _absent(module, database, library):
    registered = registered_functions(database)
    if registered is None:
        module.fail_json(msg="the account that is logged in may not read mysql.func, which dropping functions needs")
    before = [row for row in registered.values() if row["dl"] == library.soname]
    names = {function["name"].lower() for function in module.params["functions"]} if module.params["functions"] else None
    drop = [row for row in before if names is None or row["name"].lower() in names]
    users = _calling_triggers(database, [row["name"] for row in drop])
    if users and not module.params["force"]:
        callers = ", ".join(f"{schema}.{name} on table {table}" for schema, table, name in users)
        module.fail_json(msg=f"library {library.soname}: triggers still call its functions: {callers}. Drop them first, or set force: true", queries=[])
    for row in drop:
        _drop(database, row["name"])
    after = [row for row in before if row not in drop]
    removed = module.params["remove_file"] and not after and os.path.lexists(library.path)
    if removed and not module.check_mode:
        os.unlink(library.path)
        library.tidy()
    return drop, before, after, removed


def _diff(before, after, library, before_file, after_file):
    def text(rows, digest):
        return show(rows) + (f"-- sha256 of {library.path}: {digest}\n" if digest else "")
    return {"before": text(before, before_file), "after": text(after, after_file)}


def main():
    argument_spec = login_argument_spec()
    argument_spec.update(lock_wait_argument_spec())
    argument_spec.update(
        soname={"type": "str", "required": True},
        functions={"type": "list", "elements": "dict", "options": {
            "name": {"type": "str", "required": True},
            "returns": {"type": "str", "choices": ["string", "integer", "real", "decimal"], "default": "string"},
            "aggregate": {"type": "bool", "default": False},
            "native": {"type": "str", "choices": ["skip", "fail"], "default": "fail"},
        }},
        src={"type": "path"},
        remove_file={"type": "bool", "default": False},
        force={"type": "bool", "default": False},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    )
    module = AnsibleModule(argument_spec=argument_spec, required_if=[("state", "present", ("functions",))], supports_check_mode=True)
    check_lock_wait_timeout(module)
    _check_parameters(module)
    database = connect(module)
    try:
        library = Library(module, database.value("SELECT @@plugin_dir"))
        before_file = module.sha256(library.path) if os.path.isfile(library.path) else None
        if module.params["state"] == "present":
            plan = _present(module, database, library)
            before, changed, reloaded = plan.registered, plan.changes(), plan.reload
            after = plan.keep + plan.extra + [wanted_row(function, library.soname) for function, _statement in plan.create]
            after_file = module.sha256(library.src) if library.src else before_file
            skipped = plan.skipped
        else:
            drop, before, after, removed = _absent(module, database, library)
            changed, reloaded, skipped = bool(drop) or removed, False, []
            after_file = None if removed else before_file
    except (ServerError, OSError) as error:
        module.fail_json(msg=f"library {module.params['soname']}: {error}", queries=database.queries)
    finally:
        database.close()
    result = {
        "changed": changed,
        "queries": database.queries,
        "plugin_dir": library.plugin_dir,
        "path": library.path,
        "native": sorted(skipped),
        "functions": sorted(row["name"] for row in after),
        "reloaded": reloaded,
    }
    if module._diff:
        result["diff"] = _diff(before, after, library, before_file, after_file)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
