# SPDX-License-Identifier: GPL-3.0-or-later
"""The name of a process that holds leases. Other processes on the same host know by it whether it is
alive.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import uuid
from pathlib import Path
from typing import Optional


@functools.cache
def _pid_space() -> str:
    """A hash of the host's boot and the PID namespace, within which a PID names one process; empty when
    unknown.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return hashlib.sha256(f"{boot} {os.stat('/proc/self/ns/pid').st_ino}".encode()).hexdigest()[:8]
    except OSError:
        return ""


def _started(pid: int) -> Optional[str]:
    """When a process started, in clock ticks since the boot; None when it has ended. See proc(5),
    /proc/PID/stat.

    Raises PermissionError when the process is there and /proc does not show it.
    """
    try:
        # The second field, the command's name, may contain any character.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        # With hidepid=2, as with ProtectProc= of a unit, /proc lacks the processes of other users.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 0)
        return None
    return None if fields[0] in "ZX" else fields[19]


def owner_name() -> str:
    """A name that no other process has: ``HOST:PID:PID_SPACE-STARTED-RANDOM``."""
    pid = os.getpid()
    return f"{socket.gethostname()[:150]}:{pid}:{_pid_space()}-{_started(pid) or ''}-{uuid.uuid4().hex[:12]}"


def is_dead(owner: str) -> bool:
    """Whether the process with this name ran on this host and has ended; False when that is unknown."""
    _host, pid, identity = owner.rsplit(":", 2) if owner.count(":") > 1 else ("", "", "")
    pid_space, _dash, rest = identity.partition("-")
    started = rest.partition("-")[0]
    if not started or pid_space != _pid_space() or not pid.isdigit():
        return False
    try:
        return _started(int(pid)) != started
    except PermissionError:
        return False
