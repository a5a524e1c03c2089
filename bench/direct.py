#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Jobs a second of direct delivery, Redis writes included: the worker's own loop beside python3-gearman's,
which writes the same to the same Redis.

usage: bench/direct.py [--jobs 100000] [--rounds 3]     with the environment of tests/setup bench

Starts a private gearmand and a private Redis. The queue is filled first; then one process empties it:
python3-gearman's GearmanWorker with a function that makes each job's Redis write, as its users write it (a
tenth of the jobs), and the worker's loop in one process. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import struct
import time
from collections.abc import Callable
from typing import Any

from gearsync.cli.supervise import direct
from gearsync.declare.configuration import Config, RedisSettings
from gearsync.declare.declaration import Table, Write
from gearsync.telemetry.metrics import JOBS, Tally
from python3_gearman import GearmanWorker
from servers import Gearmand, Redis, cleaned_up, machine

BAR = 8.0
FUNCTION = "bench"
TABLE = Table(
    table="bench.user",
    delivery="direct",
    function=FUNCTION,
    columns=["id", "name", "password"],
    write=[Write(type="hash", key="user:{id}")],
)
SUBMIT_JOB_BG = 18


def submit(gearmand: Gearmand, jobs: int) -> None:
    """Queue background jobs and wait until the last is taken."""
    with socket.create_connection(("127.0.0.1", gearmand.port), timeout=60) as client:
        for first in range(0, jobs, 1000):
            packets, size = [], 0
            for number in range(first, min(first + 1000, jobs)):
                new = {"id": number, "name": f"name{number}", "password": f"secret{number}"}
                payload = json.dumps(
                    {"$gearsync": 1, "table": "bench.user", "event": "insert", "new": new}
                ).encode()
                body = b"\0".join([FUNCTION.encode(), b"", payload])
                packets.append(struct.pack("!4sII", b"\0REQ", SUBMIT_JOB_BG, len(body)) + body)
            client.sendall(b"".join(packets))
            answers = 0
            while answers < len(packets):
                header = client.recv(12, socket.MSG_WAITALL)
                size = struct.unpack("!4sII", header)[2]
                client.recv(size, socket.MSG_WAITALL)
                answers += 1


class OneByOne(GearmanWorker):  # type: ignore[misc]  # the library has no types
    """The library's loop, until so many jobs are done."""

    def __init__(self, gearmand: Gearmand, redis: Redis, jobs: int) -> None:
        super().__init__([gearmand.address])
        self.left = jobs
        self.register_task(FUNCTION, self.write)
        self.redis = redis.client

    def write(self, _worker: Any, job: Any) -> str:
        row = json.loads(job.data)["new"]
        self.redis.hset(f"user:{row['id']}", mapping=row)
        self.left -= 1
        return "done"

    def after_poll(self, any_activity: bool) -> bool:
        return self.left > 0


def library(gearmand: Gearmand, redis: Redis, jobs: int) -> float:
    """Seconds of the library's worker for all jobs."""
    worker = OneByOne(gearmand, redis, jobs)
    start = time.perf_counter()
    worker.work(poll_timeout=1.0)
    return time.perf_counter() - start


def ours(gearmand: Gearmand, redis: Redis, jobs: int) -> float:
    """Seconds of the worker's loop for all jobs."""
    tally = Tally()
    delivery = direct(
        Config(job_servers=[gearmand.address], redis=RedisSettings(port=redis.port), tables=[TABLE]), tally
    )
    start = time.perf_counter()
    while tally.total(JOBS) < jobs:
        delivery.step(0.5)
    seconds = time.perf_counter() - start
    delivery.servers.close()
    delivery.target.close()
    return seconds


def rate(gearmand: Gearmand, redis: Redis, jobs: int, work: Callable[[Gearmand, Redis, int], float]) -> float:
    """Jobs a second, when all of them are done."""
    redis.client.flushall()
    submit(gearmand, jobs)
    seconds = work(gearmand, redis, jobs)
    if redis.client.dbsize() != jobs:
        raise SystemExit(f"{redis.client.dbsize()} keys in place of {jobs}")
    return jobs / seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {"python3-gearman": [], "worker": []}
    with cleaned_up():
        gearmand, redis = Gearmand(), Redis()
        print(f"{machine()}; Redis {redis.version}; {options.jobs} jobs")
        for number in range(options.rounds):
            rates["python3-gearman"].append(rate(gearmand, redis, max(1, options.jobs // 10), library))
            rates["worker"].append(rate(gearmand, redis, options.jobs, ours))
            print(
                f"  round {number + 1}: "
                + ", ".join(f"{name} {values[-1]:,.0f}" for name, values in rates.items()),
                flush=True,
            )
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratio = medians["worker"] / medians["python3-gearman"]
    print(
        f"jobs/s: worker {medians['worker']:,.0f}, python3-gearman {medians['python3-gearman']:,.0f}; ratio "
        f"{ratio:.1f} (bar {BAR})"
    )
    return 0 if ratio >= BAR else 1


if __name__ == "__main__":
    raise SystemExit(main())
