# SPDX-License-Identifier: GPL-3.0-or-later
"""A replication group of MySQL servers on this machine, in single-primary mode."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from harness.ports import free_port
from harness.replication import Member
from harness.waiting import until

#: Where Debian's package has it; the servers of the tests have plugin directories of their own.
PLUGIN = Path("/usr/lib/mysql/plugin/group_replication.so")


class GroupMember(Member):
    """One server, which joins by `join`."""

    def __init__(self, number: int, group: str, port: int, seeds: list[int]) -> None:
        """``port`` and ``seeds``: where this member, and all of them, speak to the group."""
        super().__init__(
            number,
            "--plugin-load-add=group_replication.so",
            "--loose-group-replication-start-on-boot=OFF",
            f"--loose-group-replication-group-name={group}",
            f"--loose-group-replication-local-address=127.0.0.1:{port}",
            f"--loose-group-replication-group-seeds={','.join(f'127.0.0.1:{seed}' for seed in seeds)}",
            "--loose-group-replication-recovery-get-public-key=ON",
        )

    def start(self) -> None:
        shutil.copy(PLUGIN, self.plugin_dir)
        super().start()

    def join(self, is_first: bool) -> None:
        """Join the group, as its first member or as a further one, and wait until all is there."""
        self.execute(
            "CHANGE REPLICATION SOURCE TO SOURCE_USER='replica' FOR CHANNEL 'group_replication_recovery'",
            f"SET GLOBAL group_replication_bootstrap_group = {'ON' if is_first else 'OFF'}",
            "START GROUP_REPLICATION",
            "SET GLOBAL group_replication_bootstrap_group = OFF",
        )
        until(lambda: self.member_state("STATE"), "ONLINE")

    def member_state(self, column: str) -> str | None:
        """What the group says of this member: ``STATE`` or ``ROLE``."""
        rows = self.execute(
            f"SELECT MEMBER_{column} FROM performance_schema.replication_group_members WHERE MEMBER_ID = "
            "@@server_uuid"
        )
        return str(rows[0][0]) if rows else None


class Group:
    """Members of one group, the first one its primary, as a context."""

    def __init__(self, size: int) -> None:
        ports = [free_port() for _ in range(size)]
        name = str(uuid.uuid4())
        self.members = [GroupMember(number, name, port, ports) for number, port in enumerate(ports, start=1)]
        for member in self.members:
            member.join(is_first=member is self.members[0])
            if member is self.members[0]:
                member.admit()

    def __enter__(self) -> Group:
        return self

    def __exit__(self, *_: object) -> None:
        for member in reversed(self.members):
            member.remove()
