# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory sets wins, as Ansible resolves it: a role's variable over gearsync_*, and gearsync_*
over the role's default.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.places import ROOT
from harness.playbook import LOCAL, ansible_playbook

#: Every role, so that a new one cannot be forgotten.
ROLES = sorted(path.parent.parent.name for path in (ROOT / "roles").glob("*/meta/argument_specs.yml"))
#: A default that is one of the shared variables.
REFERENCE = re.compile(r"^\{\{ (gearsync_\w+) \}\}$")
#: These mean something else than the shared variable that is called like them: sources to compile, not the
#: synced database.
OTHERS = {"mysql_udf_source", "gearmand_source"}


def defaults(role: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / f"roles/{role}/defaults/main.yml").read_text()) or {}


def options(role: str) -> dict[str, Any]:
    """What the main entry point of ``role`` takes; of the role with the shared variables, what its check
    takes.
    """
    specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())["argument_specs"]
    return (specs.get("main") or specs["check"]).get("options", {})


SHARED = options("gearsync")
#: The variables of roles that follow a shared one, with its name.
FOLLOWERS = {
    name: match.group(1)
    for role in ROLES
    for name, value in defaults(role).items()
    for match in [REFERENCE.match(str(value))]
    if match
}


#: Nothing listens on port 1.
UNREACHABLE = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}


def run(
    directory: Path, inventory: dict[str, Any], reached: dict[str, Any], *arguments: str
) -> tuple[int, str]:
    """Exit status and output of ansible-playbook from the project's root, with ``inventory``, whose hosts
    are reached by the variables ``reached``.
    """
    file = directory / "inventory.yml"
    inventory = {**inventory, "all": {"vars": reached}}
    file.write_text(json.dumps(inventory))
    return ansible_playbook("-i", file, *arguments)


def value(option: dict[str, Any], number: int) -> Any:
    """A value for ``option`` that is not its default; two numbers give two of them, but for a bool and a
    choice, whose second is the default.
    """
    if "choices" in option:
        return next(choice for choice in option["choices"] if (number == 1) == (choice != option["default"]))
    kinds = {
        "str": f"value {number}",
        "path": f"/value/{number}",
        "int": 70 + number,
        "float": number + 0.5,
        "dict": {"host": f"host-{number}"},
        "list": [{"table": f"shop.t{number}"}] if option.get("elements") == "raw" else [f"value-{number}"],
    }
    return kinds[option["type"]] if option["type"] != "bool" else (number == 1) != option["default"]


