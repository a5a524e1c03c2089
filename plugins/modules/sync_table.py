#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sync_table
short_description: Make the triggers that keep Redis in step with tables
version_added: 1.0.0
description:
  - Takes the declaration of a table, or of several, and makes the triggers of each, C(gearsync_ai_TABLE),
    C(gearsync_au_TABLE) and C(gearsync_ad_TABLE), one for each declared event. A name that would be too long
    for the server is cut and ends in a hash.
  - A declaration is checked against its table before anything of the table changes, and all that is wrong is
    reported at once. Check mode does nothing but that and the comparison.
  - The triggers of direct delivery never fail a write; those of durable delivery do so only when the change
    cannot be kept in the outbox. An update that leaves all declared columns byte for byte as they were sends
    nothing.
  - Triggers that the table has otherwise are left alone.
  - Run it on the primary; the triggers replicate. Replicas execute them only for statements in the binary
    log, that is with C(binlog_format=STATEMENT), and then send each change of direct delivery once more.
    With C(ROW) and C(MIXED) they apply the rows, of the outbox too.
  - A MariaDB replica with C(slave_run_triggers_for_rbr=ENFORCE) executes them for rows as well. It sends each
    change of direct delivery once more, and stops with error 1442 at a change of durable delivery.
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
  table:
    description:
      - The table, as V(schema.table). Names with a dot in them can be written in backticks.
      - Either this or O(tables) is needed.
    type: str
  delivery: &delivery
    description:
      - How a change gets to the workers.
      - V(durable) writes it into the table C(gearsync.outbox) in the writer's own transaction, from which a
        worker takes it. The module makes the schema C(gearsync) and brings it up to date.
      - V(direct) submits the change as a Gearman job. It is cheap, but a transaction
        that is rolled back has sent its jobs already, and a change is lost when no job server takes it.
      - A table can be switched from one to the other at any time. What the schema C(gearsync) knows of a
        table that is not durable any more is kept as long as changes or dead letters of it are there, which a
        worker needs it for; a later run forgets it.
    type: str
    default: durable
  source:
    description:
      - The name of the pipeline, that the workers' configuration has too. It is part of the names of the
        Gearman functions that wake the workers.
    type: str
    default: main
  wake:
    description:
      - Whether the triggers of V(durable) delivery wake the workers by the function C(gman_wake).
      - With V(false) they call no function, as a managed database wants it, on which none can be registered.
        Workers then find changes by looking, each C(worker.sweep) seconds at most.
    type: bool
    default: true
    version_added: 1.1.0
  shards:
    description:
      - Into how many parts the outbox is divided, each of which is drained by one worker process at a time. 1
        to 256.
    type: int
    default: 4
  function: &function
    description:
      - The Gearman function that the jobs of direct delivery are for.
    type: str
    default: syncToRedis
  events: &events
    description:
      - What is sent, any of V(insert), V(update) and V(delete).
      - The trigger of an event that is not in the list any more is dropped.
    type: list
    elements: str
    default: [insert, update, delete]
  columns: &columns
    description:
      - The columns that are sent; nothing leaves the database that is not named here. Needed when
        O(state=present).
    type: list
    elements: str
  write: &write
    description:
      - What a row becomes in Redis, one or more shapes. Needed when O(state=present).
      - The module checks it, and takes from it which old values an update or a delete must send. The writing
        is the worker's.
      - The templates name declared columns in braces, C(user:{id}).
      - C({[}) and C({]}) are literal braces, for example those of a hash tag of Redis Cluster,
        C({[}user{]}:{id}). C({{) and C(}}) are literal braces too, but Ansible takes them for its own unless
        C(!unsafe) stands before the text.
      - What O(computed) names may be used too.
    type: list
    elements: dict
    suboptions:
      type:
        description:
          - The shape, one of V(string), V(hash), V(json), V(set), V(zset), V(list) and V(stream).
        type: str
        required: true
      key:
        description:
          - The Redis key. That of a V(hash), a V(json) and a V(string) must name all columns of a PRIMARY KEY
            or of a UNIQUE key of NOT NULL columns; that of a V(set) or V(zset) together with
            O(write[].member), unless only inserts are sent.
          - Between two columns there must be something, C({a}:{b}), or other values would make the same text.
            The same holds for O(write[].member).
          - What is between them must be something that the values cannot hold, unless the rest of the
            template names a unique key. Numbers, dates, UUIDs and the values of an ENUM are known not to; of
            two texts nothing is known. See O(write[].distinct).
          - In the key of a V(string) C({column}) stands for the name of a column, and there is one Redis key
            for each. Such a key may do without a unique key (every row then writes the same Redis keys),
            which gives a warning.
        type: str
        required: true
      value:
        description:
          - What a V(string) without C({column}) in its key, or an entry of a V(list), holds.
        type: str
      member:
        description:
          - The member of a V(set) or a V(zset).
        type: str
      score:
        description:
          - The score of a V(zset).
        type: str
      ttl:
        description:
          - Seconds after which Redis forgets the key.
        type: int
      max:
        description:
          - The greatest length of a V(list).
        type: int
      maxlen:
        description:
          - The greatest length of a V(stream).
        type: int
      distinct:
        description:
          - That no value holds what separates two columns in O(write[].key) or O(write[].member), although
            their types allow it, so that different rows never have one key. Without it a template of several
            texts is refused, C({a}:{b}) for one, because C(x) and C(y:z) make the same key as C(x:y) and
            C(z), and a delete of one row would remove the other's.
        type: bool
  transform: &transform
    description:
      - A Python function, C(package.module:function), that the worker calls with each row before it is
        written. The module only looks at its form.
    type: str
  computed: &computed
    description:
      - The columns that O(transform) adds to a row.
    type: list
    elements: str
    default: []
  definer:
    description:
      - The account whose rights the triggers have, as V(user@host). It must exist, and needs the privileges
        TRIGGER and SELECT on the table, and for durable delivery INSERT on C(gearsync.outbox).
      - When it is left out, new triggers get the account that is logged in, and those of existing triggers
        are not compared.
    type: str
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
      - V(absent) drops the triggers that this module has made on the table, and forgets what the schema
        C(gearsync) knows of it, the latter only when no change and no dead letter of it is left.
    type: str
    choices: [present, absent]
    default: present
  tables:
    description:
      - Several tables, each with its declaration, in the order in which their triggers are made, in one step
        instead of a task with a loop.
      - A table whose declaration is refused, or whose lock cannot be had, does not keep the others from
        their triggers; the error has all of them.
    type: list
    elements: dict
    version_added: 1.1.0
    suboptions:
      table:
        description:
          - The table, as V(schema.table).
        type: str
        required: true
      delivery: *delivery
      function: *function
      events: *events
      columns: *columns
      write: *write
      transform: *transform
      computed: *computed
