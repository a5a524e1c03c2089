# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a simulated installation would do: pure functions over the output of apt-get and dnf."""

from __future__ import annotations

import re
from typing import NamedTuple

#: Packages that carry a database server, by the names of the distributions and of the vendors' own
#: repositories.
SERVERS = (
    r"(default-)?mysql-server(-core)?(-[0-9.]+)?",
    r"mysql[0-9.]+-server",
    r"mysql-(cluster-)?(community|commercial)-server(-core|-minimal)?",
    r"mariadb-server(-core)?(-galera)?(-[0-9.]+)?",
    r"mariadb[0-9.]+-server",
    r"MariaDB-server(-compat)?",
    r"percona-(server|xtradb-cluster)-server(-[0-9.]+)?",
    r"Percona-(Server|XtraDB-Cluster)-server(-[0-9]+)?",
)


class Plan(NamedTuple):
    """A package manager's plan. ``changed``: packages that are installed and get another version, with
    both versions.
    """

    installs: list
    removes: list
    changed: dict
    unknown: list
    problem: str


def apt_plan(status, out, err):
    """Plan of ``apt-get --simulate install``: its ``Inst NAME [OLD] (NEW …)`` and ``Remv NAME [OLD]``
    lines.
    """
    installs, changed = set(), {}
    for name, old, new in re.findall(r"^Inst (\S+)(?: \[(\S+)\])? \((\S+)", out, re.MULTILINE):
        installs.add(_bare(name))
        if old:
            changed[_bare(name)] = (old, new)
    removes = {_bare(name) for name in re.findall(r"^(?:Remv|Purg) (\S+)", out, re.MULTILINE)}
    unknown = re.findall(r"^E: Unable to locate package (\S+)", err, re.MULTILINE)
    unknown += re.findall(r"^E: Package '?([^' ]+)'? has no installation candidate", err, re.MULTILINE)
    # apt explains unmet dependencies on standard output.
    problem = "" if status == 0 or unknown else _tail(out + err)
    return Plan(sorted(installs), sorted(removes), changed, sorted(set(unknown)), problem)


def dnf_plan(status, out, err):
    """Plan of ``dnf --assumeno install``: the sections of its transaction table, and its message when there
    is none.

    ``changed`` has the new versions only (the table does not show the old ones).
    """
    installs, removes, changed = set(), set(), {}
    section = ""
    lines = out.splitlines()
    for number, line in enumerate(lines):
        replaced = re.match(r" +replacing +(\S+)\.[^.\s]+ ", line)
        row = re.match(r" (\S+)(?: +\S+ +(\S+))?", line)
        if replaced:
            removes.add(replaced.group(1))
        elif row:
            # A long name stands alone, its columns on the next line.
            version = row.group(2) or [*"".join(lines[number + 1 : number + 2]).split(), "", ""][1]
            if section.startswith("installing module"):
                # Profiles; their packages are in a section of their own.
                continue
            if section.startswith(("installing", "reinstalling")):
                installs.add(row.group(1))
            elif section.startswith(("upgrading", "downgrading")):
                installs.add(row.group(1))
                changed[row.group(1)] = ("", version)
            elif section.startswith("removing"):
                removes.add(row.group(1))
        elif line.endswith(":"):
            section = line.lower()
        elif line.startswith("Transaction Summary"):
            break
    unknown = re.findall(r"^No match for argument: (\S+)", out + "\n" + err, re.MULTILINE)
    # dnf ends with status 1 when --assumeno is given.
    as_asked = status == 0 or "Operation aborted." in out + err
    problem = "" if as_asked or unknown else _tail(out + "\n" + err)
    return Plan(sorted(installs), sorted(removes), changed, sorted(set(unknown)), problem)


def endangered(plan, protect):
    """``name (why)`` of every protected package that the plan removes, or moves to another release series."""
    return [f"{name} (removed)" for name in plan.removes if _matches(name, protect)] + [
        f"{name} ({old} would become {new})"
        for name, (old, new) in _renewed(plan, protect)
        if series(old) != series(new)
    ]


def updated(plan, protect):
    """The same of every protected package that the plan moves to another version of its release series:
    its server is restarted then.
    """
    return [
        f"{name} ({old} would become {new})"
        for name, (old, new) in _renewed(plan, protect)
        if series(old) == series(new)
    ]


def removable(manager, asked, added):
    """What of ``added`` goes with ``asked``, because nothing else needs it; and the other packages that would
    go too, on whose account nothing is removed.
    """
    if not asked:
        return [], []
    names = sorted(set(manager.simulate(asked, unneeded=True).removes) & added)
    plan = manager.simulate(names, unneeded=False)
    others = sorted((set(plan.removes) | set(plan.installs)) - set(names))
    complete = not others and set(plan.removes) == set(names)
    return (names, []) if complete else ([], others or names)


def _matches(name, protect):
    return any(re.fullmatch(pattern, name) for pattern in protect)


def _renewed(plan, protect):
    return [
        (name, versions)
        for name, versions in sorted(plan.changed.items())
        if _matches(name, protect) and name not in plan.removes
    ]


def series(version):
    """The release series, ``10.11`` of ``1:10.11.14-0+deb12u2``: another one is another server, the same
    one a bug fix.
    """
    upstream = version.partition(":")[2] or version
    return ".".join(re.findall(r"\d+", upstream)[:2])


def _bare(name):
    """A package's name without its architecture."""
    return name.partition(":")[0]


def _tail(text):
    """The end of a package manager's output, short enough for a message, without dnf's advice to erase
    what is in the way.
    """
    noise = ("Reading ", "Building ", "Last metadata", "(try to add")
    kept = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(noise)]
    return " ".join(kept)[-1500:]
