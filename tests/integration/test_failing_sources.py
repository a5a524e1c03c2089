# SPDX-License-Identifier: GPL-3.0-or-later
"""A source that only its server shows to be wrong: it is left out, and the others go on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import managed as playbooks
from harness.managed import LOCAL, NO_SSH, SECRET, TABLE, managed_server, play, recap, source
from harness.outbox_database import OutboxDatabase
from harness.places import ROOT

#: The preflight, and who is there after it.
PLAYS = [
    {"import_playbook": str(ROOT / "playbooks/preflight.yml")},
    play("gearsync_mysql:gearsync_workers", {"ansible.builtin.debug": {"msg": "GOES ON"}, "tags": "always"}),
]
WRONG_PASSWORD = {"gearsync_mysql_login_password": "wrong"}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "password": (WRONG_PASSWORD, "Access denied for user"),
    "right": ({"gearsync_mysql_login_user": "reader"}, "GRANT "),
    "table": ({"gearsync_tables": [{**TABLE, "table": "shop.nosuch"}]}, "shop.nosuch"),
    "column": (
        {"gearsync_tables": [{**TABLE, "columns": ["id", "nosuch"]}]},
        "nosuch",
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[OutboxDatabase]:
    with managed_server() as database:
        database.execute(
            f"CREATE USER reader@'127.0.0.1' IDENTIFIED BY '{SECRET}'",
            "GRANT SELECT ON *.* TO reader@'127.0.0.1'",
        )
        yield database


def run(directory: Path, databases: dict[str, Any]) -> tuple[int, str]:
    """Exit status and output, without what asks job servers."""
    servers = {"gearsync_job_servers": ["jobs.example"], "gearsync_redis": {"host": "cache.example"}}
    workers = {"w1": {**LOCAL, **servers}}
    return playbooks.run(directory, PLAYS, databases, "--tags", "sync_triggers", workers=workers)


def failed(output: str) -> set[str]:
    """The hosts of which a task has failed."""
    return {host for host, (_changed, number) in recap(output).items() if number}


def gone_on(output: str) -> set[str]:
    """The hosts that are there after the preflight."""
    return set(re.findall(r"ok: \[(\w+)\] => \n +msg: GOES ON", output))


def test_sources_that_their_servers_show_to_be_wrong_are_left_out_and_others_go_on(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    databases = {
        name: source(server, name, number, **variables)
        for number, (name, (variables, _message)) in enumerate(WRONG.items(), 1)
    }
    status, output = run(tmp_path, {**databases, "good": source(server, "good", 0)})
    assert status == 2, output
    for _variables, message in WRONG.values():
        assert message in " ".join(output.split()), output
    assert (failed(output), gone_on(output)) == (set(WRONG), {"good", "w1"}), output


def test_all_members_of_a_source_that_cannot_be_told_apart_are_left_out(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    databases = {
        "one": source(server, "bad", 0),
        "other": source(server, "bad", 0),
        "good": source(server, "good", 1),
    }
    status, output = run(tmp_path, databases)
    assert status == 2, output
    assert "one and other are one server" in " ".join(output.split())
    assert (failed(output), gone_on(output)) == ({"one", "other"}, {"good", "w1"}), output


def test_a_run_of_which_no_source_is_left_ends_before_anything_is_changed(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    # One could not be reached before, the other one fails later.
    away = source(server, "away", 0, gearsync_mysql_login_port=1)
    status, output = run(tmp_path, {"away": away, "bad": source(server, "bad", 1, **WRONG_PASSWORD)})
    assert status == 2, output
    assert "No source is left" in " ".join(output.split())
    assert gone_on(output) == set()


def served(directory: Path, script: str, playbook: str) -> tuple[int, str]:
    """Exit status and output of a playbook for the sources bad and good, which two worker hosts serve. Their
    command is a shell script.
    """
    command = directory / "bin/gearsync"
    command.parent.mkdir()
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    databases = {}
    for name in ("bad", "good"):
        (directory / f"{name}.yml").write_text("{}")
        databases[name] = {"gearsync_source": name, "gearsync_worker_mysql": {"host": name}, **NO_SSH}
    variables = {
        "gearsync_tables": [TABLE],
        "__worker_command": [str(command)],
        "__worker_venv": str(directory),
        "__worker_config": f"{directory}/{{{{ worker_source }}}}.yml",
    }
    plays = [{"import_playbook": str(ROOT / f"playbooks/{playbook}.yml")}]
    workers = dict.fromkeys(("w1", "w2"), LOCAL)
    return playbooks.run(directory, plays, databases, "--extra-vars", json.dumps(variables), workers=workers)


#: By playbook: what its command does, the task that fails for one source, and what is said of the other.
SERVED = {
    "verify": (
        """echo '{"tables": []}'; case "$*" in */bad.yml*) exit 2 ;; esac""",
        "Require equal sides",
        "Source good: compared by w1",
    ),
    "resync": (
        'case "$*" in *--dry-run*) echo rows ;; */bad.yml*) exit 1 ;; *) echo "all done" ;; esac',
        "Load the tables",
        "all done",
    ),
}


@pytest.mark.parametrize("playbook", SERVED)
def test_what_fails_for_one_source_is_done_for_the_others_of_the_worker_host(
    tmp_path: Path, playbook: str
) -> None:
    script, task, good = SERVED[playbook]
    status, output = served(tmp_path, script, playbook)
    said = " ".join(output.split())
    assert status == 2, output
    assert good in said, output
    assert f'these sources failed, see above: bad at the task "{task}": ' in said


def test_a_teardown_leaves_a_source_that_fails_and_what_it_needs(
    tmp_path: Path, server: OutboxDatabase
) -> None:
    databases = {"bad": source(server, "bad", 0, **WRONG_PASSWORD), "good": source(server, "good", 1)}
    plays = [{"import_playbook": str(ROOT / "playbooks/teardown.yml")}]
    # In check mode: the worker host is this machine.
    options = ("--check", "--extra-vars", "gearsync_confirm=yes")
    status, output = playbooks.run(tmp_path, plays, databases, *options, shared={"s1": LOCAL})
    said = " ".join(output.split())
    assert status == 2, output
    assert failed(output) == {"bad", "s1"}, output
    assert "s1 stays as it is: the source bad, of which a database server has failed, could" in said, output
    # Of two sources the worker host takes away one.
    assert re.findall(r"one_source.yml for w1 => \(item=(\w+)\)", output) == ["good"], output
    assert "PLAY [Remove the settings of the database servers]" in output
