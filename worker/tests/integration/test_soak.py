# SPDX-License-Identifier: GPL-3.0-or-later
"""The same faults repeatedly under writers: nothing is lost, stale, restored, left over, duplicated or
missing.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from harness.late_proxy import LateProxy
from harness.ledger import TABLE, Ledger, Observer
from harness.network import Network, Unavailable
from harness.outbox_database import OutboxDatabase
from harness.ports import free_port
from harness.redis_server import RedisServer
from harness.waiting import until
from harness.worker import Worker, worker_config

LATE = int(os.environ.get("GEARSYNC_TEST_LATE", "3"))
DROPS = int(os.environ.get("GEARSYNC_TEST_DROPS", "1"))
FAILOVERS = int(os.environ.get("GEARSYNC_TEST_FAILOVERS", "2"))
KILLS = int(os.environ.get("GEARSYNC_TEST_KILLS", "8"))
#: Messages of a worker to a server, from its start on, at which it is killed. The next kills begin again.
STEPS = 50
#: So small that there are often further batches to read while Redis executes one.
_BATCH = 20
pytestmark = pytest.mark.timeout(900 + 20 * (LATE + DROPS + FAILOVERS + KILLS))


@pytest.fixture
def ledger(database: OutboxDatabase) -> Ledger:
    ledger = Ledger(database)
    database.sync_table(**TABLE)
    return ledger


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[LateProxy]:
    proxy = LateProxy(redis_server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        network = Network()
    except Unavailable as error:
        pytest.skip(f"no network of its own: {error}")
    yield network
    network.remove()


def given_up(worker: Worker, lost: int) -> None:
    """Wait until the worker has given up what it sent; ``lost``: how often it had before."""
    worker.says("action=redis_lost ", times=lost + 1)


def compare(ledger: Ledger, redis_server: RedisServer) -> None:
    until(lambda: ledger.database.waiting, 0)
    assert ledger.differences(redis_server.client) == {}
    assert ledger.database.execute("SELECT * FROM gearsync.dead_letter") == []


def test_a_batch_that_arrives_after_it_was_given_up_changes_nothing(
    ledger: Ledger, redis_server: RedisServer, proxy: LateProxy, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(
        worker_config(proxy.port, [TABLE], ledger.database.account, io_timeout=0.5, batch=_BATCH)
    )
    arrived = 0
    for _ in range(LATE):
        ledger.begin(redis_server.client)
        with Observer(redis_server.client, ledger.ids), ledger.writing() as writers:
            writers.go_on()
            lost = worker.said.count("action=redis_lost ")
            proxy.hold()
            given_up(worker, lost)
            arrived += proxy.held > 0
            proxy.pass_on()
            # Before the retry, beside it and after it.
            time.sleep(random.choice([0.0, 0.05, 0.3, 0.6]))
            proxy.deliver()
            writers.go_on()
        assert writers.errors == []
        compare(ledger, redis_server)
    assert arrived == LATE


def test_packets_that_are_dropped_for_longer_than_the_time_out_change_nothing_when_they_arrive(
    ledger: Ledger, redis_server: RedisServer, network: Network, start_worker: Callable[..., Worker]
) -> None:
    r, port = redis_server.client, redis_server.port
    r.config_set("bind", f"127.0.0.1 {network.near}")
    r.config_set("protected-mode", "no")
    # The database's socket is a file, which the worker reaches from there.
    config = worker_config(
        {"host": network.near, "port": port}, [TABLE], ledger.database.account, io_timeout=1.0, batch=_BATCH
    )
    worker = start_worker(config, prefix=network.prefix)
    for _ in range(DROPS):
        ledger.begin(r)
        with Observer(r, ledger.ids), ledger.writing() as writers:
            until(lambda: r.exists("changes"))
            writers.go_on()
            # One that is made later would have sent nothing that can arrive late.
            until(lambda: len(network.connections(port)) >= 2)
            lost = worker.said.count("action=redis_lost ")
            if random.random() < 0.5:
                network.drop("--protocol", "tcp", "--dport", str(port))
            else:
                # The retry, over another connection, is not lost.
                for own in network.connections(port):
                    network.drop("--protocol", "tcp", "--dport", str(port), "--sport", own)
            given_up(worker, lost)
            time.sleep(random.uniform(0.0, 1.0))
            waiting = [own for own, state in network.connections(port).items() if state.startswith("FIN")]
            assert waiting
            network.deliver()
            until(lambda old=waiting: set(old) & set(network.connections(port)), set())
            writers.go_on()
        assert writers.errors == []
        compare(ledger, redis_server)


def test_a_redis_that_fails_over_to_a_replica_behind_it_again_and_again_has_everything(
    ledger: Ledger, redis_server: RedisServer, proxy: LateProxy, start_worker: Callable[..., Worker]
) -> None:
    master, replica = redis_server, RedisServer()
    worker = start_worker(
        worker_config(proxy.port, [TABLE], ledger.database.account, keep=30.0, batch=_BATCH)
    )
    try:
        for _ in range(FAILOVERS):
            ledger.begin(master.client)
            master.client.config_set("repl-diskless-sync-delay", 0)
            replica.client.replicaof("127.0.0.1", master.port)
            with ledger.writing() as writers:
                until(
                    lambda behind=replica: behind.client.info("replication").get("master_link_status"), "up"
                )
                with Observer(master.client, ledger.ids):
                    writers.go_on()
                    replica.client.replicaof("NO", "ONE")
                    # So far it lags.
                    time.sleep(random.uniform(0.0, 1.0))
                proxy.switch(free_port())
                time.sleep(random.choice([0.0, 0.5]))
                master, replica = replica, master
                with Observer(master.client, ledger.ids):
                    proxy.switch(master.port)
                    writers.go_on()
            assert writers.errors == []
            until(lambda now=master: ledger.differences(now.client), {})
        assert "action=redis_lost_data" not in worker.said
        assert ledger.database.execute("SELECT * FROM gearsync.dead_letter") == []
    finally:
        redis_server.client.replicaof("NO", "ONE")
        (replica if master is redis_server else master).remove()


class KillingProxy(LateProxy):
    """Forwards TCP connections, and kills the sender."""

    def __init__(self, server: int) -> None:
        super().__init__(server)
        self.killed = threading.Event()
        self._left = 0

    def arm(self, worker: Worker, message: int, arrives: bool) -> None:
        """Kill the worker at its ``message``-th message from now on, which arrives or does not."""
        worker.forget()
        self.killed.clear()
        self._worker, self._arrives, self._left = worker, arrives, message

    def _up(self, client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                with self._lock:
                    self._left -= 1
                    due = self._left == 0
                if due and self._arrives:
                    upstream.sendall(data)
                if due:
                    self._worker.signal(signal.SIGKILL)
                    self.killed.set()
                    break
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_WR)


def test_a_worker_that_is_killed_at_any_of_its_steps_loses_and_repeats_nothing(
    ledger: Ledger, redis_server: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    proxies = {"redis": KillingProxy(redis_server.port), "mysql": KillingProxy(ledger.database.port)}
    account = {"user": "root", "host": "127.0.0.1", "port": proxies["mysql"].port}
    worker = start_worker(worker_config(proxies["redis"].port, [TABLE], account, batch=_BATCH))
    steps = list(itertools.product(range(1, STEPS + 1), proxies, (False, True)))
    for begin in range(0, KILLS, 20):
        ledger.begin(redis_server.client)
        with Observer(redis_server.client, ledger.ids), ledger.writing() as writers:
            for number in range(begin, min(begin + 20, KILLS)):
                # All of them, or a random part.
                message, to, arrives = (
                    steps[number % len(steps)] if len(steps) <= KILLS else random.choice(steps)
                )
                proxies[to].arm(worker, message, arrives)
                assert proxies[to].killed.wait(180), (message, to, arrives)
                worker.kill()
                worker.start()
        assert writers.errors == []
        compare(ledger, redis_server)
    worker.kill()
    for proxy in proxies.values():
        proxy.close()
