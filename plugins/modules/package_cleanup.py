#!/usr/bin/python
# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: package_cleanup
short_description: Remove packages again that were installed for a build
version_added: 1.1.0
description:
  - Removes packages, and those that only they need, when a note names them as packages that were not there
    before. Never anything else.
  - Simulates the removal first. When another package would go with them, because it has come to need one of
    them meanwhile, nothing is removed, and RV(kept_by) names it.
  - The note is removed with the packages, so that a removal that was interrupted is finished by the next run.
author:
  - The gearsync developers (@gearsync)
extends_documentation_fragment:
  - gearsync.mysql_redis.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description: The packages that were asked for.
    type: list
    elements: str
    required: true
  note:
    description: File with the names of the packages that were not there before, one a line.
    type: path
    required: true
  keep:
    description: Packages that stay although the note names them, as libraries that what was built needs.
    type: list
    elements: str
    default: []
  use:
    description: The package manager.
    type: str
    choices: [apt, dnf]
    required: true
"""

EXAMPLES = r"""
- name: Remove the compiler, if it was installed for the build
  gearsync.mysql_redis.package_cleanup:
    name: [g++, make, libevent-dev]
    keep: [libevent-2.1-7]
    note: /var/cache/gearsync/build/added-packages
    use: apt
"""

RETURN = r"""
removed:
  description: The packages that were removed.
  type: list
  elements: str
  returned: always
  sample: [g++, g++-12, make]
kept_by:
  description: The packages on whose account nothing was removed.
  type: list
  elements: str
  returned: always
  sample: []
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._package_managers import (
    apt_installed,
    dnf_installed,
    run,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._packages import (
    apt_plan,
    dnf_plan,
    removable,
)


class Manager:
    """A package manager, by its commands."""

    def __init__(self, module):
        self.module = module

    def run(self, command):
        """It must succeed."""
        run(self.module, command, check_rc=True)


class Apt(Manager):
    remove_command = ("apt-get", "--option", "DPkg::Lock::Timeout=300", "--yes", "remove")

    def installed(self, names):
        """Those of ``names`` that are installed."""
        return apt_installed(self.module, names)

    def keep(self, names):
        """Let ``names`` stay when nothing needs them."""
        self.run(["apt-mark", "manual", *names])

    def simulate(self, names, unneeded):
        # A package that another one merely suggests was not there before, either.
        unimportant = [
            f"--option=APT::AutoRemove::{kind}Important=false" for kind in ("Recommends", "Suggests")
        ]
        options = ["--auto-remove", *unimportant] if unneeded else ["--no-auto-remove"]
        return apt_plan(*run(self.module, ["apt-get", "--simulate", *options, "remove", *names]))

    def remove(self, names):
        self.run([*self.remove_command, "--no-auto-remove", *names])


class Dnf(Manager):
    def installed(self, names):
        return set(dnf_installed(self.module, names))

    def keep(self, names):
        self.run(["dnf", "--quiet", "--cacheonly", "mark", "install", *names])

    def simulate(self, names, unneeded):
        return dnf_plan(*run(self.module, [*self._command(unneeded), "--assumeno", "remove", *names]))

    def remove(self, names):
        self.run([*self._command(False), "--assumeyes", "remove", *names])

    @staticmethod
    def _command(unneeded):
        # From the installed packages alone, without a look at the repositories.
        return ["dnf", "--cacheonly", f"--setopt=clean_requirements_on_remove={unneeded}"]


def main():
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "note": {"type": "path", "required": True},
            "keep": {"type": "list", "elements": "str", "default": []},
            "use": {"type": "str", "choices": ["apt", "dnf"], "required": True},
        },
        supports_check_mode=True,
    )
    note = module.params["note"]
    if not os.path.exists(note):
        module.exit_json(changed=False, removed=[], kept_by=[])
    with open(note, encoding="utf-8") as file:
        added = set(file.read().split())
    manager = {"apt": Apt, "dnf": Dnf}[module.params["use"]](module)
    installed = manager.installed(sorted(added | set(module.params["keep"]))) if added else set()
    kept = sorted(installed & set(module.params["keep"]))
    if kept and not module.check_mode:
        manager.keep(kept)
    asked = sorted((installed & added & set(module.params["name"])) - set(kept))
    names, kept_by = removable(manager, asked, added - set(kept))
    if not module.check_mode:
        if names:
            manager.remove(names)
        os.remove(note)
    if kept_by:
        module.warn(f"{', '.join(asked)} stay, because {', '.join(kept_by)} would go with them.")
    module.exit_json(changed=bool(names), removed=names, kept_by=kept_by)


if __name__ == "__main__":
    main()
