# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filter that names the variables gearsync_* of an inventory that nothing reads."""

from __future__ import annotations

DOCUMENTATION = r"""
name: unknown_variables
short_description: Name the variables of an inventory that nothing reads
version_added: 1.0.0
author:
  - The gearsync developers (@gearsync)
description:
  - Of the variables of hosts, those whose name begins with C(gearsync_) and is not a known one.
  - Used by the playbooks before a host is touched.
positional: known, groups
options:
  _input:
    description: By host, the names of its variables.
    type: dict
    required: true
  known:
    description: The names that are read.
    type: list
    elements: str
    required: true
  groups:
    description: By group, the names of its hosts, as the variable C(groups) has them.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Name the variables that nothing reads
  ansible.builtin.debug:
    msg: "{{ names | gearsync.mysql_redis.unknown_variables(known, groups) }}"
  vars:
    names: "{{ {inventory_hostname: hostvars[inventory_hostname] | list} }}"
    known: [gearsync_tables, gearsync_shards]
"""

RETURN = r"""
_value:
  description: For each unknown name where it is set and, if a known one is like it, that.
  type: list
  elements: str
  sample: ["gearsync_shard on db1: did you mean gearsync_shards?", "gearsync_x on all hosts."]
"""

import difflib

PREFIX = "gearsync_"


def place(hosts, groups, everywhere):
    """Where a variable is set: all hosts, all hosts of a group, or hosts by their names."""
    if len(hosts) == 1:
        return hosts[0]
    if len(hosts) == everywhere:
        return "all hosts"
    group = next((name for name, members in sorted(groups.items()) if set(members) == set(hosts)), None)
    return f"all hosts of {group}" if group else ", ".join(hosts)


def unknown_variables(names, known, groups):
    """One line for each unknown name."""
    unknown = {}
    for host, variables in names.items():
        for name in variables:
            if name.startswith(PREFIX) and name not in known:
                unknown.setdefault(name, []).append(host)
    lines = []
    for name, hosts in sorted(unknown.items()):
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        lines.append(
            f"{name} on {place(hosts, groups, len(names))}"
            + (f": did you mean {close[0]}?" if close else ".")
        )
    return lines


class FilterModule:
    """The filter, for Ansible."""

    def filters(self):
        return {"unknown_variables": unknown_variables}
