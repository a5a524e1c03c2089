# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Sentinel."""

from __future__ import annotations

import time
from typing import Any

import redis

from harness.places import scratch
from harness.ports import free_port
from harness.redis_server import RedisServer
from harness.server import Server
from harness.waiting import until

#: Milliseconds after which Sentinel takes the master for dead: an hour, and soon.
NEVER, SOON = 3_600_000, 500


class Sentinel(Server):
    """A Sentinel that knows a master, and finds its replica. It speaks TLS alone when the master does."""

    def __init__(self, master: RedisServer, *lines: str, password: str | None = None) -> None:
        """``lines``: more of its configuration; ``password``: of its default user."""
        self.master, self.port, directory = master, free_port(), scratch("sentinel")
        file, certificates = directory / "sentinel.conf", master.certificates
        options = [word.removeprefix("--") for word in certificates.of_redis()] if certificates else []
        secured = [f"{name} {value}" for name, value in zip(options[::2], options[1::2], strict=True)]
        listen = ["port 0", f"tls-port {self.port}", *secured] if certificates else [f"port {self.port}"]
        wanted = [f"requirepass {password}"] if password else []
        file.write_text(
            "\n".join([*listen, *wanted, *lines])
            + f"\ndir {directory}\nsentinel monitor shop 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds shop {NEVER}\nsentinel failover-timeout shop 5000\n"
        )
        self.client: Any = redis.Redis(
            port=self.port,
            password=password,
            decode_responses=True,
            socket_timeout=60,
            **(certificates.of_redis_client if certificates else {}),
        )
        super().__init__("sentinel", [master.command[0], file, "--sentinel"], directory)

    def answers(self) -> bool:
        """Whether it knows the master's replica."""
        try:
            return len(self.client.sentinel_slaves("shop")) == 1
        except redis.RedisError:
            return False

    def stop_master(self) -> None:
        self._stopped = time.monotonic()
        self.master.stop()

    def fail_over(self, replica: RedisServer) -> None:
        """Wait until the replica has the place of the stopped master."""
        limit = 0

        def done() -> bool:
            nonlocal limit
            silent = int((time.monotonic() - self._stopped) * 1000)
            # A replica that has been without its master for ten times the limit is not taken, and Sentinel
            # does nothing for half a minute after it stood still: the limit grows with the time.
            if not limit or silent > 4 * limit:
                limit = max(SOON, silent // 2)
                self._take_for_dead_after(limit)
            return bool(replica.client.role()[0] == b"master")

        until(done)
        # The new master may be as slow as it is.
        self._take_for_dead_after(NEVER)
        until(lambda: self._knows_as_master(replica))

    def _take_for_dead_after(self, milliseconds: int) -> None:
        self.client.execute_command("SENTINEL", "SET", "shop", "down-after-milliseconds", milliseconds)

    def _knows_as_master(self, server: RedisServer) -> bool:
        master = self.client.sentinel_master("shop")
        return bool(master["port"] == server.port and not master["is_sdown"] and not master["is_odown"])

    def remove(self) -> None:
        self.client.close()
        super().remove()
