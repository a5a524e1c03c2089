# SPDX-License-Identifier: GPL-3.0-or-later
"""A Galera cluster of MariaDB servers on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from harness.outbox_database import OutboxDatabase
from harness.ports import free_port
from harness.waiting import until

#: Debian's place of the package galera-4, which mariadb-server depends on.
PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")


class Node(OutboxDatabase):
    """One server of a cluster.

    A joining one gets all of its data from the first one.
    """

    def __init__(self, number: int, seed: Node | None = None, *options: str) -> None:
        """``seed``: a node of the cluster to join; without one it is the first of a new cluster."""
        self.group_port, transfer, increments = free_port(), free_port(), free_port()
        self.seed = seed
        super().__init__(
            f"--server-id={number}",
            "--log-slave-updates=ON",
            "--innodb-autoinc-lock-mode=2",
            "--wsrep-on=ON",
            f"--wsrep-provider={PROVIDER}",
            f"--wsrep-cluster-address=gcomm://{f'127.0.0.1:{seed.group_port}' if seed else ''}",
            f"--wsrep-node-name=node{number}",
            "--wsrep-node-address=127.0.0.1",
            "--wsrep-provider-options=gcache.size=16M;"
            f"gmcast.listen_addr=tcp://127.0.0.1:{self.group_port};ist.recv_addr=127.0.0.1:{increments}",
            "--wsrep-sst-method=rsync",
            f"--wsrep-sst-receive-address=127.0.0.1:{transfer}",
            *options,
        )

    def start(self) -> None:
        """Start it, and wait until it has joined."""
        data = self.directory / "data"
        if self.seed and not (data / "grastate.dat").exists():
            shutil.rmtree(data)
            data.mkdir()
            if os.getuid() == 0:
                # What a daemon rsync that root starts writes as.
                shutil.chown(data, "nobody")
                self.directory.chmod(0o711)
        super().start()

    def answers(self) -> bool:
        """Whether it has joined and takes statements."""
        return super().answers() and self.status("wsrep_ready") == "ON"

    def status(self, name: str) -> str | None:
        """One of the server's status variables."""
        rows = self.execute(f"SHOW GLOBAL STATUS LIKE '{name}'")
        return str(rows[0][1]) if rows else None


class Cluster:
    """Nodes that write all of them, as a context."""

    def __init__(self, size: int, *options: str) -> None:
        """``options``: of all nodes."""
        self.nodes = [Node(1, None, *options)]
        for number in range(2, size + 1):
            self.nodes.append(Node(number, self.nodes[0], *options))
        until(lambda: {node.status("wsrep_cluster_size") for node in self.nodes}, {str(size)})

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.nodes):
            node.remove()
