#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: mysql_trigger
short_description: Manage a trigger of MySQL or MariaDB
version_added: 1.0.0
description:
  - Creates, replaces or drops one trigger, whatever it does.
  - What the server has is compared with what is wanted, and an equal trigger is not touched.
  - Replacing leaves no moment without a trigger. MariaDB has C(CREATE OR REPLACE TRIGGER). On MySQL the new
    trigger is created beside the old one under its name with C(__new), the old one is dropped, and the new
    one gets its name; a run that was interrupted in between is finished by the next one.
  - All statements are executed under one C(LOCK TABLES … WRITE) where the account has that privilege, so that
    a lock that cannot be had in time leaves everything as it was.
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
  name:
    description:
      - The trigger's name, without its schema, which is that of its table.
    type: str
    required: true
  table:
    description:
      - The table, as V(schema.table), or without its schema when O(schema) is set.
      - Names with a dot in them can be written in backticks.
    type: str
    required: true
  schema:
    description:
      - The schema of O(table).
    type: str
  timing:
    description:
      - Whether the trigger fires before or after the row changes.
    type: str
    choices: [before, after]
    default: after
  event:
    description:
      - What makes the trigger fire. Needed when O(state=present).
    type: str
    choices: [insert, update, delete]
  body:
    description:
      - The statement that is executed for each row, often C(BEGIN … END). Needed when O(state=present).
      - It is compared byte for byte, apart from white space and semicolons around it.
      - A C(DELIMITER) line belongs to the command line client and is not SQL; leave it out.
    type: str
  definer:
    description:
      - The account whose rights the trigger has, as V(user@host). It must exist.
      - When it is left out, a new trigger gets the account that is logged in, and an existing one's definer
        is not compared.
    type: str
  sql_mode:
    description:
      - The C(sql_mode) that the body runs in. The server stores it with the trigger, and it is compared.
    type: str
    default: STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION
  lock_wait_timeout:
    description:
      - Seconds in all to wait for running transactions that use the table.
      - When they do not end in time, the error names them and what was changed until then.
      - One try waits for one second, because writers queue behind it for as long. Between two tries there is
        a longer pause, in which they go on.
    type: int
    default: 60
  state:
    description:
      - Whether the trigger should be there.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: gearsync.mysql_redis.sync_table
"""

EXAMPLES = r"""
- name: Send each changed user to the worker, as by hand
  gearsync.mysql_redis.mysql_trigger:
    login_unix_socket: /run/mysqld/mysqld.sock
    name: user_list_data_to_redis
    table: test.user_list
    event: update
    body: |
      BEGIN
        SET @ret = gman_do_background('syncToRedis', JSON_OBJECT('name', NEW.name, 'password', NEW.password));
      END

- name: Remove it again, waiting half a minute for transactions that use the table
  gearsync.mysql_redis.mysql_trigger:
    login_unix_socket: /run/mysqld/mysqld.sock
    name: user_list_data_to_redis
    table: test.user_list
    lock_wait_timeout: 30
    state: absent
"""

RETURN = r"""
queries:
  description: The statements that changed something, or would have in check mode.
  returned: always
  type: list
  elements: str
  sample:
    - LOCK TABLES `test`.`user_list` WRITE
    - DROP TRIGGER `test`.`user_list_data_to_redis`
    - UNLOCK TABLES
differences:
  description: Which properties of an existing trigger were not as wanted.
  returned: when O(state=present)
  type: list
  elements: str
  sample: [body, sql_mode]
blocked_by:
  description: The connections that held the table, or may have held it.
  returned: when a lock could not be had within O(lock_wait_timeout)
  type: list
  elements: int
  sample: [42]
