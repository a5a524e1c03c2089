# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of the fleet, and how tests write to its sources and read its Redis."""

from __future__ import annotations

import os
import pathlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import redis

from harness.hosts import SECRET, Host

MAIN, USERS, CACHE = Host("fleet-db"), Host("fleet-users1"), Host("fleet-cache")
#: Without SSH: only these tests go in.
LEGACY = Host("fleet-legacy")
WORKERS = [Host("fleet-worker1"), Host("fleet-worker2")]
#: The Redis database of each source.
SOURCES = {MAIN: "0", USERS: "1", LEGACY: "2"}


def name_in_redis(source: Host, row: int) -> str:
    return CACHE.redis("-n", SOURCES[source], "hget", f"customer:{row}", "name")


def write(source: Host, row: int, name: str) -> None:
    source.sql(f"REPLACE INTO customer (id, name) VALUES ({row}, '{name}');", database="shop")


@contextmanager
def writing(source: Host, row: int) -> Iterator[list[str]]:
    """Names that are written to one row meanwhile, a few a second; the last one was acknowledged."""
    stop, names = threading.Event(), ["the first one"]
    write(source, row, names[0])

    def writes() -> None:
        with source.sql_session("shop") as execute:
            while not stop.wait(0.2):
                name = f"number {len(names)}"
                execute(f"REPLACE INTO customer (id, name) VALUES ({row}, '{name}');")
                names.append(name)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(writes)
        try:
            yield names
        finally:
            stop.set()
        # A write that failed fails the test.
        writer.result()


def names_in_redis(source: Host) -> dict[int, str]:
    """The name of each of the source's rows that Redis holds."""
    with cache_client(int(SOURCES[source])) as client:
        keys = [key.decode() for key in client.scan_iter("customer:[0-9]*", count=1000)]
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hget(key, "name")
            names = pipeline.execute()
    # A row that was deleted in between has none.
    return {
        int(key.removeprefix("customer:")): name.decode()
        for key, name in zip(keys, names, strict=True)
        if name is not None
    }


def cache_client(database: int = 0) -> redis.Redis:
    """A client of this machine's, with the certificate of a worker. The server's is for its name, which this
    machine does not know.
    """
    certificates = pathlib.Path(os.environ["GEARSYNC_CERTIFICATES"])
    return redis.Redis(
        CACHE.address,
        db=database,
        password=SECRET,
        ssl=True,
        ssl_ca_certs=str(certificates / "ca.pem"),
        ssl_certfile=str(certificates / "fleet-worker1-worker.pem"),
        ssl_keyfile=str(certificates / "fleet-worker1-worker.key"),
        ssl_check_hostname=False,
    )
