#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: sync_table
short_description: Make the triggers that keep Redis in step with a table
version_added: 1.0.0
description:
  - Takes the declaration of one table and makes its triggers C(gearsync_ai_TABLE), C(gearsync_au_TABLE) and C(gearsync_ad_TABLE), one for each
    declared event. A name that would be too long for the server is cut and ends in a hash.
  - The declaration is checked against the table before anything changes, and all that is wrong with it is reported at once. Check mode
    does nothing but that and the comparison.
  - The triggers of direct delivery never fail a write; those of durable delivery do so only when the change cannot be kept in the outbox.
    An update that leaves all declared columns byte for byte as they were sends nothing.
  - Triggers that the table has otherwise are left alone.
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
    type: str
    required: true
  delivery:
    description:
      - How a change gets to the workers.
      - V(durable) writes it into the table C(gearsync.outbox) in the writer's own transaction, from which a worker takes it. The module makes
        the schema C(gearsync) and brings it up to date.
      - V(direct) submits the change as a Gearman job. It is cheap, but a transaction
        that is rolled back has sent its jobs already, and a change is lost when no job server takes it.
      - A table can be switched from one to the other at any time. What the schema C(gearsync) knows of a table that is not durable any more is kept
        as long as changes or dead letters of it are there, which a worker needs it for; a later run forgets it.
    type: str
    default: durable
  source:
    description:
      - The name of the pipeline, that the workers' configuration has too. It is part of the names of the Gearman functions that wake the workers.
    type: str
    default: main
  shards:
    description:
      - Into how many parts the outbox is divided, each of which is drained by one worker process at a time. 1 to 256.
    type: int
    default: 4
  function:
    description:
      - The Gearman function that the jobs of direct delivery are for.
    type: str
    default: syncToRedis
  events:
    description:
      - What is sent, any of V(insert), V(update) and V(delete).
      - The trigger of an event that is not in the list any more is dropped.
    type: list
    elements: str
    default: [insert, update, delete]
  columns:
    description:
      - The columns that are sent; nothing leaves the database that is not named here. Needed when O(state=present).
    type: list
    elements: str
  write:
    description:
      - What a row becomes in Redis, one or more shapes. Needed when O(state=present).
      - The module checks it, and takes from it which old values an update or a delete must send. The writing is the worker's.
      - The templates name declared columns in braces, C(user:{id}).
      - C({[}) and C({]}) are literal braces, for example those of a hash tag of Redis Cluster, C({[}user{]}:{id}). C({{) and C(}}) are literal
        braces too, but Ansible takes them for its own unless C(!unsafe) stands before the text.
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
          - The Redis key. That of a V(hash), a V(json) and a V(string) must name all columns of a PRIMARY KEY or of a UNIQUE key
            of NOT NULL columns; that of a V(set) or V(zset) together with O(write[].member), unless only inserts are sent.
          - Between two columns there must be something, C({a}:{b}), or other values would make the same text. The same holds for O(write[].member).
          - What is between them must be something that the values cannot hold, unless the rest of the template names a unique key. Numbers, dates, UUIDs and
            the values of an ENUM are known not to; of two texts nothing is known. See O(write[].distinct).
          - In the key of a V(string) C({column}) stands for the name of a column, and there is one Redis key for each. Such a key may do
            without a unique key (every row then writes the same Redis keys), which gives a warning.
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
          - That no value holds what separates two columns in O(write[].key) or O(write[].member), although their types allow it, so that different
            rows never have one key. Without it a template of several texts is refused, C({a}:{b}) for one, because C(x) and C(y:z) make the same key as
            C(x:y) and C(z), and a delete of one row would remove the other's.
        type: bool
  transform:
    description:
      - A Python function, C(package.module:function), that the worker calls with each row before it is written. The module only looks at its form.
    type: str
  computed:
    description:
      - The columns that O(transform) adds to a row.
    type: list
    elements: str
    default: []
  definer:
    description:
      - The account whose rights the triggers have, as V(user@host). It must exist, and needs the privileges TRIGGER and SELECT on the table, and for
        durable delivery INSERT on C(gearsync.outbox).
      - When it is left out, new triggers get the account that is logged in, and those of existing triggers are not compared.
    type: str
  lock_wait_timeout:
    description:
      - Seconds in all to wait for running transactions that use the table.
      - When they do not end in time, the error names them and says what was changed until then.
      - One try waits for one second, because writers queue behind it for as long. Between two tries there is a longer pause, in which they go on.
    type: int
    default: 60
  state:
    description:
      - V(absent) drops the triggers that this module has made on the table, and forgets what the schema C(gearsync) knows of it, the latter only when
        no change and no dead letter of it is left.
    type: str
    choices: [present, absent]
    default: present
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

