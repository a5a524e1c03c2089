# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS to the job servers: against a real gearmand behind TLS, and against servers with a wrong
certificate.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator

import pytest
from fake_server import FakeServer
from gman_calls import (
    at_once,
    configure,
    patient,
    secure,
    server,
    stats,
    submit,
    use,
    wake,
)
from harness.gearmand import Gearmand
from harness.tls import Certificates, TlsFront
from harness.waiting import until
from sanitized import BUILD, Driver
from udf_servers import HOST


@pytest.fixture
def front(certificates: Certificates, gearmand: Gearmand) -> Iterator[TlsFront]:
    one = TlsFront(certificates.context(), (gearmand.host, gearmand.port))
    yield one
    one.stop()


def test_functions(gman: Driver, certificates: Certificates, gearmand: Gearmand, front: TlsFront) -> None:
    secure(gman, certificates)
    use(gman, front.address)
    assert gman.call("gman_do", "reverse", "hello") == b"olleh"
    assert gman.call("gman_do", "large", 5_000_000) == b"x" * 5_000_000
    assert gman.call("gman_do", "count", "x" * 1_000_000) == b"1000000"
    assert gman.call("gman_do", "fail", "x") is None
    assert gman.sum("count", ["x" * n for n in range(200)]) == sum(range(200))
    before = gearmand.queue("tls")[0]
    for n in range(50):
        handle = gman.call("gman_do_background", "tls", "x" * n)
        assert handle is not None
        assert handle.startswith(b"H:")
    assert gearmand.queue("tls")[0] == before + 50
    assert server(gman)["connects"] == front.accepted == 1
    assert sum(server(gman)["failures"].values()) == 1  # the job that fails


def test_gearmand_with_tls_of_its_own(gman: Driver, certificates: Certificates) -> None:
    program = shutil.which("gearmand")
    listing = (
        subprocess.run(["nm", "-D", program], check=True, capture_output=True, text=True).stdout
        if program
        else ""
    )
    if "SSL_accept" not in listing:
        pytest.skip("the gearmand of this machine is built without TLS")
    files = (
        "--ssl",
        "--ssl-ca-file",
        certificates.path("ca.pem"),
        "--ssl-certificate",
        certificates.path("server.pem"),
        "--ssl-key",
        certificates.path("server.key"),
    )
    gearmand = Gearmand(HOST, files)
    try:
        secure(gman, certificates, client="client")
        use(gman, gearmand.address)
        handles = {gman.call("gman_do_background", "tls", n) for n in range(50)}
        assert len(handles) == 50
        assert None not in handles
        assert gman.call("gman_do_background", "tls", "x" * 1_000_000)
        wake(gman, "drain", "shard")
        calls, nulls, _, _ = gman.storm(8, 0.5, "gman_do_background", "tls", "x")
        assert calls >= 8
        assert nulls == 0
        gearmand.stop()
        assert gman.call("gman_do_background", "tls", "x") is None
        gearmand.start()
        until(lambda: gman.call("gman_do_background", "tls", "again"))
    finally:
        gearmand.remove()


def test_storm_over_tls(gman: Driver, certificates: Certificates, front: TlsFront) -> None:
    secure(gman, certificates)
    use(gman, front.address)
    calls, nulls, _, _ = gman.storm(16, 0.5, "gman_do_background", "storm", "x" * 100)
    assert calls >= 16
    assert nulls == 0
    assert server(gman)["connects"] <= 16


@pytest.mark.parametrize("name", ["localhost", "localhost."])
def test_name_is_sent_and_checked(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer, name: str
) -> None:
    seen: list[str | None] = []
    assert tls_fake.context
    tls_fake.context.sni_callback = lambda _socket, name, _context: seen.append(name)
    secure(gman, certificates)
    use(gman, f"{name}:{tls_fake.port}")
    assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"
    assert seen == ["localhost"]


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("elsewhere.example", "elsewhere.example"),
        ("Elsewhere.Example.", "elsewhere.example"),
        # A certificate may be made out to an address, which no client sends.
        ("127.0.0.2", None),
    ],
)
def test_server_name_of_the_settings_is_sent_and_checked_in_place_of_the_host(
    gman: Driver, certificates: Certificates, gearmand: Gearmand, name: str, sent: str | None
) -> None:
    seen: list[str | None] = []
    context = certificates.context("elsewhere")
    context.sni_callback = lambda _socket, name, _context: seen.append(name)
    front = TlsFront(context, (gearmand.host, gearmand.port))
    configure(gman, tls_server_name=name)
    secure(gman, certificates)
    use(gman, front.address)
    assert gman.call("gman_do", "reverse", "hello") == b"olleh"
    wake(gman, "f", "x")
    assert seen == [sent, sent]
    front.stop()


def test_server_without_the_name_of_the_settings_is_refused(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer
) -> None:
    """It has the host of its address, which is of no matter then."""
    for name, says in (("elsewhere.example", "hostname mismatch"), ("127.0.0.2", "IP address mismatch")):
        configure(gman, tls_server_name=name)
        secure(gman, certificates)
        use(gman, "")
        use(gman, tls_fake.address)
        assert at_once(gman, "gman_do_background", "f", "secret") is None
        assert says in server(gman)["last_error"]
    assert tls_fake.jobs == []