"""

import re

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import split_table_name
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    SQL_MODE,
    ServerError,
    check_lock_wait_timeout,
    connect,
    lock_wait_argument_spec,
    login_argument_spec,
    split_account,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._statement_failure import StatementFailed
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._table import find_table
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_ddl import (
    apply,
    definer_problem,
    diff_of,
    read_triggers,
    step_for,
    step_without,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    MAX_NAME,
    Trigger,
    clean_body,
)


def _table_of(module):
    params = module.params
    if params["schema"]:
        return params["schema"], params["table"]
    names = split_table_name(params["table"] or "")
    if names is None:
        module.fail_json(
            msg="table {!r} names no schema; write schema.table, or set schema".format(params["table"])
        )
    return names


def _check_wanted(module):
    params = module.params
    if len(params["name"]) > MAX_NAME:
        module.fail_json(
            msg="name {!r} has more than {} characters, which no server accepts".format(
                params["name"], MAX_NAME
            )
        )
    if params["state"] == "absent":
        return
    if not clean_body(params["body"]):
        module.fail_json(msg="body of trigger {} is empty".format(params["name"]))
    if re.search(r"^\s*DELIMITER\s", params["body"], re.IGNORECASE | re.MULTILINE):
        module.fail_json(
            msg="body of trigger {} has a DELIMITER line, which only the command line client "
            "understands; remove it".format(params["name"])
        )


def _present(module, database, schema, table, triggers):
    params = module.params
    table_row = find_table(database, schema, table)
    if table_row is None:
        module.fail_json(
            msg=f"table {schema}.{table} does not exist, or the account that is logged in has no right "
            "to see it"
        )
    if table_row["type"].upper() in ("VIEW", "SYSTEM VIEW", "SEQUENCE"):
        module.fail_json(
            msg="{}.{} is a {}, which cannot have triggers".format(schema, table, table_row["type"].lower())
        )
    schema, table = table_row["s"], table_row["t"]
    definer = params["definer"]
    if definer is not None:
        definer = "{}@{}".format(*split_account(definer))
        problem = definer_problem(database, definer)
        # In check mode an earlier task may be about to create the account.
        if problem and module.check_mode:
            module.warn("trigger {}: {}".format(params["name"], problem))
        elif problem:
            module.fail_json(msg="trigger {}: {}".format(params["name"], problem))
    mode = database.set_sql_mode(params["sql_mode"])
    wanted = Trigger(
        schema, params["name"], table, params["timing"], params["event"], params["body"], definer, mode, 0
    )
    existing = triggers.get(wanted.name)
    if existing is not None and existing.table != table:
        module.fail_json(
            msg=f"trigger {wanted.name} exists already, on table {schema}.{existing.table} and not on "
            f"{schema}.{table}; drop it there first, or take another name"
        )
    return step_for(database, triggers, wanted)


def main():
    argument_spec = login_argument_spec()
    argument_spec.update(lock_wait_argument_spec())
    argument_spec.update(
        name={"type": "str", "required": True},
        table={"type": "str", "required": True},
        schema={"type": "str"},
        timing={"type": "str", "choices": ["before", "after"], "default": "after"},
        event={"type": "str", "choices": ["insert", "update", "delete"]},
        body={"type": "str"},
        definer={"type": "str"},
        sql_mode={"type": "str", "default": SQL_MODE},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    )
    module = AnsibleModule(
        argument_spec=argument_spec,
        required_if=[("state", "present", ("event", "body"))],
        supports_check_mode=True,
    )
    check_lock_wait_timeout(module)
    _check_wanted(module)
    schema, table = _table_of(module)
    database = connect(module)
    result = {"changed": False, "queries": database.queries}
    try:
        triggers = read_triggers(database, schema, table)
        name = module.params["name"]
        if module.params["state"] == "absent":
            on_table = {each: trigger for each, trigger in triggers.items() if trigger.table == table}
            step = step_without(on_table, name)
        else:
            step = _present(module, database, schema, table, triggers)
            result["differences"] = step.different
        apply(database, schema, table, [step], module.params["lock_wait_timeout"])
    except StatementFailed as failed:
        module.fail_json(queries=database.queries, **failed.result)
    except ServerError as error:
        module.fail_json(
            msg="trigger {} on {}.{}: {}".format(module.params["name"], schema, table, error),
            queries=database.queries,
        )
    finally:
        database.close()
    result["changed"] = bool(step.statements)
    if module._diff:
        result["diff"] = diff_of([step])
    module.exit_json(**result)


if __name__ == "__main__":
    main()
