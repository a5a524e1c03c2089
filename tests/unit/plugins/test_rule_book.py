# SPDX-License-Identifier: GPL-3.0-or-later
"""The rule book is one: the collection's copy and the worker's are the same, and say the same of whatever
a user writes.
"""

from __future__ import annotations

import copy
import datetime
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible_collections.gearsync.mysql_redis.plugins.filter.declarations import FilterModule
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.fields import FIELDS, WRITE_FIELDS
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.rules import declaration_problems
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._declare.template import TEMPLATE_FIELDS
from ansible_collections.gearsync.mysql_redis.plugins.module_utils._sync_checks import option_problems
from ansible_collections.gearsync.mysql_redis.plugins.modules import sync_table
from gearsync.declare.configuration import inspect
from gearsync.declare.declaration import typed
from harness.places import ROOT
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

COLLECTION, WORKER = ROOT / "plugins/module_utils/_declare", ROOT / "worker/src/gearsync/declare"
FILTER = FilterModule().filters()["declaration_problems"]
VALIDATOR = ArgumentSpecValidator(sync_table.argument_spec())
#: Declarations that are looked at in one file, and files.
TABLES, FILES = 10, int(os.environ.get("GEARSYNC_TEST_FILES", "300"))


@pytest.mark.parametrize(
    "name", [path.name for path in COLLECTION.glob("*.py") if path.name != "__init__.py"]
)
def test_both_copies_are_the_same(name: str) -> None:
    assert (COLLECTION / name).read_bytes() == (WORKER / name).read_bytes()


HASH = {"type": "hash", "key": "t:{id}"}
GOOD: list[dict[str, Any]] = [
    {"table": "s.a", "columns": ["id", "a", "b"], "write": [HASH]},
    {
        "table": "s.b",
        "columns": ["id"],
        "write": [{"type": "string", "key": "{column}"}],
        "delivery": "direct",
        "function": "f",
    },
    {
        "table": "`s`.`c`",
        "columns": ["id", "a"],
        "write": [{"type": "string", "key": "c:{id}", "value": "{a}", "ttl": 5}],
        "events": ["insert"],
    },
    {
        "table": "s.d",
        "columns": ["id", "a"],
        "write": [{"type": "set", "key": "d:{a}", "member": "{id}"}, {"type": "json", "key": "j:{id}"}],
    },
    {
        "table": "s.e",
        "columns": ["id"],
        "write": [{"type": "zset", "key": "e", "member": "{id}", "score": "{id}", "distinct": True}],
    },
    {
        "table": "s.f",
        "columns": ["id"],
        "write": [
            {"type": "list", "key": "{[}f{]}", "value": "{id}", "max": 9},
            {"type": "stream", "key": "x", "maxlen": 9},
        ],
    },
    {
        "table": "s.g",
        "columns": ["id"],
        "write": [{"type": "hash", "key": "{{g}}:{id}:{slug}"}],
        "transform": "m:f",
        "computed": ["slug"],
    },
]
DROP = object()
NAMES = [
    "",
    "id",
    "Id",
    "a",
    "slug",
    "SLUG",
    "column",
    "[",
    "insert",
    "upsert",
    "direct",
    "durabel",
    "s.a",
    "s.t",
    "a b",
    "m:f",
    "set",
    "zet",
    "x" * 300,
    "a\x07b",
]
TEMPLATES = [
    "{id}",
    "{a}:{id}",
    "{Id}",
    "{no}",
    "{column}",
    "{id}:{column}",
    "{id}{a}",
    "{id",
    "id}",
    "{}",
    "{{x}}:{id}",
    "{[}x{]}:{id}",
    "{[}",
    "x",
    "{slug}",
    "d:{id}",
    "t:{id}",
    "c:{id}",
    "{id}:id",
    "1.5",
    "high",
    "",
]
WILD = [
    DROP,
    None,
    0,
    -1,
    1,
    5,
    2**60,
    2**70,
    1.5,
    True,
    False,
    [],
    {},
    [None],
    ["id"],
    ["id", "ID"],
    [1],
    [[]],
    [{}],
    {"id": 1},
    [HASH],
    [HASH, HASH],
    HASH,
    datetime.date(2026, 1, 2),
    "é",
    "-",
    "on",
    "12",
    "~",
]
#: Places of a declaration, some of which are no fields, and what is put there.
CHANGES = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from([("write", number, name) for number in range(2) for name in TEMPLATE_FIELDS]),
            st.sampled_from(TEMPLATES),
        ),
        st.tuples(
            st.sampled_from(
                [(name, number) for name in ("columns", "events", "computed") for number in range(3)]
            ),
            st.sampled_from(NAMES),
        ),
        st.tuples(
            st.sampled_from(
                [
                    ("table",),
                    ("delivery",),
                    ("function",),
                    ("transform",),
                    ("write", 0, "type"),
                    ("write", 1, "type"),
                ]
            ),
            st.sampled_from(NAMES),
        ),
        st.tuples(
            st.one_of(
                st.sampled_from(
                    [(name,) for name in (*FIELDS, "colums", "Table", "two words", "", 1, None, True)]
                ),
                st.sampled_from(
                    [
                        ("write", number, name)
                        for number in range(2)
                        for name in (*WRITE_FIELDS, "tll", "column", 2)
                    ]
                ),
                st.sampled_from(
                    [
                        (name, number)
                        for name in ("write", "columns", "events", "computed")
                        for number in range(3)
                    ]
                ),
            ),
            st.one_of(st.sampled_from(WILD), st.text(max_size=5)),
        ),
    ),
    max_size=4,
)


