"""The name of a process that holds leases, by which others on the same host know whether it is alive."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import uuid
from pathlib import Path
from typing import Optional


def _place() -> str:
    """Where process numbers mean the same processes: one boot of one host, and one namespace of it; empty where that is not known."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        return hashlib.sha256(f"{boot} {os.stat('/proc/self/ns/pid').st_ino}".encode()).hexdigest()[:8]
    except OSError:
        return ""


def _started(pid: int) -> Optional[str]:
    """When a process began, in the kernel's ticks since the boot; None when it has ended. See proc(5), /proc/PID/stat."""
    with contextlib.suppress(OSError):
        # The second field, a name, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    return None


def owner_name() -> str:
    """A name that no other process has or will have: ``HOST:PID:PLACE-STARTED-RANDOM``."""
    pid = os.getpid()
    return f"{socket.gethostname()[:150]}:{pid}:{_place()}-{_started(pid) or ''}-{uuid.uuid4().hex[:12]}"


def is_dead(owner: str) -> bool:
    """Whether the process with this name was one of this host and has ended; False when that cannot be known."""
    _host, pid, identity = owner.rsplit(":", 2) if owner.count(":") > 1 else ("", "", "")
    place, _dash, rest = identity.partition("-")
    started = rest.partition("-")[0]
    return bool(started) and place == _place() and pid.isdigit() and _started(int(pid)) != started
