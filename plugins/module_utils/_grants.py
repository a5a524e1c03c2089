# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rights of an account: what SHOW GRANTS prints, and what brings them to those that are needed. No I/O
here.
"""

from __future__ import annotations

import collections
import re

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._mysql import qualified, quote

ALL = "ALL PRIVILEGES"

_NAME = r"`(?:[^`]|``)*`"
_PRIVILEGE = rf"[A-Z][A-Z_ ]*[A-Z](?: ?\((?:{_NAME}|[^`)])*\))?"
# Rights on a schema or a table; those on everything, on columns and on routines are kept as text.
_GRANT = re.compile(
    rf"GRANT ({_PRIVILEGE}(?:, ?{_PRIVILEGE})*) ON ({_NAME})\.(\*|{_NAME}) TO (.*)", re.DOTALL
)
_GLOBAL = re.compile(r"GRANT ([A-Z_ ,]+) ON \*\.\* TO ", re.DOTALL)
_STRING = re.compile(r"'(?:[^'\\]|\\.|'')*'", re.DOTALL)

# What SHOW GRANTS prints. levels: the privileges by (schema, table), the table None for a whole schema.
# delegated: the levels WITH GRANT OPTION. by_column: those with rights on some columns. others: the lines of
# all other rights, without secrets.
Grants = collections.namedtuple("Grants", "levels delegated by_column others")
NO_GRANTS = Grants({}, frozenset(), frozenset(), ())

# verb: GRANT or REVOKE. privileges: a tuple. level: a key of Grants.levels.
Step = collections.namedtuple("Step", "verb privileges level")


def _unquote(name):
    return name[1:-1].replace("``", "`")


def level_sql(level):
    """A level as GRANT has it."""
    schema, table = level
    return f"{quote(schema)}.*" if table is None else qualified(schema, table)


def without_secrets(line):
    """A line of SHOW GRANTS or SHOW CREATE USER without hashes of passwords."""
    begin = line.find(" IDENTIFIED ")
    return line if begin < 0 else line[:begin] + _STRING.sub("'hidden'", line[begin:])


def parse_grants(lines):
    """Grants from the lines that SHOW GRANTS prints in a session with sql_quote_show_create."""
    levels, delegated, by_column, others = {}, set(), set(), []
    for line in lines:
        match = _GRANT.fullmatch(line)
        if not match:
            # USAGE alone is no right; its line has the password's hash on MariaDB.
            if not line.startswith("GRANT USAGE ON *.* "):
                others.append(without_secrets(line))
            continue
        privileges = re.findall(_PRIVILEGE, match.group(1))
        level = (_unquote(match.group(2)), None if match.group(3) == "*" else _unquote(match.group(3)))
        whole = {privilege for privilege in privileges if "(" not in privilege} - {"USAGE"}
        if whole:
            levels[level] = levels.get(level, frozenset()) | whole
        if match.group(4).endswith(" WITH GRANT OPTION"):
            delegated.add(level)
        of_columns = [privilege for privilege in privileges if "(" in privilege]
        if of_columns:
            by_column.add(level)
            others.append(f"GRANT {', '.join(of_columns)} ON {level_sql(level)}")
    return Grants(levels, frozenset(delegated), frozenset(by_column), tuple(others))


def only_global(line):
    """The privileges of a line that grants nothing but privileges on everything; else None."""
    match = _GLOBAL.match(line)
    if not match or line.endswith(" WITH GRANT OPTION"):
        return None
    return {privilege.strip() for privilege in match.group(1).split(",")}


def missing_steps(grants, wanted):
    """What grants the privileges in wanted, by their levels, that an account does not have."""
    return [
        Step("GRANT", privileges, level)
        for level, privileges in wanted.items()
        if ALL not in grants.levels.get(level, ())
        and not grants.levels.get(level, set()).issuperset(privileges)
    ]


def surplus_steps(grants, unneeded):
    """What revokes privileges that the collection has granted and that are not needed any more.

    unneeded: by their levels, the privileges that it grants there. An account that may pass on its rights on
    a table, or has all of them, has them from someone else, who knows what they are for. Rights on columns
    are someone else's, too, and would go with the one on the table.
    """
    steps = []
    for level, privileges in unneeded.items():
        had = [each for each in privileges if each in grants.levels.get(level, ())]
        if had and level not in grants.delegated | grants.by_column:
            steps.append(Step("REVOKE", tuple(had), level))
    return steps


def apply_steps(grants, steps):
    """Grants after steps."""
    levels = dict(grants.levels)
    for step in steps:
        had = levels.pop(step.level, frozenset())
        left = had.union(step.privileges) if step.verb == "GRANT" else had.difference(step.privileges)
        if left:
            levels[step.level] = left
    return grants._replace(levels=levels)


def statement(step, account):
    """The SQL of a step. account: as SQL."""
    preposition = "TO" if step.verb == "GRANT" else "FROM"
    privileges = ", ".join(step.privileges)
    return f"{step.verb} {privileges} ON {level_sql(step.level)} {preposition} {account}"


def _grant_line(grants, level):
    option = " WITH GRANT OPTION" if level in grants.delegated else ""
    privileges = ", ".join(sorted(grants.levels[level]))
    return f"GRANT {privileges} ON {level_sql(level)}{option}"


def foreign_lines(grants, ours, allowed):
    """The rights of an account that the collection has not granted, as lines.

    ours: by their levels, the privileges that it grants there. allowed: privileges on everything that are no
    one else's.
    """
    others = [line for line in grants.others if not (only_global(line) or {ALL}) <= allowed]
    foreign = [
        level
        for level, privileges in grants.levels.items()
        if level in grants.delegated or not privileges.issubset(ours.get(level, ()))
    ]
    return [*(_grant_line(grants, level) for level in sorted(foreign, key=level_sql)), *others]


def show_grants(grants):
    """Grants as diffs show them, a line each."""
    return [*(_grant_line(grants, level) for level in sorted(grants.levels, key=level_sql)), *grants.others]
