# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loadable functions as SQL and as the server's tables show them. No I/O here."""

from __future__ import annotations

import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import literal, quote

# How mysql.func stores what a function returns.
RETURN_CODES = {"string": 0, "real": 1, "integer": 2, "decimal": 4}
RETURN_NAMES = {code: name for name, code in RETURN_CODES.items()}

# Since when a server has a function of that name itself, and refuses a loadable one.
NATIVE_SINCE = {
    "json_object": {"mysql": (5, 7, 8), "mariadb": (10, 2, 3)},
    "json_array": {"mysql": (5, 7, 8), "mariadb": (10, 2, 3)},
}


def is_native(name, engine, version):
    since = NATIVE_SINCE.get(name.lower(), {}).get(engine)
    return since is not None and tuple(version) >= since


def name_problem(name):
    if not re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name):
        return f"{name!r} is no name that a C library can export"
    if len(name) > 64:
        return f"{name!r} has more than 64 characters"
    return None


def soname_problem(soname):
    if not soname:
        return "soname is empty"
    if "/" in soname or "\\" in soname:
        return (
            f"soname {soname!r} has a path in it, which no server accepts; libraries are always taken "
            "from the server's plugin directory"
        )
    if soname.startswith("."):
        return f"soname {soname!r} is a hidden file"
    if len(soname) > 128:
        return f"soname {soname!r} has more than 128 characters"
    return None


def create_sql(name, returns, aggregate, soname):
    return "CREATE {}FUNCTION {} RETURNS {} SONAME {}".format(
        "AGGREGATE " if aggregate else "", quote(name), returns.upper(), literal(soname)
    )


def recreate_sql(row):
    """The statement that registers a function as a row of mysql.func has it."""
    return create_sql(row["name"], RETURN_NAMES[row["ret"]], row["type"] == "aggregate", row["dl"])


def drop_sql(name):
    return f"DROP FUNCTION {quote(name)}"


def forget_sql(name):
    """For a function that the server has not been able to load."""
    # quoted: recorded statements carry no parameters
    return f"DELETE FROM `mysql`.`func` WHERE `name` = {literal(name)}"


def wanted_row(function, soname):
    """A function as mysql.func will have it."""
    return {
        "name": function["name"],
        "ret": RETURN_CODES[function["returns"]],
        "dl": soname,
        "type": "aggregate" if function["aggregate"] else "function",
    }


def is_as_wanted(row, function, soname):
    wanted = wanted_row(function, soname)
    return all(row[member] == wanted[member] for member in ("ret", "dl", "type"))


def calls(body, names):
    """Which of these functions a trigger's body calls, as far as its text shows."""
    return [
        name for name in names if re.search(rf"(?<![\w$`.])`?{re.escape(name)}`?\s*\(", body, re.IGNORECASE)
    ]


def show(rows):
    """Registered functions as diffs show them."""
    return "".join(f"{recreate_sql(row)};\n" for row in sorted(rows, key=lambda row: row["name"]))
