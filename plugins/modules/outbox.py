#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: outbox
short_description: Make or remove the schema of durable delivery
version_added: 1.0.0
description:
  - Makes the schema C(gearsync), in which changes wait for the workers, or brings it to this release's
    version.
  - M(gearsync.mysql_redis.sync_table) does the same for the tables that it is given. By itself it is for the
    accounts, whose rights on the schema's tables can only be granted when these are there.
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
  shards:
    description:
      - Into how many parts the outbox is divided, each of which is drained by one worker process at a time. 1
        to 256.
    type: int
    default: 4
  lock_wait_timeout:
    description:
      - Seconds in all to wait for running transactions that use the schema.
      - One try waits for one second, because writers queue behind it for as long. Between two tries there is
        a longer pause, in which they go on.
    type: int
    default: 60
  state:
    description:
      - V(absent) drops the schema, unless a change waits in it or lies there as a dead letter. Those are
        data, and stay with a warning.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: gearsync.mysql_redis.sync_table
"""

EXAMPLES = r"""
- name: The schema, before rights on its tables are granted
  gearsync.mysql_redis.outbox:
    login_unix_socket: /run/mysqld/mysqld.sock
    shards: 8

- name: Drop it when nothing waits in it
  gearsync.mysql_redis.outbox:
    login_unix_socket: /run/mysqld/mysqld.sock
    state: absent
"""

RETURN = r"""
queries:
  description: The statements that changed something, or would have in check mode.
  returned: always
  type: list
  elements: str
  sample: ["DROP DATABASE `gearsync`"]
version:
  description: The version of the schema, 0 without a schema.
  returned: success
  type: int
  sample: 1
kept:
  description: Whether the schema was left because it is not empty.
  returned: when O(state=absent)
  type: bool
  sample: false
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ServerError,
    check_lock_wait_timeout,
    connect,
    lock_wait_argument_spec,
    login_argument_spec,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import (
    SCHEMA,
    VERSION,
    SchemaError,
    first_shard,
    known_shards,
    lease_statements,
    migration_statements,
    read_version,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._statement_failure import statement_failed


def _present(module, database):
    shards, version = module.params["shards"], read_version(database)
    shards_before = known_shards(database, version)
    for statement in migration_statements(version) + lease_statements(database, shards, version):
        database.change(statement)
    shards_after = shards_before | set(range(first_shard(shards), first_shard(shards) + shards))
    return {"version": VERSION}, (_shown(version, shards_before), _shown(VERSION, shards_after))


def _shown(version, shards):
    """The schema as diffs show it."""
    return (
        f"version {version}, leases of the shards {', '.join(map(str, sorted(shards)))}\n" if version else ""
    )


def _absent(module, database):
    version = read_version(database)
    if not version:
        return {"version": 0, "kept": False}, ("", "")
    # Whether there is one is all that is asked; an outbox can be long.
    waiting, dead = (
        bool(database.rows(f"SELECT 1 AS one FROM `{SCHEMA}`.`{table}` LIMIT 1"))
        for table in ("outbox", "dead_letter")
    )
    if waiting or dead:
        what = " and ".join(
            name
            for name, there in (("changes wait in the outbox", waiting), ("there are dead letters", dead))
            if there
        )
        module.warn(f"the schema {SCHEMA} was left, because {what}; drop it by hand when they are not needed")
        return {"version": version, "kept": True}, (f"version {version}\n", f"version {version}\n")
    database.change(f"DROP DATABASE `{SCHEMA}`")
    return {"version": 0, "kept": False}, (f"version {version}\n", "")


def main():
    argument_spec = login_argument_spec()
    argument_spec.update(lock_wait_argument_spec())
    argument_spec.update(
        shards={"type": "int", "default": 4},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
    )
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    check_lock_wait_timeout(module)
    if not 1 <= module.params["shards"] <= 256:
        module.fail_json(msg="shards must be 1 to 256, not {}".format(module.params["shards"]), queries=[])
    database = connect(module)
    try:
        result, (before, after) = (_present if module.params["state"] == "present" else _absent)(
            module, database
        )
    except SchemaError as error:
        module.fail_json(msg=f"schema {SCHEMA}: {error}", queries=database.queries)
    except ServerError as error:
        seconds = module.params["lock_wait_timeout"]
        failed = statement_failed(database, error, f"schema {SCHEMA}", SCHEMA, seconds)
        module.fail_json(queries=database.queries, **failed.result)
    finally:
        database.close()
    if module._diff:
        result["diff"] = {"before": before, "after": after}
    module.exit_json(changed=bool(database.queries), queries=database.queries, **result)


if __name__ == "__main__":
    main()
