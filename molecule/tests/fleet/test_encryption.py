# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS between the hosts: what somebody sees who listens on their network, and certificates that are renewed
while all of them work.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import redis
from harness.capture import Capture
from harness.fleet import (
    CACHE,
    LEGACY,
    MAIN,
    SOURCES,
    USERS,
    WORKERS,
    cache_client,
    name_in_redis,
    write,
    writing,
)
from harness.hosts import SECRET, Host, Playbooks, recap
from harness.waiting import until

JOBS, REPLICAS = Host("fleet-jobs"), {MAIN: Host("fleet-replica"), USERS: Host("fleet-users2")}
#: Who connects to which port, of the hosts of one kind at least one: each hop that a row takes.
HOPS: list[tuple[list[Host], Host, int]] = [
    ([MAIN], JOBS, 4730),
    (WORKERS, JOBS, 4730),
    *[(WORKERS, source, 3306) for source in SOURCES],
    *[([replica], source, 3306) for source, replica in REPLICAS.items()],
    (WORKERS, CACHE, 6379),
]
#: Used by nothing else.
PLAIN_PORT = 7000
#: The worker's account of MySQL, and its sessions.
ACCOUNT = "SELECT CONCAT(QUOTE(user), '@', QUOTE(host)) FROM mysql.user WHERE user = 'gearsync';"
SESSIONS = "SELECT id FROM information_schema.processlist WHERE user = 'gearsync';"


def send_plainly(client: Host, server: Host, text: str) -> None:
    """One host sends another one a text, without TLS."""
    listen = (
        f"import socket; listener = socket.create_server(('', {PLAIN_PORT})); "
        "print(listener.accept()[0].makefile().read())"
    )
    send = f"until echo {text} >/dev/tcp/{server.name}/{PLAIN_PORT}; do sleep 0.1; done"
    with ThreadPoolExecutor(1) as pool:
        received = pool.submit(server.run, f'timeout 120 python3 -c "{listen}"')
        client.run(f"timeout 120 bash -c '{send}' 2>&1")
        assert received.result().strip() == text


def sync(text: str) -> None:
    """A change with the text in each source, by each way to Redis, and on each replica."""
    for source in SOURCES:
        write(source, 75, text)
    MAIN.sql(f"UPDATE user_list SET name = '{text}';")
    for source in SOURCES:
        until(lambda source=source: name_in_redis(source, 75), text)
    until(lambda: CACHE.redis("get", "name"), text)
    for replica in REPLICAS.values():
        until(
            lambda replica=replica: replica.sql("SELECT name FROM customer WHERE id = 75;", database="shop"),
            text,
        )
    # Reads all rows on both sides.
    assert "equal" in WORKERS[0].run("/opt/gearsync/venv/bin/gearsync verify")


def test_nobody_on_the_network_can_read_a_value_or_a_password() -> None:
    planted, control = secrets.token_hex(16), secrets.token_hex(16)
    with Capture() as capture:
        # So that all workers log in again, too.
        CACHE.redis("client", "kill", "type", "normal")
        sync(planted)
        for clients, server, _port in HOPS:
            for client in clients:
                send_plainly(client, server, control)
    assert capture.lost == 0
    # What is not encrypted is seen, between all of these hosts.
    plain = {
        (segment.source, segment.destination)
        for segment in capture.segments
        if segment.port == PLAIN_PORT and control.encode() in segment.data
    }
    assert plain == {(client.address, server.address) for clients, server, _ in HOPS for client in clients}
    # All hops were used meanwhile, in the one or the other direction: a replica only reads.
    used = {(segment.source, segment.destination, segment.port) for segment in capture.segments}
    used |= {(segment.destination, segment.source, segment.source_port) for segment in capture.segments}
    for clients, server, port in HOPS:
        assert used & {(client.address, server.address, port) for client in clients}, (server.name, port)
    for secret in (planted, SECRET, "never-print-"):
        assert capture.holding(secret) == [], secret


