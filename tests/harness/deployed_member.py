# SPDX-License-Identifier: GPL-3.0-or-later
"""A database server on a deployed test host, as a member of a source: its replication, and what an
orchestrator does with it.
"""

from __future__ import annotations

import functools
import re
import time
from typing import Any

import pymysql

from harness.hosts import Host
from harness.waiting import until

#: How applications log in, over the network.
APP_PASSWORD = "of the application"


class DeployedMember(Host):
    """One server; SQL goes to it from its own host as root, applications connect from outside."""

    @functools.cached_property
    def is_mariadb(self) -> bool:
        return "MariaDB" in self.sql("SELECT VERSION();")

    def connect(self, user: str = "app", **options: Any) -> Any:
        """A connection of an application, with PyMySQL's options."""
        return pymysql.connect(
            host=self.address, user=user, password=APP_PASSWORD, **{"autocommit": True, **options}
        )

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement of the application."""
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def admit_application(self) -> None:
        """Make the application's account, on a primary."""
        self.sql(
            f"CREATE USER IF NOT EXISTS app@'%' IDENTIFIED BY '{APP_PASSWORD}'; "
            "GRANT SELECT, INSERT, UPDATE, DELETE ON shop.* TO app@'%';"
        )

    @property
    def is_running(self) -> bool:
        return self.is_active("mariadb") or self.is_active("mysql")

    @property
    def is_writable(self) -> bool:
        return self.sql("SELECT @@GLOBAL.read_only;") == "0"

    @property
    def gtids(self) -> str:
        """All transactions that its binary log has had."""
        variable = "gtid_binlog_pos" if self.is_mariadb else "gtid_executed"
        return self.sql(f"SELECT @@GLOBAL.{variable};").replace("\n", "")

    def problems(self) -> list[str]:
        """What is wrong with its replication; nothing on a primary."""
        lines = self.run("mysql --vertical --execute='SHOW REPLICA STATUS'").replace("Slave_", "Replica_")
        state = dict(re.findall(r"^ *(\w+): (.*)$", lines, re.MULTILINE))
        return [
            f"{self.name}: {thread} {state[f'Replica_{thread}_Running']}: {state[f'Last_{thread}_Error']}"
            for thread in ("IO", "SQL")
            if state and state[f"Replica_{thread}_Running"] != "Yes"
        ]

    def require_same(self, primary: DeployedMember) -> None:
        """Require that it replicates and has the transactions of the primary and no others."""

        def differs() -> list[str]:
            # Asked anew each time: workers write to the primary all the time.
            ours, theirs = self.gtids, primary.gtids
            return self.problems() or ([] if ours == theirs else [f"{self.name} has {ours}, not {theirs}"])

        until(differs, [])

    def set_writable(self, writable: bool) -> None:
        self.sql(f"SET GLOBAL read_only={'OFF' if writable else 'ON'};")

    def promote(self) -> float:
        """Make a MariaDB replica that has received all into the primary. Returns when it was writable, by the
        monotonic clock.
        """
        until(
            lambda: "has read all relay log" in self.run("mysql --vertical --execute='SHOW REPLICA STATUS'")
        )
        self.sql("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only=OFF;")
        return time.monotonic()

    def follow(self, primary: Host, password: str, tls: str) -> None:
        """Replicate a MariaDB from another server, of whose transactions it has all until now, with these
        options of TLS.
        """
        self.sql(
            f"SET GLOBAL gtid_slave_pos='{self.gtids}'; CHANGE MASTER TO MASTER_HOST='{primary.name}', "
            f"MASTER_USER='replica', MASTER_PASSWORD='{password}', MASTER_USE_GTID=slave_pos, "
            f"MASTER_CONNECT_RETRY=1, {tls}; START SLAVE;"
        )
