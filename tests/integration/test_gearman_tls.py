# SPDX-License-Identifier: GPL-3.0-or-later
import json
import ssl

import pytest
from harness.ports import free_port
from harness.tls import Certificates, TlsFront

MODULES = {"gearman_info": {}, "gearman_job": {"function": "over-tls", "background": True}}


class Front(TlsFront):
    """A job server behind TLS, which asks for a certificate of `ca`."""

    def __init__(self, certificates, job_server, name="server"):
        super().__init__(certificates.context(name, client_ca="ca"), ("127.0.0.1", job_server.port))
        self.certificates = certificates
        self.port = int(self.address.rpartition(":")[2])

    def arguments(self, client="client", ca="ca"):
        """A module's options of TLS."""
        path = self.certificates.path
        return {
            "tls": True,
            "tls_ca_file": path(f"{ca}.pem"),
            "tls_cert_file": path(f"{client}.pem"),
            "tls_key_file": path(f"{client}.key"),
        }


@pytest.fixture(scope="module")
def front(tmp_path_factory, job_server):
    one = Front(Certificates(tmp_path_factory.mktemp("certificates")), job_server)
    yield one
    one.stop()


def test_modules_over_tls(modules, job_server, front):
    assert modules.ok("gearman_info", port=front.port, **front.arguments())["version"].startswith("1.")
    result = modules.ok(
        "gearman_job",
        port=front.port,
        function="over-tls",
        data="x" * 100_000,
        background=True,
        **front.arguments(),
    )
    assert result["handle"].startswith("H:")
    assert job_server.jobs("over-tls") == [b"x" * 100_000]


def test_a_certificate_for_another_name_is_taken_when_that_is_the_name_of_the_options(
    modules, job_server, front
):
    elsewhere = Front(front.certificates, job_server, "elsewhere")
    options = elsewhere.arguments() | {"tls_server_name": "elsewhere.example"}
    assert modules.ok("gearman_info", port=elsewhere.port, **options)["version"].startswith("1.")
    elsewhere.stop()


def test_a_job_server_with_too_old_a_version_is_refused(modules, job_server, front):
    old = Front(front.certificates, job_server)
    old.context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert modules.ok("gearman_info", port=old.port, **old.arguments())["version"].startswith("1.")
    message = modules.refused("gearman_info", port=old.port, tls_minimum_version="TLSv1.3", **old.arguments())
    assert "version" in message.lower()
    old.stop()


def test_a_list_of_job_servers_with_tls_is_set(database, modules, gearman, front):
    modules.ok("gearman_servers", servers=[front.address], **front.arguments())
    assert json.loads(database.execute("SELECT gman_stats()")[0][0])["server_lists"] == {"": front.address}
    plain = modules.run("gearman_servers", servers=[gearman.address], timeout=1, **front.arguments())
    assert (plain["failed"], plain["silent"]) == (True, [gearman.address])
    modules.ok("gearman_servers", servers=[gearman.address])


@pytest.mark.parametrize("name", MODULES)
def test_who_is_not_who_it_should_be_is_refused(modules, job_server, front, name):
    def refused(port, tls):
        return modules.refused(name, port=port, **MODULES[name], **tls)

    assert "certificate verify failed" in refused(front.port, front.arguments(ca="other-ca"))
    assert front.address in refused(front.port, front.arguments(client="stranger"))
    assert front.address in refused(front.port, {})
    elsewhere = Front(front.certificates, job_server, "elsewhere")
    assert "IP address mismatch" in refused(elsewhere.port, front.arguments())
    other_name = front.arguments() | {"tls_server_name": "nowhere.example"}
    assert "Hostname mismatch" in refused(elsewhere.port, other_name)
    elsewhere.stop()
    assert job_server.jobs("over-tls") == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tls_ca_file": "absent.pem"}, ("tls_ca_file", "absent.pem", "No such file")),
        ({"tls_ca_file": "client.key"}, ("tls_ca_file", "client.key")),
        ({"tls_key_file": "ca.key"}, ("tls_cert_file", "client.pem")),
        ({"tls_key_file": "absent.key"}, ("tls_key_file", "absent.key", "No such file")),
        ({"tls_key_file": None}, ("tls_cert_file", "tls_key_file")),
    ],
)
@pytest.mark.parametrize("name", [*MODULES, "gearman_servers"])
def test_a_file_of_no_use_is_named(modules, front, name, change, words):
    address = {"servers": ["127.0.0.1:1"]} if name == "gearman_servers" else {"port": free_port()}
    files = {option: file and front.certificates.path(file) for option, file in change.items()}
    message = modules.refused(name, **address, **MODULES.get(name, {}), **{**front.arguments(), **files})
    assert all(word in message for word in words), message
