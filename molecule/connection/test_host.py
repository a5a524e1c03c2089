# Copyright (c) 2026 The gearsync developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible's way into a test host: the container's namespaces are entered directly.

containers.podman.podman needs four or five podman processes for every task, because it cannot pipeline; a deployment of a
hundred tasks then waits for podman more than for anything else. This does the same with one nsenter per task.
"""

from __future__ import annotations

DOCUMENTATION = """
name: test_host
short_description: Run tasks in a test host made by molecule/hosts/up
description:
  - Enters the namespaces of a podman container that runs systemd. Needs root, and works on the machine itself only.
author:
  - The gearsync developers (@gearsync)
options:
  podman:
    description: The podman that knows the container.
    vars:
      - name: ansible_test_host_podman
    default: podman
"""

import pathlib
import subprocess

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase, ensure_connect

#: What a login on the host itself would have; nothing of the controller's environment gets in.
ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8", "USER=root"]
PIDS = pathlib.Path("/run/gearsync-hosts/pids")


class Connection(ConnectionBase):
    transport = "test_host"
    has_pipelining = True

    def _connect(self):
        if not self._connected:
            self._pid = self._remembered_pid() or self._ask_for_pid()
            self._connected = True
        return self

    def _remembered_pid(self):
        """The process number that an earlier task noted, if that process still is this host's systemd; else None."""
        try:
            pid = (PIDS / self._play_context.remote_addr).read_text()
            hostname = pathlib.Path(f"/proc/{pid}/root/etc/hostname").read_text().strip()
        except OSError:
            return None
        return pid if hostname == self._play_context.remote_addr else None

    def _ask_for_pid(self):
        host = self._play_context.remote_addr
        asked = subprocess.run([self.get_option("podman"), "inspect", "--format", "{{.State.Pid}}", host], capture_output=True, text=True, check=False)
        pid = asked.stdout.strip()
        if asked.returncode != 0 or pid in ("", "0"):
            raise AnsibleConnectionFailure(f"test host {host} does not run: {asked.stderr.strip() or 'start it with molecule/hosts/up'}")
        PIDS.mkdir(parents=True, exist_ok=True)
        # Renamed into place: another task may be reading it.
        fresh = PIDS / f".{host}.{pid}"
        fresh.write_text(pid)
        fresh.rename(PIDS / host)
        return pid

    def _run(self, command, stdin=None):
        enter = ["nsenter", "--target", self._pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--"]
        done = subprocess.run([*enter, "env", "-i", *ENVIRONMENT, *command], input=stdin if stdin is not None else b"", capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr

    @ensure_connect
    def exec_command(self, cmd, in_data=None, sudoable=True):
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        return self._run(["/bin/sh", "-c", cmd], in_data)

    @ensure_connect
    def put_file(self, in_path, out_path):
        super().put_file(in_path, out_path)
        status, _stdout, stderr = self._run(["/bin/sh", "-c", 'cat >"$1"', "sh", out_path], pathlib.Path(in_path).read_bytes())
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
