# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts on hosts of their own: what goes over the network, what is left when one of two is gone, and
what each host holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from harness.hosts import Host, Playbooks
from harness.waiting import until

DB, CACHE = Host("fleet-db"), Host("fleet-cache")
#: Each with its unit: the second one is the distribution's, which the collection did not deploy.
JOB_SERVERS = {Host("fleet-jobs"): "gearmand", Host("fleet-worker2"): "gearman-job-server"}
WORKERS = [Host("fleet-worker1"), Host("fleet-worker2")]


def write(name: str) -> None:
    """One row through the pipeline, by durable delivery."""
    DB.sql(f"REPLACE INTO customer (id, name) VALUES (1, '{name}');", database="shop")
    until(lambda: CACHE.redis("hget", "customer:1", "name"), name)


@pytest.fixture(autouse=True)
def all_units_run() -> Iterator[None]:
    yield
    for host, unit in JOB_SERVERS.items():
        host.run(f"systemctl start {unit}")
    for host in WORKERS:
        host.run("systemctl start gearsync-worker@main gearsync-worker@users gearsync-worker@legacy")


def test_a_row_travels_over_all_hosts() -> None:
    write("over the network")


def test_the_articles_statement_and_its_test_job_work() -> None:
    # One after the other: the table is delivered directly, and of two jobs at a time two workers may write
    # either one last.
    for name, password in (("troy", "jane"), ("hello", "world")):
        DB.sql(f"UPDATE user_list SET name = '{name}', password = '{password}';")
        until(lambda: (CACHE.redis("get", "name"), CACHE.redis("get", "password")), (name, password))
    assert DB.sql("SELECT gman_do('reverse', 'hello world!');") == "!dlrow olleh"


@pytest.mark.parametrize("lost", JOB_SERVERS, ids=lambda host: host.name)
def test_each_job_server_can_be_lost(lost: Host) -> None:
    lost.run(f"systemctl stop {JOB_SERVERS[lost]}")
    for number in range(20):
        write(f"without {lost.name} {number}")


@pytest.mark.parametrize("lost", WORKERS, ids=lambda host: host.name)
def test_each_worker_can_be_killed(lost: Host) -> None:
    lost.run("systemctl kill --signal=KILL 'gearsync-worker@*'; systemctl stop 'gearsync-worker@*'")
    for number in range(20):
        write(f"without the worker on {lost.name} {number}")


def test_both_sides_are_equal_after_all_of_that() -> None:
    verify = "/opt/gearsync/venv/bin/gearsync verify --source main --table shop.customer"
    assert "equal" in WORKERS[1].run(verify)
    # A worker that is paused past its lease loses its shards to the other one.
    WORKERS[0].run("systemctl kill --signal=STOP gearsync-worker@main")
    try:
        write("while one worker is paused")
    finally:
        WORKERS[0].run("systemctl kill --signal=CONT gearsync-worker@main")
    assert "equal" in WORKERS[0].run(verify)


def test_the_barrier_answers_from_sql() -> None:
    assert '"ok":true' in DB.sql("SELECT gman_do('gearsync.barrier.main', '');")


def test_each_host_runs_its_own_part_only() -> None:
    workers = ("gearsync-worker@main", "gearsync-worker@users", "gearsync-worker@legacy")
    units = ("mariadb", "gearmand", "gearman-job-server", "redis-server", *workers)
    wanted = {
        "fleet-db": ("mariadb",),
        "fleet-jobs": ("gearmand",),
        "fleet-cache": ("redis-server",),
        "fleet-worker1": workers,
        "fleet-worker2": ("gearman-job-server", *workers),
    }
    for host in {host.name: host for host in (DB, CACHE, *JOB_SERVERS, *WORKERS)}.values():
        assert tuple(unit for unit in units if host.is_active(unit)) == wanted[host.name]


@pytest.mark.parametrize("server", JOB_SERVERS, ids=lambda host: host.name)
def test_job_servers_want_tls_and_a_certificate(server: Host) -> None:
    plain = DB.run(
        f"timeout 120 bash -c 'exec 3<>/dev/tcp/{server.name}/4730; echo version >&3; head -n 1 <&3'",
        ok=False,
    )
    assert "OK" not in plain

    def answer(certificate: str) -> str:
        ask = (
            "import socket, ssl; context = ssl.create_default_context(cafile='/etc/gearsync-tls/ca.pem');"
            f" {certificate} one = context.wrap_socket("
            f"socket.create_connection(('{server.name}', 4730), 120), server_hostname='{server.name}');"
            " one.sendall(b'version\\n'); print(one.recv(100).decode())"
        )
        return DB.run(f'python3 -c "{ask}"', ok=False)

    assert "OK" not in answer("")
    assert answer(
        "context.load_cert_chain('/etc/gearsync-tls/mysql.pem', '/etc/gearsync-tls/mysql.key');"
    ).startswith("OK 1.")


def test_redis_wants_tls_a_certificate_and_a_password_from_the_network() -> None:
    def connected(certificate: str, then: str) -> str:
        ask = (
            "import socket, ssl; context = ssl.create_default_context(cafile='/etc/gearsync-tls/ca.pem');"
            f" {certificate} one = context.wrap_socket(socket.create_connection(('fleet-cache', 6379), 120),"
            f" server_hostname='fleet-cache'); {then} print(one.recv(100).decode())"
        )
        return WORKERS[0].run(f'python3 -c "{ask}"', ok=False)

    plain = "exec 3<>/dev/tcp/fleet-cache/6379; printf 'GET name\\r\\n' >&3; head -n 1 <&3"
    assert "NOAUTH" not in WORKERS[0].run(f'timeout 120 bash -c "{plain}"', ok=False)
    # The refusal comes after the handshake: what is sent before it is read can end with another error.
    assert "CERTIFICATE_REQUIRED" in connected("", "")
    files = "'/etc/gearsync-tls/worker.pem', '/etc/gearsync-tls/worker.key'"
    ask = "one.sendall(b'GET name\\r\\n');"
    assert connected(f"context.load_cert_chain({files});", ask).startswith("-NOAUTH")


@pytest.mark.parametrize("server", [DB, Host("fleet-users1")], ids=lambda host: host.name)
def test_the_functions_have_the_name_and_the_version_of_the_inventory(server: Host) -> None:
    settings = json.loads(server.sql("SELECT gman_stats();"))["settings"]
    assert settings["tls"] == "on"
    assert (settings["tls_server_name"], settings["tls_min_version"]) == ("jobs.fleet.example", "1.3")


def test_smoke_sends_a_row_through_all_hosts(playbooks: Playbooks) -> None:
    status, output = playbooks.run("gearsync.mysql_redis.smoke")
    assert status == 0, output
