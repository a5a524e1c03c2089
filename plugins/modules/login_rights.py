#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: login_rights
short_description: Require the rights that the other modules need on a server
version_added: 1.1.0
description:
  - Fails when the account that is logged in lacks a right with which M(gearsync.mysql_redis.outbox),
    M(gearsync.mysql_redis.mysql_account) and M(gearsync.mysql_redis.sync_table) do their work for tables with
    durable delivery, or when a setting of the server forbids it. The message has every missing right as
    GRANT gives it.
  - Meant for managed databases, on which no account has all rights. Rights of roles count when they are
    active at login.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
  - gearsync.mysql_redis.attributes.info_module
  - gearsync.mysql_redis.login
options:
  tables:
    description:
      - The tables that are to be synced, C(schema.table).
    type: list
    elements: str
    default: []
  definer:
    description:
      - The account whose rights the triggers are to have, as V(user@host). Another one than that which is
        logged in takes a right of its own.
    type: str
seealso:
  - module: gearsync.mysql_redis.mysql_account
"""

EXAMPLES = r"""
- name: Require what syncing a table takes
  gearsync.mysql_redis.login_rights:
    login_host: legacy.example.com
    login_user: admin
    login_password: "{{ vault_legacy_password }}"
    tables: [shop.customer]
    definer: gearsync_definer@localhost
"""

RETURN = r"""
missing:
  description: The statements that give the account what it lacks.
  returned: always
  type: list
  elements: str
  sample: ["GRANT CREATE USER ON *.* TO 'admin'@'%'"]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._account import (
    AccountError,
    known_tables,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ServerError,
    account_sql,
    connect,
    login_argument_spec,
    split_account,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._rights import (
    EVERYTHING,
    grant_statements,
    held_rights,
    missing_rights,
    needed_rights,
)


def _forbids_triggers(database, held):
    """Whether the server lets only accounts create triggers that have a right that managed databases do not
    give.
    """
    trusted = held.levels.get(EVERYTHING, set()) & {"SUPER", "ALL PRIVILEGES"}
    return (
        not trusted
        and database.variable("log_bin") == "ON"
        and database.variable("log_bin_trust_function_creators") == "OFF"
    )


def _look(database, params):
    """(the statements that give what is missing, what is wrong as sentences)."""
    login = split_account(database.value("SELECT CURRENT_USER()"))
    definer = params["definer"] is not None and split_account(params["definer"]) != login
    database.session("SET SESSION sql_quote_show_create = 1")
    held = held_rights([next(iter(row.values())) for row in database.rows("SHOW GRANTS")])
    tables = known_tables(database, params["tables"])
    needed = needed_rights(database.engine, database.version, tables, definer=definer)
    missing = grant_statements(missing_rights(held, needed), account_sql(*login))
    problems = []
    if missing:
        problems.append(f"the account {account_sql(*login)} lacks rights. It needs: {'; '.join(missing)}")
    if _forbids_triggers(database, held):
        problems.append(
            "the server writes a binary log and lets only accounts with SUPER create triggers. Set "
            "log_bin_trust_function_creators to 1: in the parameters of a managed database, or by SET GLOBAL "
            "log_bin_trust_function_creators = 1 and in the server's settings"
        )
    return missing, problems


def main():
    module = AnsibleModule(
        argument_spec={
            **login_argument_spec(),
            "tables": {"type": "list", "elements": "str", "default": []},
            "definer": {"type": "str"},
        },
        supports_check_mode=True,
    )
    database = connect(module)
    try:
        missing, problems = _look(database, module.params)
    except (AccountError, ServerError) as error:
        missing, problems = [], [f"the rights of the login cannot be looked at: {error}"]
    finally:
        database.close()
    if problems:
        module.fail_json(msg=f"{'. '.join(problems)}. Nothing was changed on the server", missing=missing)
    module.exit_json(changed=False, missing=[])


if __name__ == "__main__":
    main()
