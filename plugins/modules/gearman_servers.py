#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gearman_servers
short_description: Set the job servers of MySQL's or MariaDB's Gearman functions
version_added: 1.0.0
description:
  - Sets the list of job servers in the running database server with C(gman_servers_set), after comparing it
    with the one that C(gman_stats) shows.
  - The list holds until the database server stops; the server's C(init_file) is the place for what shall be
    set again at its start.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
  - gearsync.mysql_redis.login
  - gearsync.mysql_redis.job_server_tls
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  servers:
    description:
      - The job servers in the order in which they are tried, each as V(host), V(host:port) or
        V([address]:port). Needed when O(state=present).
    type: list
    elements: str
  function:
    description:
      - The Gearman function that the list is for. Without it the list is for all functions that have none of
        their own.
    type: str
    default: ""
  check_reachable:
    description:
      - Whether each job server must answer, seen from the managed host, before anything is changed.
      - With V(false) those that do not answer are returned only.
      - The options of TLS are for these questions; what the functions speak is set by C(gman_configure).
      - In check mode one that does not answer is a warning, because the run may be about to install it.
    type: bool
    default: true
  timeout:
    description:
      - Seconds to wait for each job server.
    type: float
    default: 3.0
  state:
    description:
      - V(absent) removes the list.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: gearsync.mysql_redis.mysql_udf
  - module: gearsync.mysql_redis.gearman_info
"""

EXAMPLES = r"""
- name: Two job servers
  gearsync.mysql_redis.gearman_servers:
    login_unix_socket: /run/mysqld/mysqld.sock
    servers: ["jobs-1.example.com:4730", "jobs-2.example.com:4730"]

- name: Another one for one function
  gearsync.mysql_redis.gearman_servers:
    login_unix_socket: /run/mysqld/mysqld.sock
    servers: ["[2001:db8::7]:4730"]
    function: syncToRedis
"""

RETURN = r"""
queries:
  description: The statements that changed something, or would have in check mode.
  returned: always
  type: list
  elements: str
  sample: ["DO gman_servers_set('127.0.0.1:4730')"]
servers:
  description: The list after the run, with ports.
  returned: success
  type: list
  elements: str
  sample: ["127.0.0.1:4730"]
silent:
  description: The job servers that did not answer.
  returned: always
  type: list
  elements: str
  sample: []
"""

import json

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_admin import (
    Admin,
    JobServerError,
    format_address,
    parse_address,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._gearman_tls import (
    TlsError,
    tls_argument_spec,
    tls_context,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ER_FUNCTION_UNKNOWN,
    ServerError,
    connect,
    literal,
    login_argument_spec,
)


def _addresses(module):
    addresses = []
    for text in module.params["servers"] or []:
        try:
            host, port = parse_address(text.strip())
        except ValueError as error:
            module.fail_json(msg=f"servers: {error}", queries=[], silent=[])
        address = (host.lower(), port)
        if address in addresses:
            module.fail_json(msg=f"servers: {format_address(*address)} is named twice", queries=[], silent=[])
        addresses.append(address)
    if not addresses and module.params["state"] == "present":
        module.fail_json(
            msg="servers is empty; name at least one job server, or set state: absent", queries=[], silent=[]
        )
    return addresses


def _unreachable(module, addresses):
    """The job servers that do not answer, with the reason."""
    try:
        tls = tls_context(module.params)
    except TlsError as error:
        if not module.check_mode:
            module.fail_json(msg=f"{error}. Nothing was changed", queries=[], silent=[])
        return [(format_address(*address), str(error)) for address in addresses]
    reasons = (
        (format_address(*address), _silence(address, module.params["timeout"], tls)) for address in addresses
    )
    return [(name, reason) for name, reason in reasons if reason]


def _silence(address, timeout, tls):
    """Why a job server does not answer; None when it does."""
    try:
        with Admin(*address, timeout, tls) as admin:
            admin.version()
    except JobServerError as error:
        return str(error)
    return None


def _current(module, database):
    """The list that the database server has, [] for none; None when its functions are not registered."""
    try:
        stats = database.value("SELECT gman_stats()")
    except ServerError as error:
        if error.code != ER_FUNCTION_UNKNOWN:
            raise
        return None
    try:
        text = json.loads(stats)["server_lists"].get(module.params["function"], "")
    except (TypeError, ValueError, KeyError) as error:
        module.fail_json(
            msg=f"gman_stats() answers {stats!r}, which this module does not understand ({error})",
            queries=[],
            silent=[],
        )
    return [address for address in text.split(",") if address]


def _require_reachable(module, unreachable):
    """Fail for job servers that do not answer; in check mode, in which the run may make them, warn."""
    if not unreachable or not module.params["check_reachable"]:
        return
    message = "; ".join(reason for _name, reason in unreachable)
    if not module.check_mode:
        module.fail_json(
            msg=f"{message}. Nothing was changed. Start it, correct the list, or set check_reachable: false",
            queries=[],
            silent=[name for name, _reason in unreachable],
        )
    module.warn(message)


def _set_servers(module, database, wanted):
    """Set the list where it differs; the list before it, None without the function."""
    before = _current(module, database)
    if before is None and not module.check_mode and wanted:
        module.fail_json(
            msg="the database server has no function gman_stats; register the functions of "
            "libgearman_mysql_udf.so with mysql_udf first",
            queries=[],
            silent=[],
        )
    if wanted != (before or []):
        function = module.params["function"]
        arguments = literal(",".join(wanted)) + (f", {literal(function)}" if function else "")
        database.change(f"DO gman_servers_set({arguments})")
    return before


def main():
    argument_spec = login_argument_spec()
    argument_spec.update(
        servers={"type": "list", "elements": "str"},
        function={"type": "str", "default": ""},
        check_reachable={"type": "bool", "default": True},
        timeout={"type": "float", "default": 3.0},
        state={"type": "str", "choices": ["present", "absent"], "default": "present"},
        **tls_argument_spec(),
    )
    module = AnsibleModule(
        argument_spec=argument_spec,
        required_if=[("state", "present", ("servers",))],
        supports_check_mode=True,
    )
    params = module.params
    addresses = _addresses(module) if params["state"] == "present" else []
    if len(params["function"].encode("utf-8")) > 255 or "\0" in params["function"]:
        module.fail_json(
            msg="function is not a name for Gearman: at most 255 bytes, no NUL", queries=[], silent=[]
        )
    unreachable = _unreachable(module, addresses)
    _require_reachable(module, unreachable)
    wanted = [format_address(*address) for address in addresses]
    database = connect(module)
    try:
        before = _set_servers(module, database, wanted)
    except ServerError as error:
        module.fail_json(msg=f"the job servers cannot be set: {error}", queries=database.queries, silent=[])
    finally:
        database.close()
    result = {
        "changed": wanted != (before or []),
        "queries": database.queries,
        "servers": wanted,
        "silent": [name for name, _reason in unreachable],
    }
    if module._diff:
        result["diff"] = {"before": ",".join(before or []) + "\n", "after": ",".join(wanted) + "\n"}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
