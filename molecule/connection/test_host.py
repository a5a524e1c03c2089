# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's way into a test host: the container's namespaces are entered directly.

containers.podman.podman needs four or five podman processes for every task, because it cannot pipeline; a
deployment of a hundred tasks then waits for podman more than for anything else. This does the same with one
nsenter per task (molecule/hosts/enter).
"""

from __future__ import annotations

DOCUMENTATION = """
name: test_host
short_description: Run tasks in a test host made by molecule/hosts/up
description:
  - Enters a podman container that runs systemd. Needs root, and works on the machine itself only.
author:
  - The gearsync developers (@gearsync)
options:
  enter:
    description: The command that runs another one inside a host, molecule/hosts/enter.
    vars:
      - name: ansible_test_host_enter
    required: true
  login:
    description: The user of the host as whom commands run; root unless it is set.
    vars:
      - name: ansible_test_host_login
    default: root
"""

import pathlib
import subprocess

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase, ensure_connect

#: The status of molecule/hosts/enter when there is no such host.
NO_HOST = 125
#: Where molecule/hosts/up puts molecule/hosts/python, which keeps compiled modules; absent is no harm.
WITH_KEPT_CODE = ["env", "PYTHONPATH=/run/gearsync-test"]


class Connection(ConnectionBase):
    transport = "test_host"
    has_pipelining = True

    def _connect(self):
        self._connected = True
        return self

    def _run(self, command, stdin=None):
        login = self.get_option("login")
        # As a login of that user, without the environment of root.
        user = [] if login == "root" else ["runuser", "-u", login, "--", "env", f"HOME=/home/{login}"]
        enter = [self.get_option("enter"), self._play_context.remote_addr, *user, *WITH_KEPT_CODE, *command]
        done = subprocess.run(
            enter, input=stdin if stdin is not None else b"", capture_output=True, check=False
        )
        if done.returncode == NO_HOST:
            raise AnsibleConnectionFailure(done.stderr.decode(errors="replace"))
        return done.returncode, done.stdout, done.stderr

    @ensure_connect
    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["/bin/sh", "-c", cmd], in_data)

    @ensure_connect
    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        status, _stdout, stderr = self._run(
            ["/bin/sh", "-c", 'cat >"$1"', "sh", out_path], pathlib.Path(in_path).read_bytes()
        )
        if status != 0:
            raise AnsibleConnectionFailure(f"cannot write {out_path}: {stderr.decode(errors='replace')}")

    @ensure_connect
    def fetch_file(self, in_path, out_path):
        super().fetch_file(in_path, out_path)
        status, stdout, stderr = self._run(["cat", in_path])
        if status != 0:
            raise AnsibleConnectionFailure(f"cannot read {in_path}: {stderr.decode(errors='replace')}")
        pathlib.Path(out_path).write_bytes(stdout)

    def close(self):
        self._connected = False
