# SPDX-License-Identifier: GPL-3.0-or-later
"""A primary and its replicas on this machine, by GTIDs."""

from __future__ import annotations

from typing import Any

from harness.database import server_program
from harness.outbox_database import OutboxDatabase
from harness.waiting import until

#: What both sides need so that their GTIDs can be compared, and so that either may become the primary.
OPTIONS = {
    "mariadb": ["--log-slave-updates=ON", "--gtid-strict-mode=ON"],
    "mysql": ["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--log-replica-updates=ON"],
}


class Member(OutboxDatabase):
    """One server of a replicated set."""

    def __init__(self, number: int, *options: str) -> None:
        """``number``: its server_id, which no other member has. ``options``: of this one beside those
        that all have.
        """
        engine, _program = server_program()
        super().__init__(f"--server-id={number}", "--report-host=127.0.0.1", *OPTIONS[engine], *options)

    def follow(self, primary: Member, channel: str = "") -> None:
        """Begin to replicate from another member. All that the primary has is in its binary log."""
        if self.engine == "mysql":
            named = f" FOR CHANNEL '{channel}'" if channel else ""
            self.execute(
                f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT={primary.port}, "
                f"SOURCE_USER='replica', SOURCE_AUTO_POSITION=1, SOURCE_CONNECT_RETRY=1, "
                f"GET_SOURCE_PUBLIC_KEY=1{named}",
                f"START REPLICA{named}",
            )
        else:
            named = f" '{channel}'" if channel else ""
            self.execute(
                f"CHANGE MASTER{named} TO MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}, "
                "MASTER_USER='replica', MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1",
                f"START SLAVE{named}",
            )

    def admit(self) -> None:
        """Make the account that replicas log in with. On a primary, before it has any."""
        self.execute("CREATE USER 'replica'@'%'", "GRANT REPLICATION SLAVE ON *.* TO 'replica'@'%'")

    def stop_replication(self) -> None:
        """Stop both threads of all channels."""
        self.execute("STOP REPLICA" if self.engine == "mysql" else "STOP ALL SLAVES")

    def start_replication(self) -> None:
        """Start both threads of all channels again."""
        self.execute("START REPLICA" if self.engine == "mysql" else "START ALL SLAVES")

    def forget_source(self) -> None:
        """Stop replicating for good, as an orchestrator does with a replica that it promotes."""
        self.stop_replication()
        self.execute("RESET REPLICA ALL" if self.engine == "mysql" else "RESET SLAVE ALL")

    def channels(self) -> list[dict[str, Any]]:
        """The state of each channel as the server shows it, with the names of its columns in lower case and
        without the engine's word for a source.
        """
        statement = "SHOW REPLICA STATUS" if self.engine == "mysql" else "SHOW ALL SLAVES STATUS"
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            names = [column[0].lower().replace("slave_", "replica_") for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def problems(self) -> list[str]:
        """What is wrong with its replication."""
        found = []
        for channel in self.channels():
            for thread in ("io", "sql"):
                state = channel[f"replica_{thread}_running"]
                if state != "Yes":
                    found.append(f"{thread} {state}: {channel[f'last_{thread}_error']}")
        return found

    @property
    def gtids(self) -> str:
        """All transactions that its binary log has had."""
        variable = "gtid_executed" if self.engine == "mysql" else "gtid_binlog_pos"
        return str(self.execute(f"SELECT @@GLOBAL.{variable}")[0][0]).replace("\n", "")

    def wait_for(self, primary: Member) -> None:
        """Wait until it has all transactions of the primary, and require that it has no others and that
        nothing is wrong.
        """

        def state() -> str | list[str]:
            # The thread that applies does not begin again by itself.
            assert not [problem for problem in self.problems() if problem.startswith("sql No: E")], (
                self.problems()
            )
            return self.problems() or self.gtids

        until(state, primary.gtids)


class Pair:
    """A primary and a replica of it, which have the same."""

    def __init__(self, *options: str) -> None:
        """``options``: of both servers."""
        self.primary = Member(1, *options)
        self.replica = Member(2, *options)

    def __enter__(self) -> Pair:
        self.primary.admit()
        self.replica.follow(self.primary)
        self.replica.wait_for(self.primary)
        return self

    def __exit__(self, *_: object) -> None:
        for member in (self.replica, self.primary):
            member.remove()

    def require_equal(self) -> None:
        """Require that replication runs, and that the replica has the primary's transactions and no
        others.
        """
        self.replica.wait_for(self.primary)