- name: Changes that wait for nobody, and are lost when no job server runs
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
  returned: success
  type: dict
  sample: {"insert": "gearsync_ai_customer", "update": "gearsync_au_customer"}
columns:
  description: How each declared column's value travels, one of integer, decimal, bit, float, text, timestamp, binary and json.
  returned: when O(state=present)
  type: dict
  sample: {"id": "integer", "name": "text"}
blocked_by:
  description: The connections that held the table, or may have held it.
  returned: when a lock could not be had within O(lock_wait_timeout)
  type: list
  elements: int
  sample: [42]
job:
  description:
    - What a trigger sends when a row changes, as SQL in which the row is called V(gearsync_row), and the sql_mode under which it does.
    - For who sends a row once more, as the playbook V(smoke) does.
  returned: when O(delivery=direct) and O(state=present)
  type: dict
  sample: {"payload_sql": "JSON_OBJECT('table', 'shop.user', …)", "sql_mode": "STRICT_TRANS_TABLES"}
shared_keys:
  description: The declared keys that name no column, so that every row of the table writes the same keys.
  returned: when O(state=present)
  type: list
  elements: str
  sample: ["{column}"]
blind_spots:
  description: What the triggers will not see or do as one may expect. Each is also a warning.
  returned: when O(state=present)
  type: list
  elements: str
  sample: ["binlog_format=STATEMENT: replicas execute the triggers again and send each change once more; use ROW or MIXED"]
problems:
  description: All that is wrong with the declaration.
  returned: when the declaration is refused
  type: list
  elements: str
  sample: ["write[0].key: 'user:{nr}' names 'nr', which is not in columns; add it to columns, or name another"]
