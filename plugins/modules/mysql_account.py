#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mysql_account
short_description: Make the accounts of the workers and of the triggers, with the rights that they need
version_added: 1.0.0
description:
  - Makes an account of MySQL or MariaDB for the workers of a source, or the one as which its triggers run,
    and brings its password and its rights to what a declaration needs.
  - A right is revoked only when the collection has granted it itself, for a table that was declared before
    and is not any more, and only when nothing of that table waits for a worker and no trigger needs it. All
    other rights of the account stay as they are, and are returned as RV(foreign).
  - Nothing is changed unless all O(tables) are there.
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
    details: With O(purpose=worker) the password of an existing account is compared with its hash, or by
      logging in with it where the authentication plugin is not one of the servers' usual ones.
options:
  name:
    description:
      - The account's name.
    type: str
    required: true
  host:
    description:
      - The account's host part, which may be a pattern such as V(%).
    type: str
    default: localhost
  purpose:
    description:
      - V(worker) is an account to log in with, by O(password). It gets C(SELECT) on O(tables), and with
        O(outbox) C(SELECT), C(INSERT), C(UPDATE), C(DELETE) and C(EXECUTE) on the schema C(gearsync).
      - V(definer) is the account under whose rights triggers run. It is locked, with a random password that
        is kept nowhere, and gets C(SELECT) and C(TRIGGER) on O(tables), and with O(outbox) C(INSERT) on
        C(gearsync.outbox).
    type: str
    choices: [worker, definer]
    default: worker
  password:
    description:
      - The account's password. Needed for O(purpose=worker) with O(state=present).
      - It is set when the account is made, and when it differs.
    type: str
  tables:
    description:
      - The tables that the account gets its rights on, each as V(schema.table). Names with a dot in them can
        be written in backticks.
      - For V(worker) those with durable delivery, for V(definer) all that are declared.
    type: list
    elements: str
    default: []
  outbox:
    description:
      - Whether the account needs its rights on the outbox. Without this option it does when there are
        O(tables).
      - An account of V(worker) has them as long as the server has an outbox, in which changes may wait, and
        one of V(definer) as long as one of its triggers writes there.
    type: bool
  remaining_tables:
    description:
      - All tables that stay in the sync, for a run that removes the triggers of all others. In check mode
        these count as removed, although they are still there.
      - Without this option all stay that are synced.
    type: list
    elements: str
  grant:
    description:
      - Whether the account is made and locked or given its password, and missing rights are granted.
    type: bool
    default: true
  revoke:
    description:
      - Whether rights that are not needed any more are revoked. A definer must get its rights before its
        triggers are made, and keep the others until the former ones are dropped.
    type: bool
    default: true
  log_bin:
    description:
      - Whether the changes go to the binary log, and so to the server's replicas.
      - V(false) is for an account of one member of a replication alone. It needs the right to set
        C(sql_log_bin).
    type: bool
    default: true
  lock_wait_timeout:
    description:
      - Seconds in all to wait for what holds the server's tables of accounts, such as a backup.
      - One try waits for a second, on MariaDB for ten. Between two tries there is a pause.
    type: int
    default: 60
  state:
    description:
      - V(absent) removes the account. One that has rights of others, or as which triggers still run, stays
        with a warning, and loses what the collection has granted.
    type: str
    choices: [present, absent]
    default: present
notes:
  - The account that logs in needs C(CREATE USER), C(SELECT) on the schemas C(mysql) and C(gearsync), and the
    rights that it grants C(WITH GRANT OPTION). An error names the one that is missing.
  - A locked account of V(worker) is an error. Only who has locked it knows why.
seealso:
  - module: gearsync.mysql_redis.outbox
  - module: gearsync.mysql_redis.sync_table
"""

EXAMPLES = r"""
- name: The workers' account
  gearsync.mysql_redis.mysql_account:
    login_unix_socket: /run/mysqld/mysqld.sock
    name: gearsync
    host: "10.0.0.%"
    password: "{{ gearsync_worker_mysql.password }}"
    tables: [shop.customer, "`shop`.`order.items`"]

- name: The account as which the triggers run, before they are made
  gearsync.mysql_redis.mysql_account:
    login_unix_socket: /run/mysqld/mysqld.sock
    name: gearsync_definer
    purpose: definer
    tables: [shop.customer]
    revoke: false

- name: Remove the workers' account
  gearsync.mysql_redis.mysql_account:
    login_unix_socket: /run/mysqld/mysqld.sock
    name: gearsync
    host: "10.0.0.%"
    state: absent
