"""TCP ports that no other test takes."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

#: Below the ports that the kernel gives to outgoing connections (net.ipv4.ip_local_port_range begins at 32768): a port that is
#: free now cannot be taken by a client before the server of a test listens on it. A cluster node's bus port fits above it.
FIRST, LAST = 15_000, 32_000
LOCKS = Path(tempfile.gettempdir()) / "gearsync-ports"
#: Descriptors, which the end of this process closes.
_held: list[int] = []


def free_port() -> int:
    """A port that nothing listens on, reserved among all tests of this machine until this process ends."""
    LOCKS.mkdir(exist_ok=True)
    while True:
        port = random.randrange(FIRST, LAST)
        lock = os.open(LOCKS / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as probe:
                probe.bind(("0.0.0.0", port))
        except OSError:
            os.close(lock)
            continue
        _held.append(lock)
        return port
