# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rights with which the modules can do all their work on a server, and which of them an account lacks. No
I/O here.
"""

from __future__ import annotations

import collections
import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._account_plan import ON_TABLE
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._grants import (
    ALL,
    level_sql,
    parse_grants,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import SCHEMA

GRANT_OPTION = "GRANT OPTION"
EVERYTHING = (None, None)
_ON_SCHEMA = (
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "CREATE",
    "ALTER",
    "DROP",
    "CREATE ROUTINE",
    "ALTER ROUTINE",
    "EXECUTE",
    GRANT_OPTION,
)
_GLOBAL = re.compile(r"GRANT (.+?) ON \*\.\* TO (?:.*?)( WITH GRANT OPTION)?", re.DOTALL)
_REVOKE = re.compile(r"REVOKE (.+?) ON `((?:[^`]|``)*)`\.\* FROM .*", re.DOTALL)

# levels: the privileges by (schema, table) of a GRANT, a schema as a pattern and EVERYTHING for *.*. revoked:
# the privileges by schema that do not hold there although they do on everything.
Held = collections.namedtuple("Held", "levels revoked")


def definer_right(engine, version):
    """The right to make triggers that run as another account."""
    if engine == "mariadb":
        return "SET USER" if version >= (10, 5, 2) else "SUPER"
    if version >= (8, 2):
        return "SET_ANY_DEFINER"
    return "SET_USER_ID" if version >= (8, 0) else "SUPER"


def needed_rights(engine, version, tables, *, definer):
    """The privileges by their levels. tables: (schema, table) of the declared ones. definer: whether the
    triggers run as an account of their own.
    """
    on_everything = ("CREATE USER", definer_right(engine, version)) if definer else ("CREATE USER",)
    return {
        EVERYTHING: on_everything,
        ("mysql", None): ("SELECT",),
        (SCHEMA, None): _ON_SCHEMA,
        **dict.fromkeys(tables, (*ON_TABLE["definer"], GRANT_OPTION)),
    }


def held_rights(lines):
    """Held from the lines that SHOW GRANTS prints, of an account and its active roles, in a session with
    sql_quote_show_create.
    """
    grants = parse_grants(lines)
    levels = {level: set(privileges) for level, privileges in grants.levels.items()}
    for level in grants.delegated:
        levels.setdefault(level, set()).add(GRANT_OPTION)
    revoked = {}
    for line in lines:
        whole, partial = _GLOBAL.fullmatch(line), _REVOKE.fullmatch(line)
        if whole:
            names = {GRANT_OPTION} if whole.group(2) else set()
            levels.setdefault(EVERYTHING, set()).update(names, re.split(r", ?", whole.group(1)))
        elif partial:
            schema = partial.group(2).replace("``", "`")
            revoked.setdefault(schema, set()).update(re.split(r", ?", partial.group(1)))
    return Held(levels, revoked)


def _covers(level, wanted):
    """Whether what is granted on a level holds on the wanted one. The schema of a GRANT on a whole schema is
    a pattern.
    """
    if level in (wanted, EVERYTHING):
        return True
    (schema, table), (wanted_schema, _table) = level, wanted
    if table is not None or wanted_schema is None:
        return False
    parts = re.findall(r"\\.|.", schema, re.DOTALL)
    pattern = "".join({"%": ".*", "_": "."}.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(pattern, wanted_schema, re.DOTALL) is not None


def missing_rights(held, needed):
    """Those of the needed privileges that are not held, by their levels."""
    missing = {}
    for wanted, privileges in needed.items():
        has = set()
        for level, names in held.levels.items():
            if _covers(level, wanted):
                every = set(privileges) - {GRANT_OPTION} if ALL in names else set()
                lost = held.revoked.get(wanted[0], set()) if level == EVERYTHING else set()
                has |= (names | every) - lost
        if wanted == EVERYTHING and "SUPER" in has:
            # Servers let it stand for the right to name a definer.
            has |= {name for name in privileges if name != "CREATE USER"}
        lacking = tuple(name for name in privileges if name not in has)
        if lacking:
            missing[wanted] = lacking
    return missing


def grant_statements(missing, account):
    """The statements that give an account what it lacks. account: as SQL."""
    statements = []
    for level, privileges in missing.items():
        names = [name for name in privileges if name != GRANT_OPTION] or ["USAGE"]
        place = "*.*" if level == EVERYTHING else level_sql(level)
        option = " WITH GRANT OPTION" if GRANT_OPTION in privileges else ""
        statements.append(f"GRANT {', '.join(names)} ON {place} TO {account}{option}")
    return statements