"""

RETURN = r"""
queries:
  description: The statements that changed something, or would have in check mode, without passwords.
  returned: always
  type: list
  elements: str
  sample:
    - ALTER USER 'gearsync'@'%' IDENTIFIED BY 'hidden'
    - GRANT SELECT ON `shop`.`customer` TO 'gearsync'@'%'
account:
  description: The account as SQL has it.
  returned: success
  type: str
  sample: "'gearsync'@'%'"
outbox:
  description: Whether the server has an outbox.
  returned: success
  type: bool
  sample: true
foreign:
  description: Rights of the account that this module leaves alone, because the collection has not granted
    them.
  returned: success
  type: list
  elements: str
  sample: ["GRANT SELECT ON `billing`.`invoice`"]
blocked_by:
  description: The connections that held the server's tables, or may have held them.
  returned: when a lock could not be had within O(lock_wait_timeout)
  type: list
  elements: int
  sample: [42]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._account import (
    AccountError,
    explain,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._account_change import (
    make_absent,
    make_present,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._local_statements import log_right
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._lock_holders import lock_timeout_message
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    NO_LOCK,
    SQL_MODE,
    ServerError,
    check_lock_wait_timeout,
    connect,
    lock_wait_argument_spec,
    login_argument_spec,
)

# Seconds of one statement on MariaDB, which are for a lock but for a moment.
LONGEST_STATEMENT = 10


def argument_spec():
    return {
        **login_argument_spec(),
        **lock_wait_argument_spec(),
        "name": {"type": "str", "required": True},
        "host": {"type": "str", "default": "localhost"},
        "purpose": {"type": "str", "choices": ["worker", "definer"], "default": "worker"},
        "password": {"type": "str", "no_log": True},
        "tables": {"type": "list", "elements": "str", "default": []},
        "outbox": {"type": "bool"},
        "remaining_tables": {"type": "list", "elements": "str"},
        "grant": {"type": "bool", "default": True},
        "revoke": {"type": "bool", "default": True},
        "log_bin": {"type": "bool", "default": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def _check(module):
    """Fail for options that contradict each other."""
    params = module.params
    worker = params["purpose"] == "worker"
    if not params["name"]:
        module.fail_json(msg="name is empty: an account without a name is every user's", queries=[])
    if worker and params["state"] == "present" and not params["password"]:
        module.fail_json(msg="purpose=worker needs a password that is not empty", queries=[])
    if not worker and params["password"]:
        module.fail_json(msg="purpose=definer takes no password: its account is locked", queries=[])


def _keep_out_of_log(database):
    try:
        database.session("SET SESSION sql_log_bin = 0")
    except ServerError as error:
        right = log_right(database.engine, database.version)
        doing = "log_bin: sql_log_bin cannot be set"
        raise AccountError(explain(database, error, doing, f"{right} ON *.*")) from error


def _prepare_mariadb(module, database):
    # A GRANT to an account that is dropped at this moment would make it anew, without a password.
    database.set_sql_mode(f"{SQL_MODE},NO_AUTO_CREATE_USER")
    # Its statements about accounts ignore lock_wait_timeout.
    database.session(
        "SET SESSION max_statement_time = %s", min(module.params["lock_wait_timeout"], LONGEST_STATEMENT)
    )


def _fail(module, database, error):
    """End the module after an error that the steps do not explain."""
    what = f"account {module.params['name']}@{module.params['host']}"
    if error.code not in NO_LOCK:
        module.fail_json(msg=f"{what}: {error}", queries=database.queries)
    message, holders = lock_timeout_message(
        database,
        "mysql",
        "user",
        module.params["lock_wait_timeout"],
        f"Executed before: {len(database.queries)} statement(s); run this again to continue.",
    )
    module.fail_json(msg=f"{what}: {message}", blocked_by=holders, queries=database.queries)


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    check_lock_wait_timeout(module)
    _check(module)
    # As the servers store it.
    module.params["host"] = module.params["host"].lower()
    database = connect(module)
    try:
        if database.engine == "mariadb":
            _prepare_mariadb(module, database)
        if not module.params["log_bin"]:
            _keep_out_of_log(database)
        change = make_present if module.params["state"] == "present" else make_absent
        result, before, after = change(module, database)
    except AccountError as error:
        module.fail_json(msg=str(error), queries=database.queries)
    except ServerError as error:
        _fail(module, database, error)
    finally:
        database.close()
    if module._diff:
        result["diff"] = {"before": before, "after": after}
    module.exit_json(changed=bool(database.queries), queries=database.queries, **result)


if __name__ == "__main__":
    main()
