# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks ask about declarations. Each filter is documented in the file of its name."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    is_durable,
    source_problems,
    split_table_name,
    tables_problems,
)


def declaration_problems(tables, source="main"):
    """What is wrong with declarations and the name of their source, a sentence each."""
    return [f"gearsync_{problem}" for problem in (*source_problems(source), *tables_problems(tables))]


def durable_tables(tables):
    """The declarations that ask for durable delivery."""
    return [declaration for declaration in tables if is_durable(declaration)]


def quoted_table(name):
    """The name of a table as SQL has it."""
    names = split_table_name(name)
    if names is None:
        raise AnsibleFilterError(f"{name!r} does not name a schema and a table; write schema.table")
    return ".".join("`{}`".format(part.replace("`", "``")) for part in names)


class FilterModule:
    def filters(self):
        return {
            "declaration_problems": declaration_problems,
            "durable_tables": durable_tables,
            "quoted_table": quoted_table,
        }
