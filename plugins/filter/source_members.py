# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that decides which member of a source is the primary."""

from __future__ import annotations

DOCUMENTATION = r"""
name: source_members
short_description: Name the primary among the members of a source
version_added: 1.0.0
author:
  - The gearsync developers (@gearsync)
description:
  - Takes what M(gearsync.mysql_redis.replication_info) returned of each member of one source, and names the
    one that takes writes.
  - Problems are that no member takes writes, or several without being nodes of one cluster; that a member
    could not be asked; that replication of a member stopped with an error; that members do not belong to one
    another, are one server or have the same C(server_id); that a node is not in its cluster. With any of them
    there is no primary.
  - Several nodes of one Galera cluster that take writes, and group replication in multi-primary mode, are a
    problem too, or with O(accept_multi_primary) a warning.
  - A replica that is stopped without an error is a warning.
options:
  _input:
    description:
      - By the name of each member, what the module returned.
      - What has another form, such as the result of a host that was unreachable, is a member that could not
        be asked.
    type: dict
    required: true
  accept_multi_primary:
    description:
      - Whether several nodes of one cluster may take writes. The first of them is then the primary.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Name the primary
  ansible.builtin.set_fact:
    primary: "{{ source.primary }}"
  vars:
    source: "{{ {'db1': asked1, 'db2': asked2} | gearsync.mysql_redis.source_members }}"
  failed_when: source.problems | length > 0
"""

RETURN = r"""
_value:
  description: The decision.
  type: dict
  contains:
    primary:
      description: The name of the member that takes writes; null when there are problems.
      type: str
    replicas:
      description: The names of the other members; empty when there are problems.
      type: list
      elements: str
    problems:
      description: Why nothing may be changed, a sentence each.
      type: list
      elements: str
    warnings:
      description: What an administrator may want to know beside, a sentence each.
      type: list
      elements: str
    unlisted_replicas:
      description: Who replicates from a member, or is in its cluster, without being a member, a sentence
        each. Empty when a member could not be asked.
      type: list
      elements: str
  sample:
    primary: db1
    replicas: [db2]
    problems: []
    warnings: []
    unlisted_replicas: ["db3:3306 (server_id 3) replicates from db1"]
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._source_members import source_members


def members(infos, accept_multi_primary=False):
    """The decision for one source; see module_utils."""
    if not isinstance(infos, dict):
        raise AnsibleFilterError(
            f"source_members takes a dictionary by the names of the members, not {infos!r}"
        )
    return source_members(infos, accept_multi_primary)


class FilterModule:
    """The filter, for Ansible."""

    def filters(self):
        return {"source_members": members}