@pytest.fixture(scope="module")
def resolved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By host, the value of each variable of the roles: where nothing is set, where gearsync_* are, and
    where the roles' own variables are set too.
    """
    directory = tmp_path_factory.mktemp("variables")
    shared = {name: value(option, 1) for name, option in SHARED.items()}
    own = {name: value(SHARED[shared], 2) for name, shared in FOLLOWERS.items()}
    names = [name for role in ROLES for name in defaults(role)]
    dump = {
        "ansible.builtin.copy": {
            "content": "{{ dict(names | zip(names | map('extract', vars))) | to_json }}",
            "dest": f"{directory}/{{{{ inventory_hostname }}}}.json",
            "mode": "0600",
        }
    }
    # All that the roles do has tags, but for the check of their arguments.
    play = {
        "hosts": "all",
        "gather_facts": False,
        "vars": {"names": names},
        "roles": [f"gearsync.mysql_redis.{role}" for role in ROLES],
        "tasks": [{"name": "Show the variables", "tags": ["show"], **dump}],
    }
    (directory / "play.yml").write_text(json.dumps([play]))
    hosts = {"unset": {}, "shared": shared, "own": {**shared, **own}}
    servers = {
        "db1": {},
        "db2": {"mysql_socket": "/run/db2.sock"},
        "db3": {"gearsync_worker_mysql": {"host": "db1", "password": "x"}},
    }
    inventory = {"ungrouped": {"hosts": hosts}, "gearsync_mysql": {"hosts": servers}}
    status, output = run(directory, inventory, LOCAL, "--tags", "show", str(directory / "play.yml"))
    assert status == 0, output
    return {host: json.loads((directory / f"{host}.json").read_text()) for host in [*hosts, *servers]} | {
        "given": {**shared, **own}
    }


def test_a_variable_that_is_not_set_has_the_default_of_its_specification(
    resolved: dict[str, dict[str, Any]],
) -> None:
    for role in ROLES:
        for name, option in options(role).items():
            if "default" in option:
                assert resolved["unset"][name] == option["default"], name


def test_a_variable_of_a_role_wins_over_the_shared_one_and_that_over_the_default(
    resolved: dict[str, dict[str, Any]],
) -> None:
    given = resolved["given"]
    for name, shared in FOLLOWERS.items():
        assert resolved["shared"][name] == given[shared], name
        assert resolved["own"][name] == given[name], name
        assert given[name] != given[shared] != resolved["unset"][name], name


def test_a_worker_beside_mysql_uses_its_socket_unless_it_is_given_another_way(
    resolved: dict[str, dict[str, Any]],
) -> None:
    """The account is made on the host itself then, and on all database servers otherwise."""
    found = {
        host: (resolved[host]["worker_mysql"], resolved[host]["worker_mysql_servers"])
        for host in ("db1", "db2", "db3")
    }
    assert found == {
        "db1": ({"unix_socket": "/run/mysqld/mysqld.sock"}, ["db1"]),
        "db2": ({"unix_socket": "/run/db2.sock"}, ["db2"]),
        "db3": ({"host": "db1", "password": "x"}, ["db1", "db2", "db3"]),
    }
    assert resolved["unset"]["worker_mysql"] == {}


def test_each_variable_that_is_called_like_a_shared_one_follows_it() -> None:
    assert FOLLOWERS
    for role in ROLES:
        for name in defaults(role).keys() - SHARED.keys() - OTHERS:
            rest = name.removeprefix(f"{role}_")
            for shared in {f"gearsync_{rest}", f"gearsync_{name}", f"gearsync_mysql_{rest}"} & SHARED.keys():
                assert FOLLOWERS.get(name) == shared


def test_no_playbook_sets_what_belongs_to_the_inventory() -> None:
    """A play's variables win over the inventory's."""
    belongs = SHARED.keys() | {name for role in ROLES for name in defaults(role)}

    def variables(node: Any) -> set[str]:
        if isinstance(node, list):
            return set().union(*map(variables, node))
        if not isinstance(node, dict):
            return set()
        return set(node.get("vars") or {}) | variables(list(node.values()))

    for playbook in (ROOT / "playbooks").glob("*.yml"):
        assert not variables(yaml.safe_load(playbook.read_text())) & belongs, playbook.name


def test_each_shared_variable_is_read() -> None:
    files = [
        path
        for pattern in (
            "playbooks/*.yml",
            "playbooks/tasks/*.yml",
            "roles/*/defaults/*.yml",
            "roles/*/tasks/*.yml",
            "roles/*/vars/*.yml",
        )
        for path in ROOT.glob(pattern)
    ]
    # Not in a comment or a message.
    read = set(
        re.findall(
            r"(?:\{\{|[(]|that:|when:|-|,|not|or|and) *(gearsync_\w+)",
            "".join(re.sub(r"(?m)^ *#.*", "", path.read_text()) for path in files),
        )
    )
    assert SHARED.keys() <= read


def test_the_readmes_name_the_variables_that_exist() -> None:
    def rows(file: str) -> set[str]:
        return set(re.findall(r"(?m)^\| `(gearsync_\w+)` \|", (ROOT / file).read_text()))

    assert rows("roles/gearsync/README.md") == SHARED.keys()
    assert len(rows("README.md")) == 10
    assert rows("README.md") <= SHARED.keys()


def command(directory: Path) -> dict[str, Any]:
    """Extra variables for a `gearsync` of our own, which writes its arguments into the file ``arguments``."""
    program = directory / "bin/gearsync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{directory}/arguments\necho \'{{"tables": []}}\'\n')
    program.chmod(0o755)
    (directory / "worker.yml").write_text("{}")
    return {
        "__worker_command": [str(program)],
        "__worker_venv": str(directory),
        "__worker_config": str(directory / "worker.yml"),
    }


@pytest.mark.parametrize(
    ("playbook", "variables", "wanted"),
    [
        (
            "verify",
            {"worker_verify_sample": 10, "gearsync_verify_prune": True, "worker_verify_max_prune": 7},
            ["--sample 10", "--prune --max-prune 7"],
        ),
        (
            "resync",
            {"worker_resync_chunk": 99, "worker_resync_where": "id < 9", "gearsync_resync_rate": 5},
            ["--chunk 99", "--where id < 9", "--rate 5"],
        ),
    ],
)
def test_a_playbook_uses_what_the_inventory_sets(
    tmp_path: Path, playbook: str, variables: dict[str, Any], wanted: list[str]
) -> None:
    host = {
        "gearsync_tables": [{"table": "shop.item", "columns": ["id"], "write": []}],
        "worker_mysql": {"host": "db"},
        **variables,
    }
    status, output = run(
        tmp_path,
        {"gearsync_workers": {"hosts": {"one": host}}},
        LOCAL,
        "--extra-vars",
        json.dumps(command(tmp_path)),
        f"playbooks/{playbook}.yml",
    )
    assert status == 0, output
    arguments = (tmp_path / "arguments").read_text()
    for option in wanted:
        assert option in arguments


@pytest.mark.parametrize("playbook", ["site", "smoke", "verify", "resync", "teardown"])
def test_a_name_that_nothing_reads_is_refused_before_a_host_is_touched(tmp_path: Path, playbook: str) -> None:
    inventory = {
        "gearsync_mysql": {"hosts": {"db1": {"gearsync_shard": 8}}},
        "gearsync_workers": {
            "hosts": {"worker1": {}, "worker2": {}},
            "vars": {"gearsync_job_server": ["jobs1"]},
        },
        "elsewhere": {"hosts": {"other": {"gearsync_hosts_of_others": True}}},
    }
    status, output = run(
        tmp_path,
        inventory,
        UNREACHABLE,
        "--extra-vars",
        "gearsync_verify_repare=true",
        f"playbooks/{playbook}.yml",
    )
    assert status != 0, output
    said = " ".join(output.split())
    for line in (
        "gearsync_job_server on all hosts of gearsync_workers: did you mean gearsync_job_servers?",
        "gearsync_shard on db1: did you mean gearsync_shards?",
        "gearsync_verify_repare on all hosts: did you mean gearsync_verify_repair?",
    ):
        assert line in said
    assert "others" not in said
    assert "unreachable=1" not in said


def test_a_shared_variable_of_the_wrong_type_is_refused_before_a_host_is_touched(tmp_path: Path) -> None:
    inventory = {"gearsync_workers": {"hosts": {"worker1": {"gearsync_shards": "many"}}}}
    status, output = run(tmp_path, inventory, UNREACHABLE, "playbooks/verify.yml")
    assert status != 0
    assert "gearsync_shards" in output
    assert "unreachable=1" not in output
