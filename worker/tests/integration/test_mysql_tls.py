# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's and its commands' connections to MySQL over TLS."""

from __future__ import annotations

import gc
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.declare.tls import TlsSettings
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable
from harness.commands import Commands
from harness.database import WITHOUT_TLS, server_program
from harness.outbox_database import OutboxDatabase
from harness.recording_proxy import RecordingProxy
from harness.redis_server import RedisServer
from harness.tls import Certificates
from harness.waiting import until
from harness.worker import Worker, worker_config

PASSWORD, PLANTED = "pass-Word.1", "planted-value-8341"
TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def show(certificates: Certificates, name: str, authority: str = "ca") -> None:
    """The certificate that the server reads next."""
    for source, target in (
        (f"{name}.pem", "shown.pem"),
        (f"{name}.key", "shown.key"),
        (f"{authority}.pem", "known.pem"),
    ):
        shutil.copy(certificates.path(source), certificates.path(target))


def with_accounts(server: OutboxDatabase) -> OutboxDatabase:
    for name, wanted in (("worker", ""), ("certified", " REQUIRE X509")):
        server.execute(
            f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'{wanted}",
            f"GRANT ALL ON *.* TO {name}@'127.0.0.1'",
        )
    return server


@pytest.fixture(scope="module")
def module_tls_database(certificates: Certificates) -> Iterator[OutboxDatabase]:
    show(certificates, "server")
    path = certificates.path
    files = [f"--ssl-{name}={path(file)}" for name, file in (("cert", "shown.pem"), ("key", "shown.key"))]
    with OutboxDatabase("--skip-log-bin", f"--ssl-ca={path('known.pem')}", *files) as server:
        yield with_accounts(server)


@pytest.fixture
def tls_database(module_tls_database: OutboxDatabase, certificates: Certificates) -> OutboxDatabase:
    """A server with TLS, whose certificate names 127.0.0.1; with a synced table."""
    module_tls_database.reset()
    show(certificates, "server")
    module_tls_database.take_renewed_certificates()
    return synced(module_tls_database)


@pytest.fixture(scope="module")
def module_plain_database() -> Iterator[OutboxDatabase]:
    with OutboxDatabase("--skip-log-bin", *WITHOUT_TLS[server_program()[0]]) as server:
        server.execute(
            f"CREATE USER worker@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
            "GRANT ALL ON *.* TO worker@'127.0.0.1'",
        )
        yield server


@pytest.fixture
def plain_database(module_plain_database: OutboxDatabase) -> OutboxDatabase:
    """A server without TLS; with a synced table."""
    module_plain_database.reset()
    return synced(module_plain_database)


def synced(server: OutboxDatabase) -> OutboxDatabase:
    server.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    server.sync_table(**TABLE)
    return server


def account(port: int, tls: Any = None, user: str = "worker") -> dict[str, Any]:
    return {"user": user, "password": PASSWORD, "host": "127.0.0.1", "port": port, "tls": tls}


class Site(NamedTuple):
    """What a worker needs beside MySQL."""

    certificates: Certificates
    redis: RedisServer
    start_worker: Callable[..., Worker]
    directory: pathlib.Path

    def config(self, mysql: dict[str, Any]) -> dict[str, Any]:
        return worker_config(self.redis.port, [TABLE], mysql)

    def selftest(self, mysql: dict[str, Any]) -> str:
        """What `selftest` says about MySQL."""
        output = Commands(self.config(mysql), self.directory).run("selftest")[1]
        return next(line for line in output.splitlines() if ": MySQL " in line)

    def run_everything(self, mysql: dict[str, Any], database: OutboxDatabase) -> None:
        """The drain, its deletions, and commands, all of which read the planted value."""
        self.start_worker(self.config(mysql))
        database.execute(f"INSERT INTO shop.item VALUES (1, '{PLANTED}')")
        until(lambda: self.redis.client.hget("item:1", "name"), PLANTED.encode())
        until(lambda: database.waiting, 0)
        commands = Commands(self.config(mysql), self.directory)
        assert commands.verify()[0] == 0
        self.redis.client.delete("item:1")
        commands.done("resync")
        until(lambda: self.redis.client.hget("item:1", "name"), PLANTED.encode())
        assert "shop.item" in commands.run("status")[1]


