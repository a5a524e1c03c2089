# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Redis Cluster of three nodes."""

from __future__ import annotations

import subprocess
from typing import Any, Self

import redis

from harness.ports import free_port
from harness.redis_server import RedisServer
from harness.tls import Certificates
from harness.waiting import until

#: Milliseconds after which a silent node is taken for dead: an hour, and soon.
NEVER, SOON = 3_600_000, 2000


class Node(RedisServer):
    """One node of the cluster."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        self.bus = free_port()
        super().__init__(
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            str(self.bus),
            "--cluster-node-timeout",
            str(NEVER),
            *(["--tls-cluster", "yes"] if certificates else []),
            certificates=certificates,
        )

    def cluster(self, *words: str | int) -> str:
        """What it answers to a command about its cluster."""
        client: Any = self.client
        answer = client.execute_command("CLUSTER", *words)
        return answer.decode() if isinstance(answer, bytes) else str(answer)

    @property
    def state(self) -> str:
        """Whether it takes the cluster for whole: "ok" or "fail"."""
        return str(self.client.cluster("INFO")["cluster_state"])


class Cluster:
    """Three nodes, each with a third of the slots. With ``certificates`` they speak TLS alone."""

    def __init__(self, certificates: Certificates | None = None) -> None:
        self.certificates = certificates
        self.nodes = [Node(certificates) for _ in range(3)]
        self.addresses = [f"127.0.0.1:{node.port}" for node in self.nodes]
        self._redis_cli("--cluster", "create", *self.addresses, "--cluster-yes")
        until(self.whole)
        self.client = redis.RedisCluster(
            host="127.0.0.1",
            port=self.nodes[0].port,
            socket_timeout=120,
            **(certificates.of_redis_client if certificates else {}),
        )

    def _redis_cli(self, *words: str) -> None:
        files = {"cacert": "ca.pem", "cert": "client.pem", "key": "client.key"}
        secured = (
            [
                "--tls",
                *(
                    word
                    for name, file in files.items()
                    for word in (f"--{name}", self.certificates.path(file))
                ),
            ]
            if self.certificates
            else []
        )
        done = subprocess.run(
            ["redis-cli", *secured, *words],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stdout

    def whole(self) -> bool:
        """Whether all nodes take all for alive."""
        return all(node.state == "ok" for node in self.nodes)

    def recover(self) -> None:
        """Start what was stopped, and wait until all nodes take all for alive."""
        for node in self.nodes:
            if not node.running:
                node.start()

        def settled() -> bool:
            # Twice that time after its failure one is taken for alive again.
            alive = self.whole()
            self.give_up_after(NEVER if alive else SOON)
            return alive and self.whole()

        until(settled)

    def reset(self) -> None:
        """Whole and without data."""
        self.recover()
        self.client.flushall(target_nodes="primaries")

    def give_up_after(self, milliseconds: int) -> None:
        """When the running nodes take a silent one for dead."""
        for node in self.nodes:
            if node.running:
                node.client.config_set("cluster-node-timeout", milliseconds)

    def move_slots(self, number: int) -> None:
        """Move slots of the first node to the second, while others write."""
        ids = [node.cluster("MYID") for node in self.nodes[:2]]
        self._redis_cli(
            "--cluster",
            "reshard",
            self.addresses[0],
            "--cluster-from",
            ids[0],
            "--cluster-to",
            ids[1],
            "--cluster-slots",
            str(number),
            "--cluster-yes",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """End all nodes and remove their data."""
        self.client.close()
        for node in self.nodes:
            node.remove()
