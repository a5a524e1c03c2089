# SPDX-License-Identifier: GPL-3.0-or-later
"""Owners whose leases can be taken before they expire."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from gearsync.outbox.owner import is_dead, owner_name


def test_a_process_is_alive_while_it_runs_and_dead_when_it_has_ended() -> None:
    program = (
        "import sys; from gearsync.outbox.owner import owner_name; print(owner_name(), flush=True); "
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        assert not is_dead(name)
        process.kill()
        # It is a zombie until its parent has waited for it.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(name)
    assert is_dead(name)


def test_another_process_with_the_same_pid_is_not_the_one_that_ended() -> None:
    host, pid, identity = owner_name().rsplit(":", 2)
    place, _started, rest = identity.split("-")
    assert is_dead(f"{host}:{pid}:{place}-1-{rest}")


def test_processes_of_another_host_or_an_earlier_release_count_as_alive() -> None:
    host, _pid, identity = owner_name().rsplit(":", 2)
    _place, started, rest = identity.split("-")
    assert not is_dead(f"{host}:999999:0123abcd-{started}-{rest}")
    assert not is_dead(f"{host}:999999:0123456789ab")
    assert not is_dead("")


@pytest.mark.skipif(os.getuid() != 0, reason="a /proc of its own needs root")
def test_a_process_of_another_user_that_proc_hides_counts_as_alive() -> None:
    program = (
        "import os, sys; from gearsync.outbox.owner import is_dead; os.setgroups([]); os.setgid(65534); "
        "os.setuid(65534); print(os.path.exists(f'/proc/{os.getppid()}'), is_dead(sys.argv[1]))"
    )
    hidden = 'mount -t proc -o hidepid=2 proc /proc; exec "$@"'
    command = [sys.executable, "-c", program, owner_name()]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", hidden, "sh", *command],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["False", "False"]
