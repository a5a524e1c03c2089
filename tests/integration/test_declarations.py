# SPDX-License-Identifier: GPL-3.0-or-later
"""Declarations as an inventory has them, read by a real ansible-playbook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from gearsync.declare.configuration import load
from harness.places import ROOT
from harness.playbook import LOCAL, Run, ansible_playbook

INVENTORY = """
all:
  hosts: {{localhost: {local}}}
  children: {{gearsync_mysql: {{hosts: {{localhost: }}}}, gearsync_workers: {{hosts: {{localhost: }}}}}}
  vars:
    gearsync_tables:
"""
TAGS = """\
      - {table: shop.customer, columns: [id], write: [{type: hash, key: "{[}customer{]}:{id}"}]}
      - table: shop.invoice
        columns: [id]
        write: [{type: hash, key: !unsafe "{{invoice}}:{id}"}, {type: json, key: "{[}{id}{]}:json"}]
"""
WRONG = """\
      - {table: shop.t, colums: [id], write: [{type: hash, key: 5, ttl: "5"}]}
      - shop.u
      - {table: shop.v, columns: [id], write: [{type: hahs, key: !unsafe "{{v}}{nr}"}], events: }
      - {table: shop.v}
"""


def run(directory: Path, declarations: str, playbook: Path, **more: Any) -> Run:
    inventory = directory / "inventory.yml"
    inventory.write_text(INVENTORY.format(local=json.dumps(LOCAL)) + declarations)
    return ansible_playbook("-i", inventory, "--extra-vars", json.dumps(more), playbook)


def sync_and_configure(socket: str, configuration: Path) -> str:
    """A playbook that checks the declarations, makes their triggers, and writes them into a worker's file."""
    check = {
        "ansible.builtin.include_role": {
            "name": "gearsync.mysql_redis.sync_triggers",
            "tasks_from": "check",
        },
        "vars": {"sync_triggers_tables": "{{ gearsync_tables }}"},
    }
    sync = {
        "gearsync.mysql_redis.sync_table": {
            "table": "{{ item.table }}",
            "columns": "{{ item.columns }}",
            "write": "{{ item.write }}",
            "login_user": "root",
            "login_unix_socket": socket,
            "config_file": "/nonexistent",
        },
        "loop": "{{ gearsync_tables }}",
    }
    config = {"job_servers": ["h"], "mysql": {"user": "u"}, "tables": "{{ gearsync_tables }}"}
    copy = {
        "ansible.builtin.copy": {
            "content": "{{ config | to_nice_yaml }}",
            "dest": str(configuration),
            "mode": "0600",
        },
        "vars": {"config": config},
    }
    return yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": [check, sync, copy]}])


def test_hash_tags_reach_the_triggers_and_the_worker(
    tmp_path: Path, database: Any, schema: str, gearman: Any
) -> None:
    database.execute(
        "DROP DATABASE IF EXISTS gearsync",
        *(f"CREATE TABLE shop.{name} (id INT PRIMARY KEY) ENGINE=InnoDB" for name in ("customer", "invoice")),
    )
    play = tmp_path / "play.yml"
    play.write_text(sync_and_configure(database.socket, tmp_path / "worker.yml"))
    done = run(tmp_path, TAGS, play)
    assert done.status == 0, done.output
    keys = {"shop.customer": ["{[}customer{]}:{id}"], "shop.invoice": ["{{invoice}}:{id}", "{[}{id}{]}:json"]}
    stored = dict(database.execute("SELECT table_name, content FROM gearsync.numbered_declaration"))
    assert {
        name: [write["key"] for write in json.loads(content)["write"]] for name, content in stored.items()
    } == keys
    assert {
        table.table: [write.key for write in table.write]
        for table in load(str(tmp_path / "worker.yml")).tables
    } == keys
    for name in keys:
        database.execute(f"DROP TABLE {name}")
    database.execute("DROP DATABASE gearsync")


@pytest.mark.parametrize(
    ("declarations", "messages"),
    [
        # As if the braces were Ansible's: an unknown variable, and no expression.
        (
            '      - {table: shop.t, columns: [id], write: [{type: hash, key: "{{customer}}:{id}"}]}\n',
            ["'customer' is undefined", "Write {[} and {]} for braces that are meant as such", "!unsafe"],
        ),
        (
            '      - {table: shop.t, columns: [id], write: [{type: hash, key: "{{{id}}}:x"}]}\n',
            ["Syntax error", "Write {[} and {]} for braces that are meant as such", "!unsafe"],
        ),
        (
            WRONG,
            [
                "gearsync_tables[0].colums of shop.t: is unknown; did you mean columns?",
                "gearsync_tables[0].columns of shop.t: is missing",
                "gearsync_tables[0].write[0].key of shop.t: must be text, not a number",
                "gearsync_tables[0].write[0].ttl of shop.t: must be a whole number, not text",
                "gearsync_tables[1]: must be a mapping, not text",
                "gearsync_tables[2].write[0].type of shop.v: 'hahs' is unknown; did you mean hash?",
                "gearsync_tables[2].write[0].key of shop.v: '{{v}}{nr}' names 'nr', which is not in columns",
                "gearsync_tables[2].events of shop.v: must be a list, not null",
                "gearsync_tables[3].table of shop.v: is declared by tables[2] already",
            ],
        ),
        # Not a list at all.
        ("", ["gearsync_tables: must be a list, not null"]),
    ],
)
def test_the_preflight_reports_all_problems_before_it_looks_at_a_host(
    tmp_path: Path, declarations: str, messages: list[str]
) -> None:
    done = run(
        tmp_path,
        declarations,
        ROOT / "playbooks/preflight.yml",
        gearsync_job_servers=["h"],
        gearsync_redis={"host": "h"},
    )
    said = " ".join(done.output.split()).replace("''", "'")
    assert done.status != 0
    for message in [*messages, "Nothing was changed"]:
        assert message in said, done.output
    assert "Gather the facts" not in said


def test_the_role_alone_checks_the_declarations_together(tmp_path: Path) -> None:
    play = tmp_path / "play.yml"
    play.write_text(
        "- {hosts: localhost, gather_facts: false, roles: [gearsync.mysql_redis.sync_triggers]}\n"
    )
    done = run(
        tmp_path,
        "".join(
            f'      - {{table: shop.{name}, columns: [id], write: [{{type: hash, key: "t:{{id}}"}}], '
            f"evnets: [insert]}}\n"
            for name in ("t", "u")
        ),
        play,
    )
    said = " ".join(done.output.split()).replace("''", "'")
    assert done.status != 0
    for message in (
        "gearsync_tables[0].evnets of shop.t: is unknown; did you mean events?",
        "gearsync_tables[1].write[0].key of shop.u: 't:{id}' may be a key that shop.t writes as 't:{id}'",
    ):
        assert message in said, done.output