#: Of the first of the sources, with a configuration that has no certificate of the worker's.
SELFTEST_WITHOUT_CERTIFICATE = """
umask 077; config=$(mktemp); sed '/gearsync-tls.worker[.]/d' /etc/gearsync/main.yml >$config
/opt/gearsync/venv/bin/gearsync selftest --config $config; rm $config
"""


def test_workers_log_in_to_servers_that_require_their_certificate() -> None:
    accounts = {source: source.sql(ACCOUNT) for source in (MAIN, USERS)}
    try:
        for source, account in accounts.items():
            # The worker logs in again.
            source.sql(f"ALTER USER {account} REQUIRE X509;")
            for session in source.sql(SESSIONS).split():
                # It may have ended by itself.
                source.sql(f"KILL {session};", ok=False)
            write(source, 77, "with a certificate")
            until(lambda source=source: name_in_redis(source, 77), "with a certificate")
        refused = WORKERS[0].run(SELFTEST_WITHOUT_CERTIFICATE, ok=False)
        assert re.search(rf"MySQL {MAIN.name}:3306: .*Access denied", refused), refused
    finally:
        for source, account in accounts.items():
            source.sql(f"ALTER USER {account} REQUIRE NONE;")


class Reconnecting:
    """A program that writes numbers to Redis, over a new connection each."""

    def __init__(self) -> None:
        self.acknowledged: list[int] = []
        #: Of tries that were made again.
        self.errors: list[str] = []

    def write(self, ending: threading.Event) -> None:
        while not ending.wait(0.05):
            try:
                with cache_client() as client:
                    client.sadd("renewed", len(self.acknowledged))
            except redis.ConnectionError as error:
                self.errors.append(str(error))
            else:
                self.acknowledged.append(len(self.acknowledged))

    def go_on(self) -> None:
        """Wait for some more."""
        so_far = len(self.acknowledged)
        until(lambda: len(self.acknowledged) >= so_far + 5)


@contextmanager
def reconnecting() -> Iterator[Reconnecting]:
    one, ending = Reconnecting(), threading.Event()
    thread = threading.Thread(target=one.write, args=(ending,))
    thread.start()
    try:
        one.go_on()
        yield one
    finally:
        ending.set()
        thread.join()


def serial() -> str:
    """Of the certificate that Redis shows, to a client who accepts it."""
    files = "-CAfile ca.pem -cert worker.pem -key worker.key"
    return WORKERS[0].run(
        f"cd /etc/gearsync-tls && openssl s_client -connect {CACHE.name}:6379 {files} -verify_return_error "
        f"-verify_hostname {CACHE.name} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )


def test_redis_takes_a_renewed_certificate_up_under_load_without_a_restart(playbooks: Playbooks) -> None:
    def processes() -> list[str]:
        workers = [host.main_process("'gearsync-worker@*'") for host in WORKERS]
        return [CACHE.main_process("redis-server"), *workers]

    before, first = processes(), serial()
    CACHE.redis("del", "renewed")
    with writing(MAIN, 76) as main, writing(LEGACY, 76) as legacy, reconnecting() as program:
        for playbook, *options in (
            # Each is valid for less than that.
            ["playbooks/certificates.yml", "-e", "gearsync_certificates_renew_days=400"],
            ["site.yml", "--tags", "redis"],
        ):
            status, output = playbooks.run(playbook, "--limit", CACHE.name, *options)
            assert status == 0, output
            assert recap(output)[CACHE.name]["changed"] > 0, output
        assert serial() != first
        program.go_on()
        assert program.errors == []
        # The workers connect again, and verify the new one.
        CACHE.redis("client", "kill", "type", "normal")
        write(USERS, 76, "after it")
        until(lambda: name_in_redis(USERS, 76), "after it")
        program.go_on()
    for source, names in ((MAIN, main), (LEGACY, legacy)):
        until(lambda source=source: name_in_redis(source, 76), names[-1])
    assert sorted(map(int, CACHE.redis("smembers", "renewed").split())) == program.acknowledged
    assert processes() == before
    CACHE.redis("del", "renewed")
