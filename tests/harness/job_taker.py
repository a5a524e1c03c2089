# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of a Gearman worker as the tests need."""

from __future__ import annotations

from harness.gearman_protocol import CAN_DO, GRAB_JOB, JOB_ASSIGN, NO_JOB, NOOP, WORK_COMPLETE, Connection
from harness.waiting import until

Job = tuple[bytes, bytes]


class JobTaker(Connection):
    """A connection that takes the jobs of one function, one at a time, as (handle, payload)."""

    def __init__(self, port: int, function: str, host: str = "127.0.0.1") -> None:
        super().__init__(port, host)
        self.send(CAN_DO, function.encode())

    def grab(self) -> Job | None:
        """A job, not done yet; None when there is none."""
        self.send(GRAB_JOB)
        command, body = self.receive()
        while command == NOOP:
            command, body = self.receive()
        if command == NO_JOB:
            return None
        assert command == JOB_ASSIGN, command
        handle, _function, payload = body.split(b"\0", 2)
        return handle, payload

    def wait(self) -> Job:
        """A job, not done yet, as soon as there is one."""
        jobs: list[Job] = []

        def came() -> bool:
            job = self.grab()
            if job:
                jobs.append(job)
            return bool(jobs)

        until(came)
        return jobs[0]

    def take(self) -> Job | None:
        """A job that is done; None when there is none."""
        job = self.grab()
        if job:
            self.send(WORK_COMPLETE, job[0], b"")
        return job
