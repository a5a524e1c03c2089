#!/usr/bin/python
# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: replication_info
short_description: Ask a MySQL or MariaDB server for its part in replication
version_added: 1.0.0
description:
  - Returns whether the server takes writes, what it replicates from and in which state, who replicates from
    it, and its state in a Galera cluster or in MySQL's group replication.
  - What this returns of all members of a source, the filter P(gearsync.mysql_redis.source_members#filter)
    turns into the name of the primary, or into a list of problems.
  - The account needs C(PROCESS), on MariaDB C(SLAVE MONITOR) and C(REPLICATION MASTER ADMIN), on MySQL
    C(REPLICATION CLIENT) and C(REPLICATION SLAVE). With group replication it needs C(SELECT) on
    C(performance_schema.replication_group_members) beside. When some are missing, the error names them all.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
  - gearsync.mysql_redis.attributes.info_module
  - gearsync.mysql_redis.login
notes:
  - A replica whose connection is down at that moment is in neither of RV(replicas) and RV(dump_threads). One
    that has gone may still be there for a minute, until the server sends it the next event or heartbeat.
seealso:
  - plugin: gearsync.mysql_redis.source_members
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Ask every member
  gearsync.mysql_redis.replication_info:
    login_unix_socket: /run/mysqld/mysqld.sock
  register: replication

- name: Require one primary
  ansible.builtin.assert:
    that: source.problems == []
    fail_msg: "{{ source.problems | join('\n') }}"
  vars:
    source: >-
      {{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'replication')))
         | gearsync.mysql_redis.source_members }}
  run_once: true
"""

RETURN = r"""
engine:
  description: C(mariadb) or C(mysql).
  returned: success
  type: str
  sample: mysql
version:
  description: The version as the server shows it.
  returned: success
  type: str
  sample: 8.4.6
hostname:
  description: The name of the server's host, as the server knows it.
  returned: success
  type: str
  sample: db1
port:
  description: The server's TCP port.
  returned: success
  type: int
  sample: 3306
server_id:
  description: The server's number among those that replicate from each other.
  returned: success
  type: int
  sample: 1
server_uuid:
  description: The server's UUID; null on MariaDB.
  returned: success
  type: str
  sample: 3e11fa47-71ca-11e1-9e33-c80aa9429562
accepts_writes:
  description: Whether the server takes the writes of ordinary accounts. It is not C(read_only), a Galera node
    is in the primary component and ready, a member of a replication group is online.
  returned: success
  type: bool
  sample: true
read_only:
  description: Whether it is C(read_only).
  returned: success
  type: bool
  sample: false
super_read_only:
  description: Whether it is C(super_read_only); null on MariaDB.
  returned: success
  type: bool
  sample: false
log_bin:
  description: Whether it writes a binary log.
  returned: success
  type: bool
  sample: true
binlog_format:
  description: C(ROW), C(MIXED) or C(STATEMENT).
  returned: success
  type: str
  sample: ROW
gtid_executed:
  description: The transactions that it has, C(gtid_executed) on MySQL, C(gtid_current_pos) on MariaDB.
  returned: success
  type: str
  sample: 3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5
is_replica:
  description: Whether it replicates from another server, running or not.
  returned: success
  type: bool
  sample: false
is_replicating:
  description: Whether it is a replica and both threads of all channels run.
  returned: success
  type: bool
  sample: false
channels:
  description: What it replicates from; those of group replication are left out.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The channel's or connection's name, often empty.
      type: str
    source_host:
      description: The host that it connects to.
      type: str
    source_port:
      description: The port that it connects to.
      type: int
    source_server_id:
      description: The C(server_id) of the server that it found there; null before the first connection.
      type: int
    source_uuid:
      description: That server's UUID; null on MariaDB and before the first connection.
      type: str
    io_running:
      description: Whether the thread that reads the source's binary log runs, C(Yes), C(No), C(Connecting) or
        C(Preparing).
      type: str
    io_error_number:
      description: That thread's last error, 0 without one.
      type: int
    io_error:
      description: Its text.
      type: str
    sql_running:
      description: Whether the thread that applies it runs, C(Yes) or C(No).
      type: str
    sql_error_number:
      description: That thread's last error, 0 without one.
      type: int
    sql_error:
      description: Its text.
      type: str
    seconds_behind:
      description: How far it is behind; null when the server does not know.
      type: int
replicas:
  description: The replicas that are connected, as they have registered themselves.
  returned: success
  type: list
  elements: dict
  contains:
    server_id:
      description: The replica's C(server_id).
      type: int
    server_uuid:
      description: Its UUID; null on MariaDB.
      type: str
    host:
      description: Its C(report_host); null where it is not set.
      type: str
    port:
      description: Its C(report_port), or its port.
      type: int
dump_threads:
  description: The connections that read the binary log, those of replicas and of other programs.
  returned: success
  type: list
  elements: dict
  contains:
    user:
      description: The account's user.
      type: str
    address:
      description: Where the connection comes from.
      type: str
galera:
  description: The node's state in its Galera cluster; null without one.
  returned: success
  type: dict
  contains:
    cluster_uuid:
      description: The cluster's UUID.
      type: str
    cluster_size:
      description: How many nodes it has.
      type: int
    cluster_status:
      description: C(Primary) in the part of the cluster that takes writes.
      type: str
    addresses:
      description: Where its nodes take connections, as far as they publish it.
      type: list
      elements: str
    state:
      description: The node's state, such as C(Synced) or C(Donor/Desynced).
      type: str
    ready:
      description: Whether the node takes statements.
      type: bool
    accepts_writes:
      description: Whether this node takes writes.
      type: bool
group_replication:
  description: The member's state in its replication group; null where no group is configured.
  returned: success
  type: dict
  contains:
    name:
      description: The group's name, a UUID.
      type: str
    state:
      description: This member's state, such as C(ONLINE), C(RECOVERING) or C(OFFLINE).
      type: str
    role:
      description: C(PRIMARY) or C(SECONDARY); null when it is not in the group.
      type: str
    single_primary:
      description: Whether only one member takes writes.
      type: bool
    members:
      description: All members that this one sees.
      type: list
      elements: dict
      contains:
        id:
          description: The member's C(server_uuid).
          type: str
        host:
          description: Its host.
          type: str
        port:
          description: Its port.
          type: int
        state:
          description: Its state.
          type: str
        role:
          description: Its role.
          type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import (
    ServerError,
    connect,
    grant_sql,
    login_argument_spec,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._replication import read_replication


def _missing_text(database, missing):
    """What the account lacks, and the statements that give it."""
    purposes = "; ".join(f"{right} for {purpose}" for right, _level, purpose in missing)
    grants = "; ".join(grant_sql(database, right, level) for right, level, _purpose in missing)
    return f"the account that is logged in lacks rights: {purposes}. {grants}"


def main():
    module = AnsibleModule(argument_spec=login_argument_spec(), supports_check_mode=True)
    database = connect(module)
    try:
        info, missing = read_replication(database)
        problem = _missing_text(database, missing) if missing else ""
    except ServerError as error:
        problem = f"the server's replication cannot be asked for: {error}"
    finally:
        database.close()
    if problem:
        module.fail_json(msg=problem)
    module.exit_json(changed=False, **info)


if __name__ == "__main__":
    main()
