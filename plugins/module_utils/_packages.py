# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a simulated installation says it would do: pure functions over the package managers' output."""

from __future__ import annotations

import re

#: Packages that carry a database server, by the names of the distributions and of the vendors' own repositories.
SERVERS = (
    r"(default-)?mysql-server(-core)?(-[0-9.]+)?",
    r"mysql[0-9.]+-server",
    r"mysql-(community|cluster-community|commercial)-server(-core)?(-minimal)?",
    r"mariadb-server(-core)?(-[0-9.]+)?",
    r"MariaDB-server",
    r"percona-(server-server|xtradb-cluster-server|xtradb-cluster)(-[0-9.]+)?",
    r"Percona-Server-server(-[0-9]+)?",
)


def apt_plan(output):
    """``(installed, removed)`` package names from ``apt-get --simulate install``: its Inst and Remv lines."""
    installed = re.findall(r"^Inst (\S+)", output, re.MULTILINE)
    removed = re.findall(r"^(?:Remv|Purg) (\S+)", output, re.MULTILINE)
    strip = [[name.split(":")[0] for name in names] for names in (installed, removed)]
    return sorted(set(strip[0])), sorted(set(strip[1]))


def dnf_plan(output):
    """``(installed, removed)`` package names from ``dnf --assumeno install``: the sections of its transaction table."""
    installed, removed = set(), set()
    target = None
    for line in output.splitlines():
        heading = line.strip().rstrip(":").lower()
        if line and not line.startswith(" "):
            if heading.startswith(("removing", "obsoleting")):
                target = removed
            elif heading.startswith(("installing", "upgrading", "downgrading", "reinstalling")):
                target = installed
            elif heading.startswith(("transaction summary", "=====")) or not heading:
                target = target if heading.startswith("=") else None
            continue
        replaced = re.match(r"\s+replacing\s+(\S+?)\.\S+\s", line)
        if replaced:
            removed.add(replaced.group(1))
        elif target is not None:
            row = re.match(r"^ (\S+)\s+\S+\s+\S+", line)
            if row:
                target.add(row.group(1))
    return sorted(installed), sorted(removed)


def endangered(removed, protect):
    """Those of ``removed`` that match one of the regular expressions in ``protect`` as a whole."""
    return [name for name in removed if any(re.fullmatch(pattern, name) for pattern in protect)]