seealso:
  - module: gearsync.mysql_redis.mysql_trigger
  - module: gearsync.mysql_redis.mysql_udf
"""

EXAMPLES = r"""
- name: A hash for each customer, and an index by city
  gearsync.mysql_redis.sync_table:
    login_unix_socket: /run/mysqld/mysqld.sock
    table: shop.customer
    events: [insert, update, delete]
    columns: [id, name, city]
    write:
      - {type: hash, key: "customer:{id}", ttl: 86400}
      - {type: set, key: "customer:by-city:{city}", member: "{id}"}

- name: Keys of one hash tag, which a Redis cluster keeps in one slot
  gearsync.mysql_redis.sync_table:
    login_unix_socket: /run/mysqld/mysqld.sock
    table: shop.basket
    columns: [customer, item, pieces]
    write:
      - {type: hash, key: "basket:{[}{customer}{]}:{item}"}
      - {type: set, key: "items:{[}{customer}{]}", member: "{item}"}

- name: Send changes directly; they are lost when no job server runs
  gearsync.mysql_redis.sync_table:
    login_unix_socket: /run/mysqld/mysqld.sock
    table: shop.visit
    delivery: direct
    function: countVisits
    events: [insert]
    columns: [id, page]
    write:
      - {type: hash, key: "visit:{id}"}

