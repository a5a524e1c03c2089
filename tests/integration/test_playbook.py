# SPDX-License-Identifier: GPL-3.0-or-later
import json
import os
import re
import shutil
import subprocess

import pytest
import yaml
from harness.modules import GEARMAN_LIBRARY
from harness.places import ROOT

PLAY = """
- hosts: localhost
  gather_facts: false
  connection: local
  check_mode: {check}
  diff: {diff}
  module_defaults:
    group/gearsync.mysql_redis.mysql:
      login_user: root
      login_unix_socket: {socket}
      config_file: /nonexistent
  tasks:
    - gearsync.mysql_redis.mysql_udf:
        soname: {library}
        functions: [{{name: gman_do_background}}]
    - gearsync.mysql_redis.gearman_servers:
        servers: ["{address}"]
        timeout: 120
    - gearsync.mysql_redis.mysql_trigger:
        name: note
        table: shop.t
        event: insert
        body: SET @a = 1
    - gearsync.mysql_redis.sync_table:
        table: shop.t
        delivery: direct
        columns: [id]
        write: [{{type: hash, key: "t:{{id}}"}}]
    - gearsync.mysql_redis.gearman_info:
        port: {port}
        timeout: 120
    - gearsync.mysql_redis.gearman_job:
        port: {port}
        function: played
        background: true
        timeout: 120
"""


@pytest.fixture
def run(tmp_path):
    """Run a play, and return what it says of each task: whether it changed something."""
    play = tmp_path / "play.yml"
    config = tmp_path / "ansible.cfg"
    config.touch()
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_PYTHON_INTERPRETER": "auto_silent",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_PIPELINING": "true",
    }
    ansible = shutil.which("ansible-playbook", path=f"{ROOT}/.work/venv/bin:{os.environ['PATH']}")

    def output(text):
        play.write_text(text)
        done = subprocess.run(
            [
                ansible,
                "-i",
                "localhost,",
                "-e",
                f"ansible_python_interpreter={shutil.which('python3', path=os.path.dirname(ansible))}",
                str(play),
            ],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(text):
        return [
            word == "changed"
            for word in re.findall(r"^(ok|changed): \[localhost\]", output(text), re.MULTILINE)
        ]

    run.output = output
    return run


@pytest.mark.usefixtures("schema")
def test_all_modules_in_a_play(database, gearman, triggers, run):
    """Packed up and sent by Ansible, with the login given once by the collection's action group."""
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY)")
    plays = [
        PLAY.format(
            check=check,
            diff=diff,
            socket=database.socket,
            library=GEARMAN_LIBRARY,
            address=gearman.address,
            port=gearman.port,
        )
        for check, diff in (("true", "false"), ("false", "false"), ("false", "true"))
    ]
    # In one run: had check mode made the changes, the second play would have none to make.
    first = [False, False, True, True, False, True]
    assert run("".join(plays)) == [*first, *first, False, False, False, False, False, True]
    assert len(triggers()) == 4
    gearman.jobs("played")


def test_the_login_options_as_the_readme_gives_them(database, gearman, run):
    example = re.search(r"^module_defaults:\n  .*\n", (ROOT / "README.md").read_text(), re.MULTILINE).group()
    play = yaml.safe_load(example.replace("/run/mysqld/mysqld.sock", database.socket))
    tasks = [
        {"gearsync.mysql_redis.gearman_servers": {"servers": [gearman.address], "timeout": 120}},
        {"gearsync.mysql_redis.gearman_info": {"port": gearman.port, "timeout": 120}},
        {"gearsync.mysql_redis.package_guard": {"name": ["bash"]}},
    ]
    assert run(
        json.dumps(
            [{"hosts": "localhost", "connection": "local", "gather_facts": False, **play, "tasks": tasks}]
        )
    ) == [False, False, False]


PASSWORDS = """
- hosts: localhost
  connection: local
  vars:
    # Checked by the role platform, which this machine may not be.
    __platform_is_supported: true
    redis_password: 12345
    redis_acl_users: [{name: reader, password: 0123, rules: "~* +@read"}]
    worker_redis: {host: 127.0.0.1, password: 12345}
    worker_mysql: {host: 192.0.2.1, user: gearsync, password: 678}
    worker_mysql_login_password: 9
    worker_tables: []
  tasks:
    - block:
        - ansible.builtin.include_role: {name: gearsync.mysql_redis.redis, tasks_from: preflight}
      rescue:
        - ansible.builtin.debug: {msg: "redis: {{ ansible_failed_result.msg }}"}
    - block:
        - ansible.builtin.include_role: {name: gearsync.mysql_redis.worker, tasks_from: preflight}
      rescue:
        - ansible.builtin.debug: {msg: "worker: {{ ansible_failed_result.msg }}"}
"""


def test_a_password_that_yaml_reads_as_a_number_is_refused_by_its_name(run):
    said = run.output(PASSWORDS)
    redis, worker = re.search(r'"redis: (.*)"', said).group(1), re.search(r'"worker: (.*)"', said).group(1)
    assert redis.startswith("redis_password and the password of reader in redis_acl_users must be text")
    for name in ("gearsync_redis", "gearsync_worker_mysql", "gearsync_mysql_login_password"):
        assert name in worker
    assert "12345" not in said
