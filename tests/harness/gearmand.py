# SPDX-License-Identifier: GPL-3.0-or-later
"""A private job server."""

from __future__ import annotations

import os
import shutil
import socket
import sys

from harness.gearman_protocol import JOB_CREATED, SUBMIT_JOB, SUBMIT_JOB_BG, WORK_COMPLETE, Connection, packet
from harness.job_taker import JobTaker
from harness.places import ROOT, scratch
from harness.ports import free_port
from harness.process import Process
from harness.server import Server
from harness.waiting import until


class Gearmand(Server):
    """gearmand on a port of its own, which it keeps over stops and starts. When it is stopped, what is
    queued in its memory is lost.
    """

    def __init__(self, host: str = "127.0.0.1", options: tuple[str, ...] = (), workers: int = 0) -> None:
        """``workers``: how many of gearman_worker.py work for it."""
        program = shutil.which("gearmand", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin")
        assert program, "gearmand is not installed: tests/setup test"
        self.host, self.port = host, free_port()
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        command = [
            program,
            f"--listen={host}",
            f"--port={self.port}",
            "--job-retries=0",
            "--log-file=stderr",
            *options,
        ]
        self._number, self._workers = workers, list[Process]()
        super().__init__("gearmand", command, scratch("gearmand"))

    def start(self) -> None:
        super().start()
        command = [sys.executable, str(ROOT / "tests/harness/gearman_worker.py"), str(self.port), self.host]
        env = {"PYTHONPATH": str(ROOT / "tests")}
        self._workers = [
            Process(f"gearman worker {number}", command, self.directory / f"worker{number}.log", env)
            for number in range(self._number)
        ]
        if self._workers:
            until(lambda: self.queue("reverse")[2], self._number)

    def stop(self, number: int | None = None) -> int:
        self._dismiss()
        return super().stop(number)

    def remove(self) -> None:
        self._dismiss()
        super().remove()

    def _dismiss(self) -> None:
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    def answers(self) -> bool:
        """Whether it accepts connections."""
        try:
            socket.create_connection((self.host, self.port), timeout=5).close()
        except OSError:
            return False
        return True

    def admin(self, command: str) -> str:
        """The answer to a command of the text protocol, without the line that ends it."""
        with (
            socket.create_connection((self.host, self.port), timeout=60) as client,
            client.makefile("r") as stream,
        ):
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
        """The payloads of all jobs that wait for a function, in the order in which a worker gets them;
        they are done afterwards.
        """
        with JobTaker(self.port, function, self.host) as taker:
            return [payload for _handle, payload in iter(taker.take, None)]

    def reset(self) -> None:
        """Running, with no job and no worker."""
        # Jobs are in its memory only.
        if self.running and any(int(line.split("\t")[1]) for line in self.admin("status").splitlines()):
            self.stop()
        if not self.running:
            self.start()
        # It has yet to see that the connections of killed workers are closed.
        until(lambda: [line for line in self.admin("status").splitlines() if not line.endswith("\t0")], [])

    def submit(self, function: str, *payloads: bytes, unique: str = "") -> list[bytes]:
        """Queue background jobs; their handles. Those with one ``unique`` are merged."""
        with Connection(self.port, self.host) as client:
            client.socket.sendall(
                b"".join(
                    packet(SUBMIT_JOB_BG, function.encode(), unique.encode(), payload) for payload in payloads
                )
            )
            answers = [client.receive() for _ in payloads]
        assert {kind for kind, _ in answers} == {JOB_CREATED}
        return [handle for _, handle in answers]

    def do(self, function: str, payload: bytes) -> list[tuple[int, bytes]]:
        """Run a foreground job; the kind and the data of each packet about it, the last being
        WORK_COMPLETE.
        """
        with Connection(self.port, self.host) as client:
            client.send(SUBMIT_JOB, function.encode(), b"", payload)
            packets: list[tuple[int, bytes]] = []
            while not packets or packets[-1][0] != WORK_COMPLETE:
                kind, body = client.receive()
                packets.append((kind, body.partition(b"\0")[2]))
            return packets
