"""A private job server."""

from __future__ import annotations

import os
import shutil
import signal
import socket

from harness.job_taker import JobTaker
from harness.places import scratch
from harness.ports import free_port
from harness.process import Process
from harness.waiting import until


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server accepts connections on a port."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


class Gearmand(Process):
    """gearmand on a port of its own, which it keeps over stops and starts."""

    def __init__(self, host: str = "127.0.0.1", options: tuple[str, ...] = ()) -> None:
        program = shutil.which("gearmand", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        assert program, "gearmand is not installed: tests/setup test"
        self.host, self.port = host, free_port()
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.directory = scratch("gearmand")
        super().__init__(
            "gearmand", [program, f"--listen={host}", f"--port={self.port}", "--job-retries=0", "--log-file=stderr", *options], self.directory / "log")

    def start(self) -> None:
        super().start()
        until(lambda: listens(self.port, self.host))

    def stop(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal; what is queued in its memory is lost."""
        self.forget()
        self.signal(number)
        self.wait()

    def remove(self) -> None:
        """End it and remove its files."""
        if self.running:
            self.kill()
        shutil.rmtree(self.directory)

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
