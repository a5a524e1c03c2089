#!/usr/bin/python
# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: package_guard
short_description: Refuse an installation that would take the database server away
version_added: 1.0.0
description:
  - Simulates the installation of packages with the host's own package manager, and fails with the packages' names when the
    installation would remove or replace an installed database server.
  - Changes nothing, in check mode or out of it. Packages that the package manager does not know yet are left to the installation itself.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: The module changes nothing.
options:
  name:
    description: The packages that are about to be installed.
    type: list
    elements: str
    required: true
  enablerepo:
    description: Repositories to enable for the simulation; only where the package manager is dnf.
    type: list
    elements: str
    default: []
  protect:
    description:
      - Regular expressions; an installed package whose whole name matches one must not be removed.
      - When left out, the server packages of MariaDB, MySQL and Percona, as the distributions and the vendors name them.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Make sure that the build dependencies leave the server alone
  gearsync.mysql_redis.package_guard:
    name: [g++, make, libevent-dev]
"""

RETURN = r"""
installs:
  description: The packages that would be installed or upgraded.
  type: list
  elements: str
  returned: always
removes:
  description: The packages that would be removed or replaced.
  type: list
  elements: str
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._packages import SERVERS, apt_plan, dnf_plan, endangered


def simulate(module, names, repositories):
    """``(installed, removed)`` as the host's package manager plans it; fails when there is none that the module knows."""
    environment = {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "COLUMNS": "300"}
    apt = module.get_bin_path("apt-get")
    dnf = module.get_bin_path("dnf")
    # A host may have both; the one that owns the installed packages is the one with a filled database.
    if dnf and not module.get_bin_path("dpkg-query"):
        apt = None
    if dnf and module.run_command(["rpm", "-qa"])[1].strip():
        repos = [f"--enablerepo={name}" for name in repositories]
        status, out, err = module.run_command([dnf, "--assumeno", "--quiet", *repos, "install", *names], environ_update=environment)
        return dnf_plan(out + "\n" + err)
    if apt:
        status, out, err = module.run_command([apt, "--simulate", "--no-install-recommends", "install", *names], environ_update=environment)
        return apt_plan(out) if status == 0 else ([], [])
    module.fail_json(msg="package_guard: neither apt-get nor dnf is on this host, so the installation cannot be simulated")


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "enablerepo": {"type": "list", "elements": "str", "default": []},
            "protect": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    names = module.params["name"]
    installs, removes = simulate(module, names, module.params["enablerepo"]) if names else ([], [])
    protect = SERVERS if module.params["protect"] is None else module.params["protect"]
    lost = endangered(removes, protect)
    if lost:
        module.fail_json(
            msg=(
                f"Installing {', '.join(names)} would remove {', '.join(lost)}, the database server. Nothing was installed. "
                "Leave out the package that conflicts with it, or take it from the vendor that the server comes from."
            ),
            installs=installs,
            removes=removes,
        )
    module.exit_json(changed=False, installs=installs, removes=removes)


if __name__ == "__main__":
    main()