"""

import collections

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declaration import (
    column_problems,
    key_columns,
    key_problems,
    match_columns,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.problem import Problem
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    EVENTS,
    declaration_problems,
    source_problems,
    split_table_name,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.template import is_per_column, write_columns
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    SQL_MODE,
    ServerError,
    check_lock_wait_timeout,
    connect,
    fail_statement,
    lock_wait_argument_spec,
    login_argument_spec,
    split_account,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import (
    NO_TRIGGERS,
    OUTBOX,
    SCHEMA,
    SchemaError,
    SyncedTable,
    choose_layout,
    is_needed,
    lease_statements,
    leave_statements,
    migration_statements,
    number_of,
    read_synced,
    read_version,
    save_statement,
    settings_problems,
    to_json,
    waiting_layouts,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._table import (
    blind_spots,
    find_table,
    has_transactions,
    read_facts,
    registered_functions,
    schema_exists,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_ddl import (
    Step,
    apply,
    definer_problem,
    diff_of,
    read_triggers,
    step_for,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    OWN_NAME,
    beside_name,
    checksum,
    column_kind,
    direct_payload,
    drop_sql,
    durable,
    is_large,
    shard_layouts,
    wanted_triggers,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._triggers import (
    match as match_facts,
)

DECLARATION = ("table", "delivery", "function", "events", "columns", "write", "transform", "computed")
SUBMIT_FUNCTION = "gman_do_background"
WAKE_FUNCTION = "gman_wake"
# The alias that stands for NEW and OLD in the SQL that workers are told.
ALIAS = "gearsync_row"

# before, after: statements before and after the triggers change. left: what is known of the table under names that no triggers serve afterwards.
# known, wanted: as text for the diff, what is known of the table now and what will be.
Surroundings = collections.namedtuple("Surroundings", "before after left known wanted")
# steps: of the triggers. where: schema and table as the server has them. lock: whether the table may be locked for all steps together.
Plan = collections.namedtuple("Plan", "steps around where lock")


class DeclarationError(Exception):
    """The declaration cannot be carried out; with everything that is wrong with it."""

    def __init__(self, problems):
        self.problems = [str(problem) for problem in problems]
        super().__init__("; ".join(self.problems))


def _found_table(database, schema, table):
    found = find_table(database, schema, table)
    if found is None:
        if not schema_exists(database, schema):
            raise DeclarationError([f"the schema {schema} does not exist, or the account that is logged in has no right to see it"])
        raise DeclarationError(["the table does not exist, or the account that is logged in has no right to see it"])
    kind = found["type"].upper()
    if kind not in ("BASE TABLE", "SYSTEM VERSIONED"):
        raise DeclarationError([f"it is a {kind.lower()}, which cannot have triggers; declare the tables behind it"])
    return found


def _check_against_table(database, declaration, found, facts):
    """The warnings of a declaration that the table can serve."""
    names = [column["name"] for column in facts["columns"]]
    problems = column_problems(declaration, names)
    if problems:
        raise DeclarationError(problems)
    real, _missing = match_columns(declaration["columns"], names)
    problems, warnings = key_problems(declaration, names, facts["unique_keys"], {column["name"]: column for column in facts["columns"]})
    if problems:
        raise DeclarationError(problems)
    if declaration["computed"]:
        warnings.append("{}: what {} computes must be the same for the same row for ever, or what it has written is not removed again".format(
            ", ".join(declaration["computed"]), declaration["transform"]))
    return warnings + blind_spots(database, found["s"], found["t"], found["engine"], real.values())


def option_problems(params):
    """Everything that is wrong with the options whatever the server says."""
    declaration = {name: params[name] for name in DECLARATION}
    if params["state"] == "absent":
        return [problem for problem in declaration_problems({**declaration, "delivery": "direct"}) if problem.path == ("table",)]
    problems = declaration_problems(declaration) + source_problems(params["source"])
    if not 1 <= params["shards"] <= 256:
        problems.append(Problem(("shards",), "must be 1 to 256, not {}".format(params["shards"])))
    return problems


def _durable_problems(database, declaration, found, facts):
    """(problems, warnings) of a table with durable delivery."""
    by_name = {column["name"]: column for column in facts["columns"]}
    real, _missing = match_columns(declaration["columns"], list(by_name))
    problems, warnings = [], settings_problems(database)
    if not has_transactions(database, found["engine"]):
        if database.variable("enforce_gtid_consistency") == "ON":
            problems.append(f"engine {found['engine']} has no transactions, and with enforce_gtid_consistency=ON the server refuses writes that go to such"
                            " a table and to the outbox; change the engine to InnoDB, or declare delivery: direct")
        else:
            warnings.append(f"engine {found['engine']}: a transaction that is rolled back keeps the table's changes, but takes them out of the outbox")
    large = [name for name in declaration["columns"] if is_large(by_name[real[name]])]
    for name in large:
        if any(name in write_columns(write, ("key", "member")) for write in declaration["write"]):
            warnings.append(f"column {name!r} is in a key or a member: what a value of an eighth of max_allowed_packet or more has written there is not"
                            " removed again")
    key = key_columns(declaration, real, facts["unique_keys"])
    if facts["period"] and not key:
        problems.append("the table has a period, and DELETE ... FOR PORTION OF may leave a row with the key of the one that it deletes, so that a worker"
                        " must look, but columns does not name all columns of a PRIMARY KEY or of a UNIQUE key of NOT NULL columns; add them")
    inexact = [name for name in key if by_name[real[name]]["data_type"].lower() == "float"]
    if inexact:
        problems.append(f"column {', '.join(map(repr, inexact))} is a FLOAT, of which the server shows fewer digits than it compares, so that a worker would"
                        " not find a row by it; make it a DOUBLE or a DECIMAL, or let the keys name another unique key")
    if large and not key:
        problems.append(f"{', '.join(large)} may be too large for a change, so that a worker must find the row by itself, but columns does not name "
                        "all columns of a PRIMARY KEY or of a UNIQUE key of NOT NULL columns; add them")
    return problems, warnings


def _wrong_surroundings(database, definer, delivery):
    """What would make the triggers fail or do nothing, and may be mended by an earlier task of the same play: (problems, warnings)."""
    problems, warnings = [], []
    functions = registered_functions(database)
    if functions is not None and delivery == "direct" and SUBMIT_FUNCTION not in functions:
        problems.append(f"the server has no function {SUBMIT_FUNCTION}, so the triggers would send nothing; register it with mysql_udf first")
    if functions is not None and delivery == "durable" and WAKE_FUNCTION not in functions:
        warnings.append(f"the server has no function {WAKE_FUNCTION}, so workers find changes by their timer only; register it with mysql_udf")
    if definer is not None:
        problem = definer_problem(database, definer)
        if problem:
            problems.append(problem)
    return problems, warnings


def _known(synced):
    """What workers are told of a table, as diffs show it."""
    return "" if synced is None else "".join(f"-- {name}: {value}\n" for name, value in zip(SyncedTable._fields, synced))


def _durable_sql(database, declaration, facts, where, *, triggers, params):
    """The SQL of a durable table, its shards numbered so that no change that waits is overtaken, and what writes its declaration down."""
    version = read_version(database)
    known = read_synced(database, *where, version).get(declaration["table"])
    # What an interrupted run has left may still write there.
    used = shard_layouts(trigger.body for trigger in triggers.values() if trigger.table == where[1] and OWN_NAME.match(trigger.name))

    def sql(layout, number=0):
        return durable(declaration, facts, params["source"], params["shards"], layout=layout, number=number)

    layout = choose_layout(
        params["shards"], known and known.shard_sql, lambda layout: sql(layout).shard(ALIAS),
        lambda: used | waiting_layouts(database, declaration["table"], version))
    number, statements = number_of(database, declaration["table"], to_json(sql(layout).content(*where, ALIAS)), version)
    return sql(layout, number), statements


def _durable_surroundings(database, declaration, sql, where, *, wanted, params, declared):
    """What the schema of durable delivery must hold before the triggers can work, and afterwards. declared: what writes the declaration down."""
    version = read_version(database)
    # Under a name that no trigger has: what gearsync status compares with the columns as they are.
    kinds = {column["name"]: " ".join(filter(None, (column["column_type"], column["collation"]))) for _name, column in sql.new}
    synced = SyncedTable(
        declaration["table"], where[0], where[1], params["shards"], to_json(sql.key_columns()),
        sql.shard(ALIAS), sql.row(ALIAS), sql.old_row(ALIAS), sql.too_large(ALIAS), sql.small_row(ALIAS), to_json(sql.large_columns(ALIAS)),
        to_json({"": to_json(kinds), **{trigger.name: checksum(trigger.body) for trigger in wanted}}), sql.number)
    known = read_synced(database, *where, version)
    # Written down before the triggers change: what they send can always be understood.
    before = migration_statements(version) + lease_statements(database, params["shards"], version, sql.layout) + declared
    save = [save_statement(synced)] if known.get(synced.table_name) != synced else []
    left = [known[name] for name in sorted(known) if name != synced.table_name]
    shown = _known(known.get(synced.table_name)), _known(synced)
    # A row that is read is written under the declaration that is here. It must not be one whose old values the triggers do not tell yet. Of a table that
    # is new here nothing waits, and workers must know that it is durable before its first change.
    return Surroundings(before, save, left, *shown) if synced.table_name in known else Surroundings([*before, *save], [], left, *shown)


def _surroundings_without(database, where):
    """Leave a table that has no durable triggers any more."""
    known = read_synced(database, *where, read_version(database))
    left = [known[name] for name in sorted(known)]
    kept = [synced._replace(triggers=NO_TRIGGERS) for synced in left if is_needed(database, synced.table_name)]
    return Surroundings([], [], left, "".join(map(_known, left)), "".join(map(_known, kept)))


def _present(module, database, schema, table):
    params = module.params
    declaration = {name: params[name] for name in DECLARATION}
    found = _found_table(database, schema, table)
    schema, table = found["s"], found["t"]
    facts = read_facts(database, schema, table)
    warnings = _check_against_table(database, declaration, found, facts)
    definer = None if params["definer"] is None else "{}@{}".format(*split_account(params["definer"]))
    durably = params["delivery"] == "durable"
    if durably:
        problems, more = _durable_problems(database, declaration, found, facts)
        if problems:
            raise DeclarationError(problems)
        warnings += more
    surroundings, more = _wrong_surroundings(database, definer, params["delivery"])
    if surroundings and not module.check_mode:
        raise DeclarationError(surroundings)
    for text in warnings + surroundings + more:
        module.warn("table {}: {}".format(params["table"], text))
    triggers = read_triggers(database, schema, table)
    sql, declared = _durable_sql(database, declaration, facts, (schema, table), triggers=triggers, params=params) if durably else (None, [])
    wanted = wanted_triggers(schema, declaration, facts, definer, database.set_sql_mode(SQL_MODE), body=sql and sql.body)
    for trigger in wanted:
        other = triggers.get(trigger.name)
        if other is not None and other.table != table:
            problem = f"the name {trigger.name}, which its trigger needs, is that of a trigger on {schema}.{other.table}; drop or rename that one"
            raise DeclarationError([problem])
    steps = [step_for(database, triggers, trigger) for trigger in wanted]
    steps += _steps_without(triggers, table, [trigger.name for trigger in wanted])
    by_name = {column["name"]: column for column in facts["columns"]}
    real, _missing = match_columns(declaration["columns"], list(by_name))
    kinds = {name: column_kind(by_name[real[name]]) for name in declaration["columns"]}
    if sql:
        around = _durable_surroundings(database, declaration, sql, (schema, table), wanted=wanted, params=params, declared=declared)
    else:
        around = _surroundings_without(database, (schema, table))
    # A lock on the table would be one on the outbox and on what other people's triggers write, behind every transaction that has written there.
    alone = all(trigger.table != table or (OWN_NAME.match(trigger.name) and OUTBOX not in trigger.body) for trigger in triggers.values())
    plan = Plan(steps, around, (schema, table), alone and not durably)
    shared = [write["key"] for write in declaration["write"] if is_per_column(write) and not write_columns(write, ("key",))]
    result = {"columns": kinds, "shared_keys": shared, "blind_spots": warnings, "triggers": {trigger.event: trigger.name for trigger in wanted}}
    if not durably:
        match, _real = match_facts(declaration, facts)
        result["job"] = {"payload_sql": direct_payload(declaration, match, "update", ALIAS, ALIAS), "sql_mode": wanted[0].sql_mode}
    return plan, result


def _steps_without(triggers, table, kept):
    """Drop what this module has made on a table, under an earlier name of the table too, and what nobody asks for any more."""
    spoken_for = set(kept) | {beside_name(name) for name in kept}
    return [
        Step(trigger, None, [drop_sql(trigger.schema, trigger.name)], [])
        for name, trigger in sorted(triggers.items())
        if trigger.table == table and OWN_NAME.match(name) and name not in spoken_for
    ]


def _absent(database, schema, table):
    found = find_table(database, schema, table)
    where = (found["s"], found["t"]) if found else (schema, table)
    # Triggers go with their table.
    triggers = read_triggers(database, *where) if found else {}
    steps = _steps_without(triggers, found["t"], []) if found else []
    alone = all(trigger.table != where[1] or (OWN_NAME.match(trigger.name) and OUTBOX not in trigger.body) for trigger in triggers.values())
    return Plan(steps, _surroundings_without(database, where), where, alone), {"triggers": {}}


def _diff(plan):
    triggers = diff_of(plan.steps)
    return {"before": plan.around.known + triggers["before"], "after": plan.around.wanted + triggers["after"]}


def argument_spec():
    return {
        **login_argument_spec(), **lock_wait_argument_spec(),
        "table": {"type": "str", "required": True},
        # What these may hold is not said by `choices`: the module's own errors name the table, and all that is wrong at once.
        "delivery": {"type": "str", "default": "durable"},
        "source": {"type": "str", "default": "main"},
        "shards": {"type": "int", "default": 4},
        "function": {"type": "str", "default": "syncToRedis"},
        "events": {"type": "list", "elements": "str", "default": list(EVENTS)},
        "columns": {"type": "list", "elements": "str"},
        "write": {"type": "list", "elements": "dict", "options": {
            "type": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": False},
            "value": {"type": "str"},
            "member": {"type": "str"},
            "score": {"type": "str"},
            "ttl": {"type": "int"},
            "max": {"type": "int"},
            "maxlen": {"type": "int"},
            "distinct": {"type": "bool"},
        }},
        "transform": {"type": "str"},
        "computed": {"type": "list", "elements": "str", "default": []},
        "definer": {"type": "str"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def main():
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    check_lock_wait_timeout(module)
    name = module.params["table"]
    problems = [str(problem) for problem in option_problems(module.params)]
    if problems:
        module.fail_json(msg=f"table {name}: {'; '.join(problems)}", problems=problems, queries=[])
    names = split_table_name(name)
    database = connect(module)
    try:
        if module.params["state"] == "absent":
            plan, result = _absent(database, *names)
        else:
            plan, result = _present(module, database, *names)
        for statement in plan.around.before:
            database.change(statement)
        apply(module, database, *plan.where, plan.steps, together=plan.lock)
        for statement in plan.around.after:
            database.change(statement)
        # Only now nothing more can come from the triggers that were there.
        for synced in plan.around.left:
            for statement in leave_statements(database, synced):
                database.change(statement)
    except SchemaError as wrong:
        module.fail_json(msg=f"table {name}: {wrong}", problems=[str(wrong)], queries=database.queries)
    except DeclarationError as wrong:
        module.fail_json(msg=f"table {name}: {wrong}", problems=wrong.problems, queries=[])
    except ServerError as error:
        fail_statement(module, database, error, f"table {name}", SCHEMA)
    finally:
        database.close()
    if module._diff:
        result["diff"] = _diff(plan)
    module.exit_json(changed=bool(database.queries), queries=database.queries, **result)


if __name__ == "__main__":
    main()
