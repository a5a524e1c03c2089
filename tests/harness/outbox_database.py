# SPDX-License-Identifier: GPL-3.0-or-later
"""A private MariaDB or MySQL with the collection's schema, and the collection's own code to make it."""

from __future__ import annotations

import functools
import importlib
import json
import sys
from typing import Any

from harness.database import DatabaseServer
from harness.gearmand import Gearmand
from harness.modules import COLLECTIONS, GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, Modules, libraries


def collection(name: str) -> Any:
    """One of the collection's module_utils: what it does to a server is what the worker must live with."""
    if str(COLLECTIONS) not in sys.path:
        sys.path.insert(0, str(COLLECTIONS))
    return importlib.import_module(f"ansible_collections.gearsync.mysql_redis.plugins.module_utils.{name}")


class OutboxDatabase(DatabaseServer):
    """The server, with an outbox and an empty schema `shop`."""

    def reset(self) -> None:
        """Running, with nothing but the collection's empty schema, with one shard, and an empty schema
        `shop`.
        """
        if not self.running:
            self.start()
        self.execute(
            "DROP DATABASE IF EXISTS gearsync",
            "DROP DATABASE IF EXISTS shop",
            "CREATE DATABASE shop",
            *collection("_outbox").migration_statements(0),
        )

    @property
    def account(self) -> dict[str, Any]:
        """Who a worker is here: its configuration's `mysql`."""
        return {"user": "root", "unix_socket": self.socket}

    def put(self, *changes: tuple[Any, ...], shard: int = 0, table: str = "shop.item") -> None:
        """Put changes into the outbox in one transaction: (operation, payload) each."""
        rows = [
            (shard, table, operation, payload if isinstance(payload, (str, bytes)) else json.dumps(payload))
            for operation, payload in changes
        ]
        with self.connect(autocommit=False) as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO gearsync.outbox (shard, table_name, operation, payload) VALUES (%s, %s, %s, %s)",
                rows,
            )
            connection.commit()

    @property
    def waiting(self) -> int:
        """How many changes are in the outbox."""
        ((number,),) = self.execute("SELECT COUNT(*) FROM gearsync.outbox")
        return int(number)

    def expire_leases(self) -> None:
        """As if the workers that were killed, or paused, had been silent for longer than a lease. No
        other worker runs.
        """
        self.execute(
            "UPDATE gearsync.lease SET expires_at = NOW(6) - INTERVAL 1 SECOND WHERE owner IS NOT NULL",
            "DELETE FROM gearsync.worker",
        )

    def sync_table(self, **declaration: Any) -> None:
        """Make a table's triggers with the collection's own module."""
        assert "triggers" in self.modules.ok("sync_table", **{"shards": 2, **declaration})

    def begin_to_sync(self, share: float, **declaration: Any) -> None:
        """Do the first ``share`` of what `sync_table` would do, as if it was killed then."""
        queries = self.modules.ok("sync_table", check=True, **{"shards": 2, **declaration})["queries"]
        self.execute("SET SESSION lock_wait_timeout = 60", *queries[: int(share * len(queries))])

    def add_functions(self, gearmand: Gearmand, **settings: int) -> None:
        """Register the Gearman functions by the collection's own modules, and set the job server;
        ``settings``: those of ``gman_configure``.
        """
        self.modules.ok(
            "mysql_udf",
            soname=GEARMAN_LIBRARY,
            src=str(libraries() / GEARMAN_LIBRARY),
            functions=GEARMAN_FUNCTIONS,
        )
        self.modules.ok("gearman_servers", servers=[gearmand.address])
        for name, value in settings.items():
            self.execute(f"SELECT gman_configure('{name}', {value})")

    @functools.cached_property
    def modules(self) -> Modules:
        """The collection's modules, logged in to this server."""
        return Modules(self.login)

    def remove(self) -> None:
        if "modules" in self.__dict__:
            self.modules.remove()
        super().remove()
