import os
import re
import shutil
import subprocess

import pytest
from conftest import GEARMAN_LIBRARY, ROOT

PLAYBOOK = """
- hosts: localhost
  gather_facts: false
  connection: local
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
    - gearsync.mysql_redis.gearman_job:
        port: {port}
        function: played
        background: true
"""


@pytest.mark.usefixtures("schema")
def test_all_modules_in_a_play(database, gearman, triggers, tmp_path):
    """Packed up and sent by Ansible, with the login given once by the collection's action group."""
    database.execute("CREATE TABLE shop.t (id INT PRIMARY KEY)")
    play = tmp_path / "play.yml"
    config = tmp_path / "ansible.cfg"
    config.touch()
    play.write_text(PLAYBOOK.format(socket=database.socket, library=GEARMAN_LIBRARY, address=gearman.address, port=gearman.port))
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "ANSIBLE_NOCOLOR": "1",
                   "ANSIBLE_CONFIG": str(config), "ANSIBLE_PYTHON_INTERPRETER": "auto_silent", "ANSIBLE_LOCALHOST_WARNING": "false"}
    ansible = shutil.which("ansible-playbook", path=f"{ROOT}/.work/venv/bin:{os.environ['PATH']}")

    def run(*options):
        done = subprocess.run([ansible, "-i", "localhost,", "-e", f"ansible_python_interpreter={shutil.which('python3', path=os.path.dirname(ansible))}",
                               str(play), *options], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [word == "changed" for word in re.findall(r"^(ok|changed): \[localhost\]", done.stdout, re.MULTILINE)]

    before = triggers()
    assert run("--check") == [False, False, True, True, False, True]
    assert triggers() == before
    assert run() == [False, False, True, True, False, True]
    assert len(triggers()) == 4
    assert run("--diff") == [False, False, False, False, False, True]
    gearman.jobs("played")
