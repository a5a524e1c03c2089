"""A private job server."""

from __future__ import annotations

import os
import shutil
import socket

from harness.job_taker import JobTaker
from harness.places import scratch
from harness.ports import free_port
from harness.server import Server


class Gearmand(Server):
    """gearmand on a port of its own, which it keeps over stops and starts. When it is stopped, what is queued in its memory is lost."""

    def __init__(self, host: str = "127.0.0.1", options: tuple[str, ...] = ()) -> None:
        program = shutil.which("gearmand", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        assert program, "gearmand is not installed: tests/setup test"
        self.host, self.port = host, free_port()
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        command = [program, f"--listen={host}", f"--port={self.port}", "--job-retries=0", "--log-file=stderr", *options]
        super().__init__("gearmand", command, scratch("gearmand"))

    def answers(self) -> bool:
        """Whether it accepts connections."""
        try:
            socket.create_connection((self.host, self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def admin(self, command: str) -> str:
        """The answer to a command of the text protocol, without the line that ends it."""
        with socket.create_connection((self.host, self.port), timeout=60) as client, client.makefile("r") as stream:
            client.sendall(f"{command}\n".encode())
            lines = []
            while (line := stream.readline()) not in (".\n", ""):
                lines.append(line)
            return "".join(lines)

    def queue(self, function: str) -> tuple[int, int, int]:
        """Jobs in all, jobs running, workers."""
        for line in self.admin("status").splitlines():
            name, jobs, running, workers = line.split("\t")
            if name == function:
                return int(jobs), int(running), int(workers)
        return 0, 0, 0

    def jobs(self, function: str = "syncToRedis") -> list[bytes]:
        """The payloads of all jobs that wait for a function, in the order in which a worker gets them; they are done afterwards."""
        with JobTaker(self.port, function, self.host) as taker:
            return [payload for _handle, payload in iter(taker.take, None)]
