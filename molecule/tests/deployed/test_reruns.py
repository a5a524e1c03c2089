# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator sees on the second and every later run, and that nothing secret is in it."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
from collections.abc import Iterator

import pytest
from harness.hosts import ENTER, SECRET, Host, Playbooks, names, recap
from harness.places import ROOT


def test_check_mode_on_deployed_hosts_reports_no_change(playbooks: Playbooks) -> None:
    status, output = playbooks.run("site.yml", "--check", "--diff")
    assert status == 0, output
    for name in names():
        assert recap(output)[name]["changed"] == 0, output


def test_a_second_run_changes_nothing_and_prints_nothing_secret_at_the_highest_verbosity(
    playbooks: Playbooks,
) -> None:
    status, output = playbooks.run("site.yml", "-vvv", "--diff")
    assert status == 0, output[-4000:]
    changed = re.findall(r"^changed: .*", output, re.MULTILINE)
    assert {
        name: counters["changed"] for name, counters in recap(output).items() if name in names()
    } == dict.fromkeys(names(), 0), changed
    assert SECRET not in output


@pytest.mark.long
def test_the_smoke_playbook_passes(playbooks: Playbooks) -> None:
    status, output = playbooks.run("playbooks/smoke.yml")
    assert status == 0, output
    assert set(names()) <= set(recap(output))


def test_teardown_asks_for_confirmation(playbooks: Playbooks) -> None:
    status, output = playbooks.run("playbooks/teardown.yml")
    assert status != 0
    assert "gearsync_confirm=yes" in output
    assert all(counters.get("changed", 0) == 0 for counters in recap(output).values())


ONE_KEY = {"write": [{"type": "string", "key": "{column}"}]}
DIRECT = {"delivery": "direct", "function": "syncToRedis", "events": ["update"]}
#: Declarations of which each has a problem that shows without the tables, and what is named then.
AGAINST_THE_RULES: dict[str, tuple[dict[str, object], list[str]]] = {
    "an unknown write type": (
        {"table": "shop.customer", "columns": ["id"], "write": [{"type": "blob", "key": "b:{id}"}]},
        ["shop.customer", "blob"],
    ),
    "a key template naming an undeclared column": (
        {
            "table": "shop.order items",
            "columns": ["order", "line no"],
            "write": [{"type": "hash", "key": "o:{größe}"}],
        },
        ["größe"],
    ),
}
#: Those of which each has a problem that the check against the server's tables finds.
AGAINST_THE_TABLES: dict[str, tuple[dict[str, object], list[str]]] = {
    "a table that does not exist": (
        {"table": "test.no_such_table", "columns": ["a"], **DIRECT, **ONE_KEY},
        ["test.no_such_table"],
    ),
    "a column that does not exist": (
        {
            "table": "test.user_list",
            "columns": ["no_such_column"],
            **DIRECT,
            "write": [{"type": "string", "key": "u:{column}"}],
        },
        ["no_such_column"],
    ),
    "a table without a usable key": (
        {"table": "shop.no_key", "columns": ["a", "b"], "write": [{"type": "hash", "key": "k:{a}"}]},
        ["shop.no_key"],
    ),
}
ONE_KEY_TWICE = [
    {"table": name, "columns": ["name"], **DIRECT, **ONE_KEY} for name in ("test.a", "test.user_list")
]


def refused(playbooks: Playbooks, *options: str) -> str:
    """The output of a run on the first host that must end with an error before anything is changed."""
    status, output = playbooks.run("site.yml", "--limit", names()[0], *options)
    assert status != 0, output
    assert all(counters.get("changed", 0) == 0 for counters in recap(output).values()), output
    return output


def declared(declarations: dict[str, tuple[dict[str, object], list[str]]]) -> tuple[str, str]:
    return "--extra-vars", json.dumps(
        {"gearsync_tables": [table for table, _culprits in declarations.values()]}
    )


def test_all_declarations_against_the_rules_are_named_before_a_host_is_touched(playbooks: Playbooks) -> None:
    output = refused(playbooks, *declared({**AGAINST_THE_RULES, **AGAINST_THE_TABLES}))
    for case, (_table, culprits) in AGAINST_THE_RULES.items():
        for culprit in culprits:
            assert culprit in output, (case, output)
    assert "gather" not in output.lower()


def test_all_declarations_against_the_tables_are_named_before_anything_changed(playbooks: Playbooks) -> None:
    # Without its line breaks.
    output = " ".join(refused(playbooks, *declared(AGAINST_THE_TABLES)).split())
    for case, (table, culprits) in AGAINST_THE_TABLES.items():
        for culprit in (f"table {table['table']}: ", *culprits):
            assert culprit in output, (case, output)


def test_two_tables_that_write_one_key_are_refused_before_anything_changed(playbooks: Playbooks) -> None:
    output = refused(
        playbooks, "--tags", "sync_triggers", "--extra-vars", json.dumps({"gearsync_tables": ONE_KEY_TWICE})
    )
    for culprit in ("test.a", "test.user_list", "{column}"):
        assert culprit in output


def test_a_wrong_checksum_is_refused_before_anything_changed(playbooks: Playbooks) -> None:
    # Another version than the installed one, so that the archive would be needed.
    output = refused(
        playbooks,
        "--tags",
        "gearmand",
        "--extra-vars",
        "gearmand_version=1.1.20",
        "--extra-vars",
        "gearmand_source_sha256=" + "0" * 64,
    )
    assert "gearmand_source_sha256" in output


def test_an_unreachable_job_server_is_named_before_anything_changed(playbooks: Playbooks) -> None:
    output = refused(
        playbooks,
        "--tags",
        "mysql_udf",
        "--extra-vars",
        '{"gearsync_job_servers": ["127.0.0.1:4730", "127.0.0.1:4799"]}',
    )
    assert "127.0.0.1:4799" in output


@pytest.fixture
def plan9_host() -> Iterator[Host]:
    """A bare host that says it runs a system nobody supports."""
    host = Host("gearsync-plan9")
    subprocess.run([ROOT / "molecule/hosts/up", host.name, "debian12"], check=True, capture_output=True)
    try:
        host.run(
            "rm -f /etc/debian_version /etc/os-release && printf 'NAME=Plan9\\nID=plan9\\nVERSION_ID=4\\n' "
            ">/etc/os-release"
        )
        yield host
    finally:
        subprocess.run([ROOT / "molecule/hosts/down", host.name], check=True, capture_output=True)


def test_an_unsupported_platform_is_refused_before_anything_changed(
    playbooks: Playbooks, plan9_host: Host, tmp_path: pathlib.Path
) -> None:
    groups = {
        f"gearsync_{group}": {"hosts": {plan9_host.name: None}}
        for group in ("mysql", "gearmand", "redis", "workers")
    }
    inventory = {
        **groups,
        "all": {"vars": {"ansible_connection": "test_host", "ansible_test_host_enter": str(ENTER)}},
    }
    (tmp_path / "hosts.yml").write_text(json.dumps(inventory))
    status, output = Playbooks([str(tmp_path / "hosts.yml")]).run("site.yml")
    assert status != 0, output
    assert "Plan9" in output
    assert all(counters.get("changed", 0) == 0 for counters in recap(output).values()), output
