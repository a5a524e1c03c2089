# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP ports that no other test takes."""

from __future__ import annotations

import random
import socket

#: Below the ports that the kernel gives to outgoing connections (net.ipv4.ip_local_port_range begins at
#: 32768): a port that is free now cannot be taken by a client before the server of a test listens on it. A
#: cluster node's bus port fits above it.
FIRST, LAST = 15_000, 32_000
#: Sockets with a name that only one process can have, which the end of this process closes. They need no
#: file, and so no right to it.
_held: list[socket.socket] = []


def free_port() -> int:
    """A port that nothing listens on, reserved among all tests of this machine until this process ends."""
    while True:
        port = random.randrange(FIRST, LAST)
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0gearsync-port-{port}")
            with socket.socket() as probe:
                probe.bind(("0.0.0.0", port))
        except OSError:
            name.close()
            continue
        _held.append(name)
        return port