def changed(declaration: Any, changes: list[tuple[tuple[Any, ...], Any]]) -> Any:
    """A declaration with other values at some places, as far as it has these."""
    found = copy.deepcopy(declaration)
    for path, value in changes:
        whole = found
        for part in path[:-1]:
            whole = (
                whole[part]
                if isinstance(whole, dict) and part in whole
                else whole[part]
                if isinstance(whole, list) and part in range(len(whole))
                else None
            )
        if isinstance(whole, list) and isinstance(path[-1], int):
            whole[path[-1] : path[-1] + 1] = [] if value is DROP else [copy.deepcopy(value)]
        elif isinstance(whole, dict) and value is not DROP:
            whole[path[-1]] = copy.deepcopy(value)
        elif isinstance(whole, dict):
            whole.pop(path[-1], None)
    return found


DECLARATIONS = st.builds(changed, st.sampled_from([*GOOD, *GOOD, None, "x", 5]), CHANGES)


def written(document: Any) -> str:
    """A document as JSON or as YAML: YAML has dates, and no pairs of surrogates as JSON has them."""
    text = json.dumps(document, default=str)
    is_json = len(text) % 2 and "\\ud" not in text and "2026-01-02" not in text
    return text if is_json else str(yaml.dump(document, Dumper=yaml.CSafeDumper))


def by_the_worker(path: Path) -> list[str]:
    _config, found = inspect(str(path))
    return [
        f"gearsync_{each.path}{f' of {each.table}' if each.table else ''}: {each.message}; {each.hint}"
        for each in found
    ]


def as_given(taken: Any, given: Any) -> Any:
    """Of what the module's options made of a value, the fields that were given."""
    if isinstance(given, dict) and isinstance(taken, dict):
        return {name: as_given(taken.get(name), value) for name, value in given.items()}
    if isinstance(given, list) and isinstance(taken, list) and len(given) == len(taken):
        return [as_given(one, other) for one, other in zip(taken, given)]
    return taken


def check_the_module(declaration: dict[str, Any]) -> None:
    """What the module's options let through unchanged has the problems that the rule book names; the rest
    is not without any.
    """
    wanted = declaration_problems(declaration)
    found = VALIDATOR.validate(copy.deepcopy(declaration))
    taken = as_given(found.validated_parameters, declaration)
    if found.error_messages or json.dumps(taken) != json.dumps(declaration):
        assert wanted, (declaration, found.error_messages, taken)
    else:
        assert option_problems(found.validated_parameters) == wanted


# Without shrinking, which takes minutes: what is said of one declaration is short enough.
@settings(
    max_examples=FILES,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
@given(st.lists(DECLARATIONS, min_size=TABLES, max_size=TABLES))
def test_module_playbook_and_worker_say_the_same(
    tmp_path_factory: pytest.TempPathFactory, tables: list[Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "worker.yml"
    text = written({"job_servers": ["h"], "mysql": {"user": "u"}, "tables": tables})
    path.write_text(text)
    read = DataLoader().load(text)["tables"]
    wanted = FILTER(read)
    found = by_the_worker(path)
    assert sorted(found) == sorted(wanted), [*({*found} ^ {*wanted}), text]
    for declaration in tables:
        if not declaration_problems(declaration):
            assert typed(declaration).table == declaration["table"]
    for declaration in json.loads(text)["tables"] if text.startswith('{"') else ():
        if isinstance(declaration, dict):
            check_the_module(declaration)
