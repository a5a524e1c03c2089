# Copyright (c) 2026, the gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a table and its server can serve a declaration."""

from __future__ import annotations

from ansible_collections.gearsync.mysql_redis.plugins.module_utils._column_sql import (
    is_large,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declaration import (
    column_problems,
    key_columns,
    key_problems,
    match_columns,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.problem import Problem
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import (
    declaration_problems,
    source_problems,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.template import write_columns
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._outbox import settings_problems
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._table import (
    blind_spots,
    find_table,
    has_transactions,
    registered_functions,
    schema_exists,
)
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._trigger_ddl import definer_problem

# The options that make up a declaration.
DECLARATION = ("table", "delivery", "function", "events", "columns", "write", "transform", "computed")
SUBMIT_FUNCTION = "gman_do_background"
WAKE_FUNCTION = "gman_wake"


class DeclarationError(Exception):
    """The declaration cannot be carried out; problems has every reason."""

    def __init__(self, problems):
        self.problems = [str(problem) for problem in problems]
        super().__init__("; ".join(self.problems))


def option_problems(params):
    """Everything that is wrong with the options, whatever the server has."""
    declaration = {name: params[name] for name in DECLARATION}
    if params["state"] == "absent":
        return [
            problem
            for problem in declaration_problems({**declaration, "delivery": "direct"})
            if problem.path == ("table",)
        ]
    problems = declaration_problems(declaration) + source_problems(params["source"])
    if not 1 <= params["shards"] <= 256:
        problems.append(Problem(("shards",), "must be 1 to 256, not {}".format(params["shards"])))
    if not params["wake"] and params["delivery"] == "direct":
        message = "must be true with delivery: direct, whose triggers submit jobs by a function of the server"
        problems.append(Problem(("wake",), message, "declare delivery: durable"))
    return problems


def existing_table(database, schema, table):
    """The table as find_table returns it. Raises DeclarationError when it cannot have triggers."""
    row = find_table(database, schema, table)
    if row is None:
        if not schema_exists(database, schema):
            raise DeclarationError(
                [
                    (
                        f"the schema {schema} does not exist, or the account that is logged in has no "
                        "right to see it"
                    )
                ]
            )
        raise DeclarationError(
            ["the table does not exist, or the account that is logged in has no right to see it"]
        )
    kind = row["type"].upper()
    if kind not in ("BASE TABLE", "SYSTEM VERSIONED"):
        raise DeclarationError(
            [f"it is a {kind.lower()}, which cannot have triggers; declare the tables behind it"]
        )
    return row


def check_table(database, declaration, existing, facts):
    """The warnings of a declaration that the table can serve. Raises DeclarationError when it cannot."""
    names = [column["name"] for column in facts["columns"]]
    problems = column_problems(declaration, names)
    if problems:
        raise DeclarationError(problems)
    real, _missing = match_columns(declaration["columns"], names)
    problems, warnings = key_problems(
        declaration, names, facts["unique_keys"], {column["name"]: column for column in facts["columns"]}
    )
    if problems:
        raise DeclarationError(problems)
    if declaration["computed"]:
        warnings.append(
            "{}: what {} computes must be the same for the same row for ever, or what it has written is not "
            "removed again".format(", ".join(declaration["computed"]), declaration["transform"])
        )
    return warnings + blind_spots(database, existing["s"], existing["t"], existing["engine"], real.values())


def durable_problems(declaration, facts):
    """(problems, warnings) of durable delivery that follow from the table's columns and keys."""
    by_name = {column["name"]: column for column in facts["columns"]}
    real, _missing = match_columns(declaration["columns"], list(by_name))
    large = [name for name in declaration["columns"] if is_large(by_name[real[name]])]
    identifying = {name for write in declaration["write"] for name in write_columns(write, ("key", "member"))}
    warnings = [
        f"column {name!r} is in a key or a member: what a value of an eighth of max_allowed_packet or more "
        "has written there is not removed again"
        for name in large
        if name in identifying
    ]
    problems = []
    key = key_columns(declaration, real, facts["unique_keys"])
    if facts["period"] and not key:
        problems.append(
            "the table has a period, and DELETE ... FOR PORTION OF may leave a row with the key of the one "
            "that it deletes, so that a worker"
            " must look, but columns does not name all columns of a PRIMARY KEY or of a UNIQUE key of NOT "
            "NULL columns; add them"
        )
    inexact = [name for name in key if by_name[real[name]]["data_type"].lower() == "float"]
    if inexact:
        problems.append(
            f"column {', '.join(map(repr, inexact))} is a FLOAT, of which the server shows fewer digits "
            "than it compares, so that a worker would"
            " not find a row by it; make it a DOUBLE or a DECIMAL, or let the keys name another unique key"
        )
    if large and not key:
        problems.append(
            f"{', '.join(large)} may be too large for a change, so that a worker must find the row by "
            "itself, but columns does not name all columns of a PRIMARY KEY or of a UNIQUE key of NOT "
            "NULL columns; add them"
        )
    return problems, warnings


def engine_problems(database, engine):
    """(problems, warnings) of durable delivery for a table of this engine."""
    if has_transactions(database, engine):
        return [], []
    if database.variable("enforce_gtid_consistency") == "ON":
        problem = (
            f"engine {engine} has no transactions, and with enforce_gtid_consistency=ON the server refuses "
            "writes that go to such a table and to"
            " the outbox; change the engine to InnoDB, or declare delivery: direct"
        )
        return [problem], []
    return [], [
        (
            f"engine {engine}: a transaction that is rolled back keeps the table's changes, but takes "
            "them out of the outbox"
        )
    ]


def check_durable(database, declaration, existing, facts):
    """The warnings of durable delivery. Raises DeclarationError when it is not possible."""
    warnings = settings_problems(database)
    problems = []
    for wrong, more in (engine_problems(database, existing["engine"]), durable_problems(declaration, facts)):
        problems += wrong
        warnings += more
    if problems:
        raise DeclarationError(problems)
    return warnings


def server_problems(database, definer, delivery, *, wake=True):
    """(problems, warnings) of the server that an earlier task of the same play may solve: without a
    function or an account the triggers fail.
    """
    problems, warnings = [], []
    functions = registered_functions(database)
    if functions is not None and delivery == "direct" and SUBMIT_FUNCTION not in functions:
        problems.append(
            f"the server has no function {SUBMIT_FUNCTION}, so the triggers would send nothing; register it "
            "with mysql_udf first"
        )
    if functions is not None and delivery == "durable" and wake and WAKE_FUNCTION not in functions:
        warnings.append(
            f"the server has no function {WAKE_FUNCTION}, so workers find changes by their timer only; "
            "register it with mysql_udf"
        )
    if definer is not None:
        problem = definer_problem(database, definer)
        if problem:
            problems.append(problem)
    return problems, warnings
