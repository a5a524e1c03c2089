# SPDX-License-Identifier: GPL-2.0-or-later
"""The settings of TLS, and the files that they name."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from fake_server import FakeServer
from gman_calls import (
    configure,
    patient,
    secure,
    server,
    stats,
    use,
)
from harness.tls import Certificates
from harness.waiting import until
from sanitized import Driver, Refused, RowError, Value


def test_switching(gman: Driver, certificates: Certificates) -> None:
    """Connections of another configuration are not used any more, in both directions."""
    with FakeServer() as plain, FakeServer(context=certificates.context()) as secured:
        configure(gman, breaker_retry_ms=20)
        use(gman, plain.address)
        assert gman.call("gman_do_background", "f", "plain")
        until(lambda: gman.integer("gman_wake", "f", "w"))
        until(lambda: len(plain.jobs) == 2)
        secure(gman, certificates)
        configure(gman, connect_timeout_ms=250)  # a plain server waits for the rest of the handshake
        assert gman.call("gman_do_background", "f", "not in plain text") is None
        patient(gman)
        for _ in range(20):
            assert gman.integer("gman_wake", "f", "w") == 0
            time.sleep(0.005)
        assert len(plain.jobs) == 2
        use(gman, secured.address)
        assert gman.call("gman_do_background", "f", "secured")
        gman.call("gman_configure", "tls", "off")
        use(gman, plain.address)
        until(lambda: gman.call("gman_do_background", "f", "plain again"))
        assert [job[3] for job in secured.jobs] == [b"secured"]
        assert [job[3] for job in plain.jobs] == [b"plain", b"", b"plain again"]


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("tls", "yes", "tls must be off or on"),
        ("tls", 1, "tls must be off or on"),
        ("tls_ca", "ca.pem", "tls_ca: not an absolute path"),
        ("tls_key", "/" + "x" * 255, "tls_key: not an absolute path"),
        ("tls_cert", "/a\0b", "tls_cert: not an absolute path"),
        ("tls_server_name", "one two", "tls_server_name: a host name consists of letters, digits, - _ ."),
        ("tls_server_name", "a\0b", "tls_server_name: a host name consists of letters, digits, - _ ."),
        ("tls_server_name", "x" * 254, "tls_server_name: the host name is too long"),
        # As a suffix OpenSSL would take it.
        ("tls_server_name", ".example.com", "tls_server_name: a part of the host name is empty"),
        ("tls_server_name", "jobs.example.com:4730", "tls_server_name: not an IPv6 address"),
        ("tls_server_name", "127.0.0.256", "tls_server_name: not an IPv4 address"),
        ("tls_min_version", "1.1", "tls_min_version must be 1.2 or 1.3"),
        ("tls_min_version", "TLSv1.3", "tls_min_version must be 1.2 or 1.3"),
    ],
)
def test_wrong_settings(gman: Driver, name: str, value: str | int, says: str) -> None:
    with pytest.raises(Refused) as refused:
        gman.call("gman_configure", Value(name, constant=True), Value(value, constant=True))
    assert says in str(refused.value)
    assert len(str(refused.value)) < 80
    with pytest.raises(RowError):
        gman.call("gman_configure", name, value)


def test_settings_are_reported(gman: Driver, certificates: Certificates) -> None:
    defaults = {
        "tls": "off",
        "tls_min_version": "1.2",
        "tls_ca": "",
        "tls_cert": "",
        "tls_key": "",
        "tls_server_name": "",
    }

    def reported() -> dict[str, str]:
        return {name: value for name, value in stats(gman)["settings"].items() if name.startswith("tls")}

    assert reported() == defaults
    secure(gman, certificates, client="client")
    configure(gman, tls_server_name="jobs.example.com", tls_min_version="1.3")
    changed = {
        "tls": "on",
        "tls_min_version": "1.3",
        "tls_ca": certificates.path("ca.pem"),
        "tls_cert": certificates.path("client.pem"),
        "tls_key": certificates.path("client.key"),
        "tls_server_name": "jobs.example.com",
    }
    assert reported() == changed
    assert set(stats(gman)["changed_settings"]) >= set(changed)
    for name in defaults:
        gman.call("gman_configure", name, "default")
    assert reported() == defaults


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"tls_ca": "/nonexistent/ca.pem"}, "TLS: tls_ca: No such file or directory"),
        ({"tls_ca": "server.key"}, "TLS: tls_ca: "),
        ({"tls_ca": "ca.pem", "tls_cert": "client.pem"}, "TLS: tls_cert and tls_key need each other"),
        ({"tls_ca": "ca.pem", "tls_cert": "client.key", "tls_key": "client.key"}, "TLS: tls_cert: "),
        (
            {"tls_ca": "ca.pem", "tls_cert": "client.pem", "tls_key": "server.key"},
            "TLS: tls_key: key values mismatch",
        ),
        ({"tls_ca": "ca.pem", "tls_cert": "client.pem", "tls_key": "locked.key"}, "TLS: tls_key: "),
    ],
)
def test_unusable_files_never_mean_plain_text(
    gman: Driver, certificates: Certificates, files: dict[str, str], says: str
) -> None:
    locked = Path(certificates.path("locked.key"))
    if not locked.exists():
        certificates.openssl(
            "pkey", "-aes256", "-passout", "pass:secret", "-in", "client.key", "-out", "locked.key"
        )
    for name, file in files.items():
        gman.call("gman_configure", name, file if file.startswith("/") else certificates.path(file))
    with pytest.raises(RowError):
        gman.call("gman_configure", "tls", "on")
    with FakeServer() as plain, FakeServer(context=certificates.context()) as secured:
        use(gman, plain.address)
        assert gman.call("gman_do_background", "f", "secret") is None
        assert gman.integer("gman_wake", "f", "secret") == 0
        assert says in server(gman)["last_error"]
        assert plain.jobs == []
        # When the files are repaired, TLS works with the next gman_configure, the only one that reads them.
        for name in ("tls_cert", "tls_key"):
            gman.call("gman_configure", name, "default")
        gman.call("gman_configure", "tls_ca", certificates.path("ca.pem"))
        use(gman, secured.address)
        assert gman.call("gman_do_background", "f", "x") is None
        configure(gman, breaker_retry_ms=10, tls="on")
        until(lambda: gman.call("gman_do_background", "f", "x"))


def test_unusable_change_keeps_the_working_configuration(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer
) -> None:
    secure(gman, certificates)
    use(gman, tls_fake.address)
    gman.call("gman_configure", "tls_ca", "/nonexistent")
    with pytest.raises(RowError):
        gman.call("gman_configure", "tls", "on")
    assert gman.call("gman_do_background", "f", "x")


def test_renewed_files_are_read_again(gman: Driver, certificates: Certificates, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(certificates.path("other-ca.pem"), ca)
    gman.call("gman_configure", "tls_ca", str(ca))
    gman.call("gman_configure", "tls", "on")
    configure(gman, breaker_retry_ms=20)
    with FakeServer(context=certificates.context()) as fake:
        use(gman, fake.address)
        assert gman.call("gman_do_background", "f", "x") is None
        shutil.copy(certificates.path("ca.pem"), ca)
        gman.call("gman_configure", "tls", "on")
        until(lambda: gman.call("gman_do_background", "f", "x"))
