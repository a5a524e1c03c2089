# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Redis."""

from __future__ import annotations

import shutil
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.places import scratch
from harness.ports import free_port
from harness.server import Server
from harness.tls import Certificates
from harness.waiting import until


class RedisServer(Server):
    """A Redis, or Valkey, on a port of its own, which it keeps over stops and starts. It keeps its data
    when it is killed.
    """

    def __init__(
        self, *options: str, certificates: Certificates | None = None, shown: str = "server"
    ) -> None:
        """With ``certificates`` it speaks TLS alone, shows the one that is ``shown``, and wants one of its
        clients.
        """
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program, "redis-server is not installed: tests/setup test"
        self.port, self.certificates = free_port(), certificates
        directory = scratch("redis")
        # By default it tries again for seconds, where the tests want to know at once.
        self.client = redis.Redis(
            port=self.port,
            socket_timeout=60,
            retry=Retry(NoBackoff(), 0),
            **(certificates.of_redis_client if certificates else {}),
        )
        #: As it was at the first reset.
        self._configuration: dict[str, Any] = {}
        listen = ["--port", str(self.port)]
        if certificates:
            listen = ["--port", "0", "--tls-port", str(self.port), *certificates.of_redis(shown)]
        durable = ["--appendonly", "yes", "--appendfsync", "always"]
        super().__init__("redis", [program, *listen, "--dir", directory, *durable, *options], directory)

    def answers(self) -> bool:
        """Whether it takes commands; false while it loads its data."""
        try:
            return bool(self.client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def replica(self) -> RedisServer:
        """A replica of it, in step with it."""
        other = RedisServer("--replicaof", f"127.0.0.1 {self.port}", certificates=self.certificates)
        until(lambda: other.client.info("replication").get("master_link_status"), "up")
        return other

    def reset(self) -> None:
        """Running, without data, scripts and accounts, and with the configuration of the first reset."""
        if not self.running:
            self.start()
        self.client.flushall()
        self.client.script_flush()
        for user in map(str, self.client.acl_users()):
            if user != "default":
                self.client.acl_deluser(user)
        now: Any = self.client.config_get("*")
        self._configuration = self._configuration or now
        for name, value in self._configuration.items():
            if now.get(name) != value:
                self.client.config_set(name, value)

    def remove(self) -> None:
        self.client.close()
        super().remove()
