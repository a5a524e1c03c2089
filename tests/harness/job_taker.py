"""As much of a Gearman worker as the tests need."""

from __future__ import annotations

import socket
import struct

from harness.waiting import until

HEADER = struct.Struct(">4sII")
CAN_DO, NOOP, GRAB_JOB, NO_JOB, JOB_ASSIGN, WORK_COMPLETE, WORK_FAIL, WORK_EXCEPTION, WORK_DATA, WORK_WARNING = 1, 6, 9, 10, 11, 13, 14, 25, 28, 29

Job = tuple[bytes, bytes]


class JobTaker:
    """A connection that takes the jobs of one function, one at a time, as (handle, payload)."""

    def __init__(self, port: int, function: str, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), timeout=180)
        self.send(CAN_DO, function.encode())

    def __enter__(self) -> JobTaker:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, command: int, *arguments: bytes) -> None:
        body = b"\0".join(arguments)
        self.socket.sendall(HEADER.pack(b"\0REQ", command, len(body)) + body)

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise ConnectionError("the job server closed the connection")
            data += more
        return data

    def receive(self) -> tuple[int, bytes]:
        """The next packet."""
        _magic, command, size = HEADER.unpack(self._exactly(HEADER.size))
        return command, self._exactly(size)

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