- name: One string per column, its key the column's name
  gearsync.mysql_redis.sync_table:
    login_unix_socket: /run/mysqld/mysqld.sock
    table: test.user_list
    delivery: direct
    events: [insert, update]
    columns: [name, password]
    write:
      - {type: string, key: "{column}"}

- name: Make the triggers of two tables
  gearsync.mysql_redis.sync_table:
    login_unix_socket: /run/mysqld/mysqld.sock
    tables:
      - table: shop.customer
        columns: [id, name]
        write:
          - {type: hash, key: "customer:{id}"}
      - table: shop.product
        columns: [id, price]
        write:
          - {type: string, key: "price:{id}", value: "{price}"}

- name: Stop sending changes of a table
  gearsync.mysql_redis.sync_table:
    login_unix_socket: /run/mysqld/mysqld.sock
    table: shop.customer
    state: absent
"""

RETURN = r"""
queries:
  description: The statements that changed something, or would have in check mode.
  returned: always
  type: list
  elements: str
  sample: ["DROP TRIGGER `shop`.`gearsync_au_customer`"]
triggers:
  description: The names of the table's triggers that this module has made, by event.
  returned: success, with O(table)
  type: dict
  sample: {"insert": "gearsync_ai_customer", "update": "gearsync_au_customer"}
columns:
  description: How each declared column's value travels, one of integer, decimal, bit, float, text, timestamp,
    binary and json.
  returned: with O(table), when O(state=present)
  type: dict
  sample: {"id": "integer", "name": "text"}
tables:
  description: For each table its name and what is returned of one table, RV(triggers), RV(columns), RV(job),
    RV(shared_keys) and RV(blind_spots).
  returned: success, with O(tables)
  type: list
  elements: dict
  sample: [{"table": "shop.customer", "triggers": {"insert": "gearsync_ai_customer"}}]
blocked_by:
  description: The connections that held the table, or may have held it.
  returned: when a lock could not be had within O(lock_wait_timeout)
  type: list
  elements: int
  sample: [42]
job:
  description:
    - What a trigger sends when a row changes, as SQL in which the row is called V(gearsync_row), and the
      sql_mode under which it does.
    - For who sends a row once more, as the playbook V(smoke) does.
  returned: with O(table), when O(delivery=direct) and O(state=present)
  type: dict
  sample: {"payload_sql": "JSON_OBJECT('table', 'shop.user', …)", "sql_mode": "STRICT_TRANS_TABLES"}
shared_keys:
  description: The declared keys that name no column, so that every row of the table writes the same keys.
  returned: with O(table), when O(state=present)
  type: list
  elements: str
  sample: ["{column}"]
blind_spots:
  description: What the triggers will not see or do as one may expect. Each is also a warning.
  returned: with O(table), when O(state=present)
  type: list
  elements: str
  sample:
    - >-
      binlog_format=STATEMENT: replicas execute the triggers again and send each change once more; use ROW or
      MIXED
problems:
  description: All that is wrong with the declaration.
  returned: when the declaration is refused
  type: list
  elements: str
  sample:
    - "write[0].key: 'user:{nr}' names 'nr', which is not in columns; add it to columns, or name another"