def test_server_with_too_old_a_version_is_refused(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer
) -> None:
    assert tls_fake.context
    tls_fake.context.maximum_version = ssl.TLSVersion.TLSv1_2
    configure(gman, tls_min_version="1.3")
    secure(gman, certificates)
    use(gman, tls_fake.address)
    assert at_once(gman, "gman_do_background", "f", "secret") is None
    assert "protocol" in server(gman)["last_error"]
    assert (tls_fake.jobs, server(gman)["failures"]["tls"]) == ([], 1)
    configure(gman, tls_min_version="1.2", breaker_retry_ms=10)
    secure(gman, certificates)
    until(lambda: submit(gman))


def test_name_and_version_are_used_from_the_next_time_that_tls_is_switched_on(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer
) -> None:
    """Also when the settings are locked by then, and not with the kept connections."""
    assert tls_fake.context
    tls_fake.context.maximum_version = ssl.TLSVersion.TLSv1_2
    secure(gman, certificates)
    use(gman, tls_fake.address)
    for setting, value in (("tls_server_name", "elsewhere.example"), ("tls_min_version", "1.3")):
        assert submit(gman)
        configure(gman, **{setting: value})
        assert submit(gman)
        configure(gman, tls="on")
        assert submit(gman) is None
        configure(gman, **{setting: "default"}, tls="on", breaker_retry_ms=10)
        until(lambda: submit(gman))
    configure(gman, tls_min_version="1.3", locked="on")
    assert submit(gman)
    configure(gman, tls="on")
    assert submit(gman) is None


def test_ipv6(gman: Driver, certificates: Certificates) -> None:
    with FakeServer(host="::1", context=certificates.context()) as fake:
        secure(gman, certificates)
        use(gman, fake.address)
        assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"


@pytest.mark.parametrize(
    "case",
    [  # the server's certificate, the authority that is trusted, the requested host
        ("server", "other-ca", "127.0.0.1", "certificate: unable to get local issuer certificate"),
        ("elsewhere", "ca", "localhost", "certificate: hostname mismatch"),
        ("elsewhere", "ca", "127.0.0.1", "certificate: IP address mismatch"),
        ("expired", "ca", "127.0.0.1", "certificate: certificate has expired"),
        ("ca", "other-ca", "127.0.0.1", "certificate: self"),
    ],
)
def test_server_that_is_not_the_right_one(
    gman: Driver, certificates: Certificates, case: tuple[str, str, str, str]
) -> None:
    certificate, ca, host, says = case
    with FakeServer(context=certificates.context(certificate)) as fake:
        secure(gman, certificates, ca=ca)
        use(gman, f"{host}:{fake.port}")
        assert at_once(gman, "gman_do_background", "f", "secret") is None
        state = server(gman)
        assert says in state["last_error"]
        assert (state["failures"]["tls"], state["breaker_openings"], state["jobs_sent"]) == (1, 1, 0)
        # and gman_wake cannot connect either
        until(lambda: gman.integer("gman_wake", "f", "x") == 0 and server(gman)["failures"]["tls"] > 1)
        assert stats(gman)["wakes"]["sent"] == 0
        assert fake.jobs == []


def test_server_with_a_new_certificate_is_trusted_again(gman: Driver, certificates: Certificates) -> None:
    """The probe goes through TLS, too: a server that gets its right certificate is used again."""
    with FakeServer(context=certificates.context("expired")) as fake:
        secure(gman, certificates)
        configure(gman, breaker_retry_ms=20)
        use(gman, fake.address)
        until(lambda: submit(gman) is None and server(gman)["failures"]["tls"] >= 2)
        assert "expired" in server(gman)["last_error"]
        fake.context = certificates.context()
        until(lambda: gman.call("gman_do_background", "f", "x"))
        assert server(gman)["last_error"] is None


def test_client_certificate(gman: Driver, certificates: Certificates) -> None:
    with FakeServer(context=certificates.context(client_ca="ca")) as fake:
        use(gman, fake.address)
        configure(gman, breaker_retry_ms=20)
        secure(gman, certificates)
        # A server that refuses a certificate closes at once, so that its alert does not always get here.
        until(
            lambda: (
                gman.call("gman_do_background", "f", "x") is None
                and "certificate required" in str(server(gman)["last_error"])
            )
        )
        secure(gman, certificates, client="stranger")
        until(
            lambda: (
                gman.call("gman_do_background", "f", "x") is None
                and "unknown ca" in str(server(gman)["last_error"])
            )
        )
        secure(gman, certificates, client="client")
        until(lambda: gman.call("gman_do_background", "f", "x"))
        assert [job[3] for job in fake.jobs] == [b"x"]


def test_many_loads_leak_nothing(gman: Driver, certificates: Certificates, tls_fake: FakeServer) -> None:
    """OpenSSL itself must stay; everything else is freed. LeakSanitizer checks when the driver ends."""

    def descriptors() -> int:
        return int(gman.ask("fds"))

    before = descriptors()
    for _ in range(30):
        secure(gman, certificates)
        use(gman, tls_fake.address)
        assert gman.call("gman_do_background", "f", "x")
        gman.integer("gman_wake", "f", "x")
        gman.unload()
        assert descriptors() == before
        gman.load()
        patient(gman)


def test_openssl_is_mapped_only_when_it_is_wanted() -> None:
    listing = subprocess.run(
        ["readelf", "-d", BUILD / "libgearman_mysql_udf.so"], check=True, capture_output=True, text=True
    ).stdout
    assert "ssl" not in listing
    assert "crypto" not in listing