@pytest.fixture
def site(
    certificates: Certificates,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> Site:
    return Site(certificates, redis_server, start_worker, tmp_path)


def test_without_the_setting_connections_use_tls_where_there_is_some_and_share_a_context_without_authorities(
    tls_database: OutboxDatabase,
) -> None:
    sessions = [Database(MySQLSettings(**account(tls_database.port)), 5.0) for _ in range(2)]
    for session in sessions:
        assert session.rows("SHOW STATUS LIKE 'Ssl_cipher'")[0][1]
    first, second = (session.connection.ctx for session in sessions)
    assert first is second
    assert first.cert_store_stats()["x509_ca"] == 0
    for session in sessions:
        session.close()


@pytest.mark.parametrize("named", ["host", "members"])
def test_with_tls_no_value_and_no_statement_crosses_the_network_in_plain_text(
    tls_database: OutboxDatabase, site: Site, named: str
) -> None:
    with RecordingProxy(tls_database.port) as network:
        mysql = account(network.port, {"ca": site.certificates.path("ca.pem")})
        if named == "members":
            mysql["members"] = [f"{mysql.pop('host')}:{mysql.pop('port')}"]
        site.run_everything(mysql, tls_database)
        assert ", verified" in site.selftest(mysql)
        assert network.accepted > 5
        for text in (PLANTED, "gearsync", "SELECT", "worker"):
            assert text.encode() not in network.seen


def test_without_tls_all_of_it_does(plain_database: OutboxDatabase, site: Site) -> None:
    with RecordingProxy(plain_database.port) as network:
        site.run_everything(account(network.port), plain_database)
        assert "plain text within this host" in site.selftest(account(network.port))
        for text in (PLANTED, "gearsync", "SELECT", "worker"):
            assert text.encode() in network.seen


@pytest.mark.parametrize(
    ("shown", "tls", "message"),
    [
        ("server", {"ca": "other-ca.pem"}, "certificate verify failed"),
        ("server", True, "certificate verify failed"),
        ("elsewhere", {"ca": "ca.pem"}, "IP address mismatch"),
        ("server", {"ca": "ca.pem", "server_name": "elsewhere.example"}, "Hostname mismatch"),
        pytest.param(
            "expired",
            {"ca": "ca.pem"},
            "certificate has expired",
            marks=pytest.mark.skipif(server_program()[0] == "mysql", reason="MySQL takes no expired one"),
        ),
    ],
)
def test_a_server_that_does_not_show_who_it_is_gets_nothing(
    tls_database: OutboxDatabase, site: Site, shown: str, tls: Any, message: str
) -> None:
    show(site.certificates, shown)
    tls_database.take_renewed_certificates()
    if tls is not True:
        tls = {**tls, "ca": site.certificates.path(tls["ca"])}
    with RecordingProxy(tls_database.port) as network:
        line = site.selftest(account(network.port, tls))
        assert line.startswith("FAILED: MySQL")
        assert message in line
        assert network.accepted == 1
        assert b"worker" not in network.sent


def test_a_server_without_tls_gets_nothing_at_all(plain_database: OutboxDatabase, site: Site) -> None:
    with RecordingProxy(plain_database.port) as network:
        tls = {"ca": site.certificates.path("ca.pem")}
        line = site.selftest(account(network.port, tls))
        assert line.startswith("FAILED: MySQL")
        assert "has no TLS, which mysql.tls demands" in line
        assert (network.accepted, network.sent) == (1, b"")


def test_a_certificate_for_another_name_is_taken_when_that_is_the_name_of_the_settings(
    tls_database: OutboxDatabase, site: Site
) -> None:
    show(site.certificates, "elsewhere")
    tls_database.take_renewed_certificates()
    tls = {"ca": site.certificates.path("ca.pem"), "server_name": "elsewhere.example"}
    line = site.selftest(account(tls_database.port, tls))
    assert line.startswith("ok: MySQL")
    assert ", verified" in line


def test_an_older_protocol_than_the_settings_allow_is_refused(site: Site) -> None:
    show(site.certificates, "server")
    path = site.certificates.path
    with OutboxDatabase(
        "--tls-version=TLSv1.2", f"--ssl-cert={path('shown.pem')}", f"--ssl-key={path('shown.key')}"
    ) as server:
        server.reset()
        with_accounts(server)
        for version, begin in (("TLSv1.2", "ok: MySQL"), ("TLSv1.3", "FAILED: MySQL")):
            tls = {"ca": path("ca.pem"), "minimum_version": version}
            assert site.selftest(account(server.port, tls)).startswith(begin)


def test_an_account_that_must_show_a_certificate_can_be_used_with_one_alone(
    tls_database: OutboxDatabase, site: Site
) -> None:
    tls = {"ca": site.certificates.path("ca.pem")}
    own = {"cert": site.certificates.path("client.pem"), "key": site.certificates.path("client.key")}
    for written, begin in ((tls, "FAILED: MySQL"), ({**tls, **own}, "ok: MySQL")):
        assert site.selftest(account(tls_database.port, written, "certified")).startswith(begin)


@pytest.mark.parametrize("ca", ["ca.pem", "other-ca.pem", "absent.pem"])
def test_a_connection_that_is_closed_or_fails_leaves_no_descriptor_and_no_object(
    tls_database: OutboxDatabase, site: Site, ca: str
) -> None:
    mysql = account(tls_database.port, {"ca": site.certificates.path(ca)})
    session = Database(MySQLSettings(**{**mysql, "tls": TlsSettings(**mysql["tls"])}), 60.0)

    def attempt() -> None:
        try:
            session.rows("SELECT 1")
        except DatabaseUnavailable:
            assert ca != "ca.pem"
        session.close()

    attempt()
    gc.collect()
    gc.disable()
    try:
        descriptors, objects = len(os.listdir("/proc/self/fd")), len(gc.get_objects())
        for _ in range(20):
            attempt()
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        # Less than one for each attempt.
        assert len(gc.get_objects()) < objects + 20
    finally:
        gc.enable()


@pytest.mark.parametrize("file", ["absent.pem", "ca.key"])
def test_a_file_of_no_use_is_named_and_the_server_not_asked(
    tls_database: OutboxDatabase, site: Site, file: str
) -> None:
    with RecordingProxy(tls_database.port) as network:
        tls = {"ca": site.certificates.path(file)}
        line = site.selftest(account(network.port, tls))
        assert line.startswith("FAILED: MySQL")
        assert site.certificates.path(file) in line
        assert network.accepted == 0


def test_a_renewed_certificate_of_a_new_authority_loses_no_change_and_needs_no_restart(
    tls_database: OutboxDatabase, site: Site
) -> None:
    database, ca = tls_database, site.directory / "ca.pem"
    shutil.copy(site.certificates.path("ca.pem"), ca)
    with RecordingProxy(database.port) as network:
        config = site.config(account(network.port, {"ca": str(ca)}))
        worker = site.start_worker(config)

        def write(first: int) -> None:
            for number in range(first, first + 300):
                database.execute(f"INSERT INTO shop.item VALUES ({number}, '{PLANTED}')")

        write(1)
        site.certificates.issue("renewed", "IP:127.0.0.1", authority="other-ca")
        show(site.certificates, "renewed", "other-ca")
        database.take_renewed_certificates()
        network.end_connections()
        write(301)
        worker.says("certificate verify failed")
        # Both authorities, as long as there are servers of either.
        ca.write_text(ca.read_text() + pathlib.Path(site.certificates.path("other-ca.pem")).read_text())
        write(601)
        until(lambda: database.waiting, 0)
        assert Commands(config, site.directory).verify()[0] == 0
        assert site.redis.client.hlen("item:900") == 2
        assert worker.running
        assert PLANTED.encode() not in network.seen


@pytest.mark.skipif(server_program()[0] == "mariadb", reason="MariaDB has no caching_sha2_password")
def test_a_password_that_needs_tls_is_an_error_that_names_the_setting(
    plain_database: OutboxDatabase, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The package that would encrypt it is on this machine, and none of the worker's.
    monkeypatch.setattr("pymysql._auth._have_cryptography", False)
    plain_database.execute(f"CREATE USER fresh@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
    line = site.selftest(account(plain_database.port, user="fresh"))
    assert line.startswith("FAILED: MySQL")
    assert "set mysql.tls" in line
