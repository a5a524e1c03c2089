# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where is compiled. The filter is documented in the file of its name."""

from __future__ import annotations

#: What two hosts have in common when what was compiled on one runs on the other.
PLATFORM = ("distribution", "distribution_major_version", "architecture")
DATABASES = "gearsync_mysql"
OTHERS = ("gearsync_gearmand", "gearsync_workers")


def _platform(variables):
    return [variables.get("ansible_facts", {}).get(fact) for fact in PLATFORM]


def build_host(host, hostvars, groups):
    """The host that compiles for ``host``: itself, or for a database server another one of the run."""
    databases = groups.get(DATABASES, ())
    if host not in databases:
        return host
    others = [other for group in OTHERS for other in groups.get(group, ()) if other not in databases]
    fitting = (
        other
        for other in others
        if hostvars[other].get("__gearsync_in_run")
        and _platform(hostvars[other]) == _platform(hostvars[host])
    )
    return next(fitting, host)


class FilterModule:
    def filters(self):
        return {"build_host": build_host}
