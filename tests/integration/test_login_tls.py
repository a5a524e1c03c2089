# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules that log in over TLS."""

from __future__ import annotations

import shutil

import pytest
from harness.database import WITHOUT_TLS, DatabaseServer, server_program
from harness.modules import Modules
from harness.recording_proxy import RecordingProxy
from harness.tls import Certificates

PASSWORD = "pass-Word.1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


def with_account(server):
    server.execute(
        f"CREATE USER someone@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'",
        "GRANT ALL ON *.* TO someone@'127.0.0.1'",
    )
    return server


@pytest.fixture(scope="module")
def tls_database(certificates):
    for kind in ("pem", "key"):
        shutil.copy(certificates.path(f"server.{kind}"), certificates.path(f"shown.{kind}"))
    files = [f"--ssl-cert={certificates.path('shown.pem')}", f"--ssl-key={certificates.path('shown.key')}"]
    with DatabaseServer(f"--ssl-ca={certificates.path('ca.pem')}", *files) as server:
        yield with_account(server)


@pytest.fixture(scope="module")
def plain_database():
    with DatabaseServer(*WITHOUT_TLS[server_program()[0]]) as server:
        yield with_account(server)


@pytest.fixture
def remote():
    """Modules that log in over TCP."""
    modules = Modules(
        {
            "login_host": "127.0.0.1",
            "login_user": "someone",
            "login_password": PASSWORD,
            "config_file": "/nonexistent",
        }
    )
    yield modules
    modules.remove()


def test_a_login_with_a_certificate_authority_is_encrypted(remote, tls_database, certificates):
    own = {"client_cert": certificates.path("client.pem"), "client_key": certificates.path("client.key")}
    with RecordingProxy(tls_database.port) as network:
        login = {"login_port": network.port, "ca_cert": certificates.path("ca.pem")}
        for more in ({}, own):
            remote.ok("replication_info", **login, **more)
        assert network.accepted == 2
        assert b"someone" not in network.seen


def test_a_login_without_any_option_of_tls_works_on_a_server_without_tls(remote, plain_database):
    with RecordingProxy(plain_database.port) as network:
        remote.ok("replication_info", login_port=network.port)
        assert b"someone" in network.seen


@pytest.mark.parametrize(
    ("name", "message"), [("other-ca", "certificate verify failed"), ("absent", "No such file or directory")]
)
def test_a_server_of_another_authority_is_refused(remote, tls_database, certificates, name, message):
    with RecordingProxy(tls_database.port) as network:
        result = remote.run(
            "replication_info", login_port=network.port, ca_cert=certificates.path(f"{name}.pem")
        )
        assert result["failed"]
        assert message in result["msg"]
        assert b"someone" not in network.seen


def test_a_server_of_another_name_is_refused_unless_the_name_is_not_checked(
    remote, tls_database, certificates
):
    for kind in ("pem", "key"):
        shutil.copy(certificates.path(f"elsewhere.{kind}"), certificates.path(f"shown.{kind}"))
    tls_database.take_renewed_certificates()
    login = {"login_port": tls_database.port, "ca_cert": certificates.path("ca.pem")}
    assert "IP address mismatch" in remote.run("replication_info", **login)["msg"]
    remote.ok("replication_info", **login, check_hostname=False)


@pytest.mark.parametrize("option", ["ca_cert", "client_cert", "check_hostname"])
def test_a_server_without_tls_gets_nothing_where_it_is_asked_for(
    remote, plain_database, certificates, option
):
    path = certificates.path
    tls = {
        "ca_cert": {"ca_cert": path("ca.pem")},
        "client_cert": {
            "ca_cert": path("ca.pem"),
            "client_cert": path("client.pem"),
            "client_key": path("client.key"),
        },
        "check_hostname": {"check_hostname": False},
    }[option]
    with RecordingProxy(plain_database.port) as network:
        result = remote.run("replication_info", login_port=network.port, **tls)
        assert result["failed"]
        assert "no TLS" in result["msg"]
        assert (network.accepted, network.sent) == (1, b"")


def test_a_certificate_of_ones_own_is_not_shown_to_a_server_that_is_not_verified(
    remote, tls_database, certificates
):
    own = {"client_cert": certificates.path("client.pem"), "client_key": certificates.path("client.key")}
    with RecordingProxy(tls_database.port) as network:
        result = remote.run("replication_info", login_port=network.port, **own)
        assert result["failed"]
        assert "need ca_cert" in result["msg"]
        assert network.accepted == 0
        remote.ok("replication_info", login_port=network.port, **own, check_hostname=False)
