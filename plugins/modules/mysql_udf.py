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
  - Registers the functions of a shared library with C(CREATE FUNCTION … SONAME), and installs the library
    first when O(src) is given.
  - A library that has changed is never written over while the server has it mapped. The new file is put
    beside the old one, the tables whose triggers call its functions are locked so that no write meets a
    missing function, all functions of the library are dropped, the file is renamed, the functions are created
    again, and the tables are released. When the server refuses the new library, the old one is put back.
    Settings that were changed with C(gman_configure), and then the job servers that were set with
    C(gman_servers_set), are set again. When TLS was switched on and cannot be again, the job servers are not
    set, and the module fails. Settings that were locked are locked again, unless O(unlock) is set.
  - A server that keeps the library that it has loaded, because a statement is using a function of it
    at that moment, is an error. The next run completes it. On MySQL nothing was changed then.
  - Functions that are registered otherwise than wanted are replaced in the same way.
  - The next run completes one that was interrupted.
  - Only this server registers and drops the functions, also when it has replicas or is a node of a Galera
    cluster. Each of these statements is executed with C(sql_log_bin=0), and with C(wsrep_on=OFF) on a node,
    so it is in no binary log, adds no GTID and goes to no other node. Run this module on each server that
    needs the functions; one without them continues to replicate.
  - When the server has a binary log, the account needs the right to set C(sql_log_bin). That is
    C(BINLOG ADMIN) on MariaDB, C(SESSION_VARIABLES_ADMIN) on MySQL, or C(SUPER). On a Galera node it needs
    C(SUPER). To change a replica that is C(read_only), it needs C(READ_ONLY ADMIN) on MariaDB,
    C(CONNECTION_ADMIN) or C(SUPER) on MySQL. Without them the module fails before anything is changed.
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
      - With O(state=absent) these functions of the library are dropped, all of them when the list is left
        out.
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
          - What to do when the server has a function of that name itself, and thus refuses another (error
            1585).
          - V(skip) leaves the function out, V(fail) is an error.
        type: str
        choices: [skip, fail]
        default: fail
  src:
    description:
      - A library file on the managed host, to be installed as O(soname) into the server's plugin directory.
        The server must run on that host.
      - Without it the library must be in that directory already.
    type: path
  remove_file:
    description:
      - Whether O(state=absent) removes the library's file too, once no function of it is registered any more.
    type: bool
    default: false
  unlock:
    description:
      - Whether to load a Gearman library again whose settings are locked, with O(state=present), so that they
        can be changed. It keeps its settings and job servers, and is not locked afterwards.
      - Nothing is done for a library that is not locked, or that knows no lock.
    type: bool
    default: false
    version_added: 1.1.0
  force:
    description:
      - Drop functions even when triggers call them. Those triggers will then fail or do nothing.
    type: bool
    default: false
  lift_super_read_only:
    description:
      - What to do on a MySQL server with C(super_read_only), which registers and drops functions for no
        account. Without this option the module fails before anything is changed.
      - With it the module switches C(super_read_only) off for as long as it needs, at most
        O(lock_wait_timeout) and a few seconds, and on again; C(read_only) stays on. Meanwhile accounts with
        C(CONNECTION_ADMIN) or C(SUPER) can write to the server. A run that is killed meanwhile leaves it so.
      - A server on which C(read_only) was switched off meanwhile, because it was made the primary, is left
        writable, with a warning.
      - The account needs C(SYSTEM_VARIABLES_ADMIN) and C(CONNECTION_ADMIN) for it, or C(SUPER).
      - A server executes its C(init_file) at its start even then, which is another way to register them.
    type: bool
    default: false
  lock_wait_timeout:
    description:
      - Seconds in all to wait for running transactions that use a table whose triggers call the functions.
      - When they do not end in time, the error names them and lists what was changed until then.
      - One try waits for one second, because writers queue behind it for as long. Between two tries there is
        a longer pause, in which they go on.
    type: int
    default: 60
  state:
    description:
      - Whether the functions should be registered.
    type: str
    choices: [present, absent]
    default: present
notes:
  - Stored procedures, events and statements that call a function at the very moment in which its library is
    replaced may see an error; only triggers are waited for.
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

- name: Let the settings of the Gearman library be changed until they are locked again
  gearsync.mysql_redis.mysql_udf:
    login_unix_socket: /run/mysqld/mysqld.sock
    soname: libgearman_mysql_udf.so
    functions:
      - name: gman_do_background
      - name: gman_servers_set
    unlock: true

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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ServerError,
    check_lock_wait_timeout,
    connect,
    lock_wait_argument_spec,
    login_argument_spec,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._udf_exchange import register, unregister
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._udf_library import Library
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._udf_plan import (
    parameter_problem,
    show_state,
)


def argument_spec():
    return {
        **login_argument_spec(),
        **lock_wait_argument_spec(),
        "soname": {"type": "str", "required": True},
        "functions": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "returns": {
                    "type": "str",
                    "choices": ["string", "integer", "real", "decimal"],
                    "default": "string",
                },
                "aggregate": {"type": "bool", "default": False},
                "native": {"type": "str", "choices": ["skip", "fail"], "default": "fail"},
            },
        },
        "src": {"type": "path"},
        "remove_file": {"type": "bool", "default": False},
        "unlock": {"type": "bool", "default": False},
        "force": {"type": "bool", "default": False},
        "lift_super_read_only": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def _present(module, database, library):
    digest = library.digest()
    plan = register(module, database, library)
    return {
        "changed": plan.is_change(),
        "native": sorted(plan.skipped),
        "reloaded": plan.reload,
        "before": (plan.registered, digest),
        "after": (plan.after(), module.sha256(library.src) if library.src else digest),
    }


def _absent(module, database, library):
    digest = library.digest()
    removal, is_file_removed = unregister(module, database, library)
    return {
        "changed": bool(removal.drop) or is_file_removed,
        "native": [],
        "reloaded": False,
        "before": (removal.registered, digest),
        "after": (removal.after, None if is_file_removed else digest),
    }


def main():
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_if=[("state", "present", ("functions",))],
        supports_check_mode=True,
    )
    check_lock_wait_timeout(module)
    problem = parameter_problem(module.params["soname"], module.params["functions"] or [])
    if problem:
        module.fail_json(msg=problem)
    database = connect(module)
    try:
        library = Library(module, database.value("SELECT @@plugin_dir"))
        result = (_present if module.params["state"] == "present" else _absent)(module, database, library)
    except (ServerError, OSError) as error:
        module.fail_json(msg=f"library {module.params['soname']}: {error}", queries=database.queries)
    finally:
        database.close()
    before, after = result.pop("before"), result.pop("after")
    result.update(
        queries=database.queries,
        plugin_dir=library.plugin_dir,
        path=library.path,
        functions=sorted(row["name"] for row in after[0]),
    )
    if module._diff:
        result["diff"] = {
            name: show_state(rows, library.path, digest)
            for name, (rows, digest) in (("before", before), ("after", after))
        }
    module.exit_json(**result)


if __name__ == "__main__":
    main()
