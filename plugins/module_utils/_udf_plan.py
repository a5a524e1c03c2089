# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to be done so that the wanted functions of a library are registered. No I/O here."""

from __future__ import annotations

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._functions import (
    calls,
    create_sql,
    is_as_wanted,
    is_native,
    name_problem,
    show,
    soname_problem,
    wanted_row,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import ER_NATIVE_FCT_NAME_COLLISION


class PlanError(Exception):
    """A function that is wanted cannot be registered on this server."""


def parameter_problem(soname, functions):
    """What is wrong with the module's parameters, or None."""
    problem = soname_problem(soname)
    if problem:
        return problem
    seen = set()
    for function in functions:
        problem = name_problem(function["name"])
        if problem:
            return f"function {problem}"
        if function["name"].lower() in seen:
            return f"function {function['name']} is named twice"
        seen.add(function["name"].lower())
    return None


def registered_as_wanted(functions, registered, soname):
    """The names of the wanted functions that are registered as wanted. Only the server knows whether it
    has loaded them.
    """
    pairs = [(registered.get(function["name"].lower()), function) for function in functions]
    return [row["name"] for row, function in pairs if row is not None and is_as_wanted(row, function, soname)]


class Plan:
    """How the functions of a library get from what is registered to what is wanted.

    registered: all loadable functions of the server, by name in lower case. loaded: the names among them that
    are registered as wanted and work. server: has engine, version and version_text.
    """

    def __init__(self, functions, registered, soname, *, server, loaded):
        self.soname = soname
        self.skipped, self.keep, self.drop, self.create = [], [], [], []
        self.install = self.reload = False
        for function in functions:
            self._place(function, registered.get(function["name"].lower()), server, loaded)
        names = {function["name"].lower() for function in functions}
        # All that is registered with this library, and what of it is not wanted; that is left as it is.
        self.registered = [row for _name, row in sorted(registered.items()) if row["dl"] == soname]
        self.extra = [row for row in self.registered if row["name"].lower() not in names]

    def _place(self, function, row, server, loaded):
        name = function["name"]
        if row is None and is_native(name, server.engine, server.version):
            if function["native"] == "fail":
                raise PlanError(
                    f"function {name}: {server.engine} {server.version_text} has a function of that name "
                    f"itself and refuses another (error {ER_NATIVE_FCT_NAME_COLLISION}); leave it out, "
                    "or set native: skip"
                )
            self.skipped.append(name)
        elif row is not None and row["name"] in loaded:
            self.keep.append(row)
        else:
            if row is not None:
                self.drop.append(row)
            self.create.append(function)

    def statement(self, function):
        return create_sql(function["name"], function["returns"], function["aggregate"], self.soname)

    def is_change(self):
        return self.install or self.reload or bool(self.drop or self.create)

    def to_drop(self):
        """What goes before anything is created. A library is unloaded with the last of its functions."""
        if not self.reload:
            return self.drop
        return self.registered + [row for row in self.drop if row not in self.registered]

    def to_recreate(self):
        """What is dropped only because the library is loaded again."""
        return self.keep + self.extra if self.reload else []

    def skip(self, name):
        """Leave out a function that the server has turned out to have itself."""
        self.create = [function for function in self.create if function["name"] != name]
        self.skipped.append(name)

    def replaced(self):
        """The names of the functions that were missing for a while."""
        return [function["name"] for function in self.create] + [
            row["name"] for row in self.registered if self.reload
        ]

    def after(self):
        """The library's functions after the run, as mysql.func has them."""
        return self.keep + self.extra + [wanted_row(function, self.soname) for function in self.create]


class Removal:
    """What goes when functions of a library are dropped: those in functions, or all when that is empty."""

    def __init__(self, functions, registered, soname):
        names = {function["name"].lower() for function in functions}
        self.registered = [row for row in registered.values() if row["dl"] == soname]
        self.drop = [row for row in self.registered if not names or row["name"].lower() in names]
        self.after = [row for row in self.registered if row not in self.drop]


def calling_triggers(triggers, names):
    """Those of the server's triggers that call one of these functions, as (schema, table, trigger)."""
    return [(row["s"], row["t"], row["name"]) for row in triggers if calls(row["body"], names)]


def tables_of(triggers):
    return sorted({(schema, table) for schema, table, _name in triggers})


def settings_to_restore(before, now):
    """The settings of a Gearman library that it has lost, in the order in which they are set again: TLS
    after its files. Not the lock, which comes after the job servers.
    """
    lost = [
        (name, value)
        for name, value in before.items()
        if name != "locked" and now.get(name) != value and (name in now or name == "tls")
    ]
    return sorted(lost, key=lambda setting: (setting[0] == "tls", setting[0]))


def show_state(rows, path, digest):
    """Functions and their library as diffs show them."""
    return show(rows) + (f"-- sha256 of {path}: {digest}\n" if digest else "")