"""

import itertools

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    EVENTS,
    split_table_name,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    Patience,
    ServerError,
    check_lock_wait_timeout,
    connect,
    lock_wait_argument_spec,
    login_argument_spec,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import SCHEMA, SchemaError
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._statement_failure import (
    StatementFailed,
    statement_failed,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._sync_checks import (
    DeclarationError,
    option_problems,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._sync_exchange import (
    carry_out,
    plan_absent,
    plan_present,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._sync_plan import show_plan

# These have no `choices`: the module's own errors name the table, and all that is wrong at once.
DECLARATION_SPEC = {
    "delivery": {"type": "str", "default": "durable"},
    "function": {"type": "str", "default": "syncToRedis"},
    "events": {"type": "list", "elements": "str", "default": list(EVENTS)},
    "columns": {"type": "list", "elements": "str"},
    "write": {
        "type": "list",
        "elements": "dict",
        "options": {
            "type": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "value": {"type": "str"},
            "member": {"type": "str"},
            "score": {"type": "str"},
            "ttl": {"type": "int"},
            "max": {"type": "int"},
            "maxlen": {"type": "int"},
            "distinct": {"type": "bool"},
        },
    },
    "transform": {"type": "str"},
    "computed": {"type": "list", "elements": "str", "default": []},
}


def argument_spec():
    return {
        **login_argument_spec(),
        **lock_wait_argument_spec(),
        "table": {"type": "str"},
        **DECLARATION_SPEC,
        "tables": {
            "type": "list",
            "elements": "dict",
            "options": {"table": {"type": "str", "required": True}, **DECLARATION_SPEC},
        },
        "source": {"type": "str", "default": "main"},
        "wake": {"type": "bool", "default": True},
        "shards": {"type": "int", "default": 4},
        "definer": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def refused_options(declared):
    """The name of each table whose options are wrong, whatever the server has, with what is wrong."""
    seen = set()
    for params in declared:
        name = params["table"]
        problems = [str(problem) for problem in option_problems(params)]
        if not problems and split_table_name(name) in seen:
            problems = ["is declared twice; put all writes of the table into one declaration"]
        if problems:
            yield name, problems
        else:
            seen.add(split_table_name(name))


def sync(module, database, params):
    """Bring one table to what is declared: (what the module returns of it, its diff). params: the module's
    options, with the declaration of this table. Raises DeclarationError and StatementFailed.
    """
    name, seconds = params["table"], params["lock_wait_timeout"]
    planned = plan_absent if params["state"] == "absent" else plan_present
    # Each table is waited for as long.
    database.patience = Patience(seconds)
    try:
        plan, result = planned(module, database, params, *split_table_name(name))
        carry_out(database, plan, seconds)
    except SchemaError as error:
        raise DeclarationError([str(error)]) from error
    except ServerError as error:
        raise statement_failed(database, error, f"table {name}", SCHEMA, seconds) from error
    return result, show_plan(plan)


def fail(module, queries, refused, failures):
    """End the module with all that went wrong. refused: tables' names, each with what is wrong with its
    declaration. failures: each a StatementFailed.
    """
    texts = ["table {}: {}".format(name, "; ".join(problems)) for name, problems in refused]
    texts += map(str, failures)
    result = {}
    if refused:
        result["problems"] = [problem for _name, problems in refused for problem in problems]
    blocked = [failure.blocked_by for failure in failures if failure.blocked_by is not None]
    if blocked:
        result["blocked_by"] = sorted(set(itertools.chain(*blocked)))
    module.fail_json(msg=". ".join(texts), queries=queries, **result)


def main():
    module = AnsibleModule(
        argument_spec=argument_spec(),
        required_one_of=[("table", "tables")],
        mutually_exclusive=[("tables", name) for name in ("table", "columns", "write", "transform")],
        supports_check_mode=True,
    )
    check_lock_wait_timeout(module)
    several = module.params["tables"]
    declared = [{**module.params, **each} for each in ([{}] if several is None else several)]
    wrong = list(refused_options(declared))
    if wrong:
        fail(module, [], wrong, [])
    database = connect(module)
    refused, failures, results, differences = [], [], [], []
    try:
        # One after the other: what a table's record is called depends on those that are there.
        for params in declared:
            name = params["table"]
            try:
                result, difference = sync(module, database, params)
                results.append({"table": name, **result})
                differences.append({"before_header": name, "after_header": name, **difference})
            except DeclarationError as error:
                refused.append((name, error.problems))
            except StatementFailed as failure:
                failures.append(failure)
    finally:
        database.close()
    if refused or failures:
        fail(module, database.queries, refused, failures)
    if several is None:
        (result,), (difference,) = results, differences
        del result["table"]
    else:
        result = {"tables": results}
        difference = [each for each in differences if each["before"] != each["after"]]
    if module._diff:
        result["diff"] = difference
    module.exit_json(changed=bool(database.queries), queries=database.queries, **result)


if __name__ == "__main__":
    main()
