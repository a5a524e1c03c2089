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
  - Simulates the installation of packages with the host's own package manager, and fails with the packages'
    names when it would remove an installed database server, replace it by another package, or move it to
    another release series (from 10.5 to 10.11, from 8.0 to 8.4); and, unless O(allow_server_update=true),
    when it would update it within its series, because the package restarts the server then.
  - Packages that are installed already are left out of the simulation, as M(ansible.builtin.apt) and
    M(ansible.builtin.dnf) with O(ansible.builtin.apt#module:state=present) leave them alone.
  - Installs and removes nothing, in check mode or out of it. As any question to it, the simulation may
    refresh the caches of the package manager.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
  - gearsync.mysql_redis.attributes.info_module
options:
  name:
    description: The packages that are about to be installed.
    type: list
    elements: str
    required: true
  use:
    description:
      - The package manager.
      - V(auto) takes V(dnf) on a host with an RPM database, V(apt) otherwise.
    type: str
    choices: [auto, apt, dnf]
    default: auto
  enablerepo:
    description: Repositories to enable for the simulation, as for M(ansible.builtin.dnf). Only for V(dnf).
    type: list
    elements: str
    default: []
  install_recommends:
    description: Whether recommended packages count too, as for M(ansible.builtin.apt). Only for V(apt).
    type: bool
    default: false
  protect:
    description:
      - Regular expressions; an installed package whose whole name matches one is protected.
      - When left out, the server packages of MariaDB, MySQL and Percona as the distributions and the vendors
        name them.
    type: list
    elements: str
  allow_server_update:
    description:
      - Whether the installation may bring a newer version of the server's release series, and with it the
        server's restart.
    type: bool
    default: false
  allow_unresolved:
    description:
      - Do not fail when the package manager does not know a package or finds no solution, but return
        RV(unknown) and RV(problem).
      - For a look before the package lists are fetched.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Make sure that the build dependencies leave the database server alone
  gearsync.mysql_redis.package_guard:
    name: [g++, make, libevent-dev]

- name: The same on Enterprise Linux
  gearsync.mysql_redis.package_guard:
    name: [gcc-c++, make, gperf]
    enablerepo: [crb]
"""

RETURN = r"""
installs:
  description: The packages that would be installed or change their version; empty when everything is there.
  type: list
  elements: str
  returned: always
  sample: [g++, g++-12, make]
new:
  description: Those of RV(installs) of which no version is installed.
  type: list
  elements: str
  returned: always
  sample: [g++, g++-12, make]
removes:
  description: The packages that would be removed or replaced.
  type: list
  elements: str
  returned: always
  sample: []
unknown:
  description: The packages that the package manager does not know.
  type: list
  elements: str
  returned: always
  sample: []
resolved:
  description: Whether the package manager knows all packages and finds a way to install them.
  type: bool
  returned: always
  sample: true
problem:
  description: The message of the package manager when it finds no solution.
  type: str
  returned: always
  sample: ""
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._package_managers import (
    apt_installed,
    dnf_installed,
    run,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._packages import (
    SERVERS,
    Plan,
    apt_plan,
    dnf_plan,
    endangered,
    updated,
)


class Apt:
    def __init__(self, module):
        self.module = module
        self.recommends = [] if module.params["install_recommends"] else ["--no-install-recommends"]

    def missing(self, names):
        installed = apt_installed(self.module, names)
        return [name for name in names if name not in installed]

    def simulate(self, names):
        command = ["apt-get", "--simulate", "--quiet", *self.recommends, "install", *names]
        return apt_plan(*run(self.module, command))


class Dnf:
    def __init__(self, module):
        self.module = module
        self.repositories = [f"--enablerepo={name}" for name in module.params["enablerepo"]]

    def missing(self, names):
        installed = dnf_installed(self.module, names)
        return [name for name in names if name not in installed]

    def simulate(self, names):
        command = ["dnf", "--assumeno", *self.repositories, "install", *names]
        plan = dnf_plan(*run(self.module, command))
        if plan.changed:
            old = dnf_installed(self.module, sorted(plan.changed))
            plan = plan._replace(
                changed={name: (old.get(name, ""), new) for name, (_unknown, new) in plan.changed.items()}
            )
        return plan


def package_manager(module):
    use = module.params["use"]
    if use == "auto":
        rpm = module.get_bin_path("rpm")
        use = (
            "dnf"
            if module.get_bin_path("dnf") and rpm and module.run_command([rpm, "--query", "--all"])[1].strip()
            else "apt"
        )
    command = {"apt": "apt-get", "dnf": "dnf"}[use]
    if not module.get_bin_path(command):
        module.fail_json(
            msg=f"{command} is not on this host, so the installation cannot be simulated. Only apt and "
            "dnf are supported."
        )
    return {"apt": Apt, "dnf": Dnf}[use](module)


def make_plan(manager, names):
    """The plan for what of ``names`` is missing. Unknown names do not keep the others from being looked
    at.
    """
    wanted = manager.missing(names)
    if not wanted:
        return Plan([], [], {}, [], "")
    plan = manager.simulate(wanted)
    known = [name for name in wanted if name not in plan.unknown]
    if plan.unknown and known and len(known) < len(wanted):
        return manager.simulate(known)._replace(unknown=plan.unknown)
    return plan


def refusal(params, plan, protect):
    """Why the packages must not be installed, or cannot be; empty when nothing speaks against it."""
    names = ", ".join(params["name"])
    lost = endangered(plan, protect)
    if lost:
        return (
            f"Installing {names} would take the database server away: {', '.join(lost)}. Nothing was "
            "installed. Leave out the package that conflicts with the server, or take it from where the "
            "server comes from."
        )
    restarted = [] if params["allow_server_update"] else updated(plan, protect)
    if restarted:
        return (
            f"Installing {names} would update the database server, which restarts it: "
            f"{', '.join(restarted)}. Nothing was installed. Update the server yourself when a restart "
            "suits, or allow it (allow_server_update of this module, mysql_restart_allowed of the roles)."
        )
    if params["allow_unresolved"]:
        return ""
    if plan.unknown:
        sources = "No enabled package source of this host has"
        return f"{sources} {', '.join(plan.unknown)}. Nothing was installed."
    if plan.problem:
        return f"{names} cannot be installed; the package manager reports: {plan.problem}"
    return ""


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "use": {"type": "str", "choices": ["auto", "apt", "dnf"], "default": "auto"},
            "enablerepo": {"type": "list", "elements": "str", "default": []},
            "install_recommends": {"type": "bool", "default": False},
            "protect": {"type": "list", "elements": "str"},
            "allow_server_update": {"type": "bool", "default": False},
            "allow_unresolved": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    names = module.params["name"]
    plan = make_plan(package_manager(module), names)
    result = {key: getattr(plan, key) for key in ("installs", "removes", "unknown", "problem")}
    result["new"] = [name for name in plan.installs if name not in plan.changed]
    result["resolved"] = not (plan.unknown or plan.problem)
    protect = SERVERS if module.params["protect"] is None else module.params["protect"]
    problem = refusal(module.params, plan, protect)
    if problem:
        module.fail_json(msg=problem, **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
