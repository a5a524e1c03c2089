# SPDX-License-Identifier: GPL-2.0-or-later
"""TLS to the job servers: against a real gearmand behind TLS, and against servers with a wrong
certificate or that misbehave.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer
from gman_calls import BOUND, at_once, configure, patient, server, stats, submit, use, wake, wakes_at_once
from harness.gearmand import Gearmand
from harness.ports import free_port
from harness.tls import Certificates, TlsFront
from harness.waiting import until
from sanitized import BUILD, Driver, Refused, RowError, Value
from udf_servers import HOST


def secure(gman: Driver, certificates: Certificates, ca: str = "ca", client: str = "") -> None:
    """Enable TLS."""
    configure(gman, tls_ca=certificates.path(f"{ca}.pem"))
    if client:
        configure(
            gman, tls_cert=certificates.path(f"{client}.pem"), tls_key=certificates.path(f"{client}.key")
        )
    assert gman.call("gman_configure", "tls", "on") == b"on"


def hurry(gman: Driver) -> None:
    """For servers that hang."""
    configure(gman, connect_timeout_ms="default", io_timeout_ms="default", breaker_retry_ms=20)


@pytest.fixture
def fake(certificates: Certificates) -> Iterator[FakeServer]:
    with FakeServer(context=certificates.context()) as one:
        yield one


@pytest.fixture
def front(certificates: Certificates, gearmand: Gearmand) -> Iterator[TlsFront]:
    one = TlsFront(certificates.context(), (gearmand.host, gearmand.port))
    yield one
    one.stop()


# --- all functions over TLS ---


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


def test_name_is_sent_and_checked(gman: Driver, certificates: Certificates, fake: FakeServer) -> None:
    seen: list[str | None] = []
    assert fake.context
    fake.context.sni_callback = lambda _socket, name, _context: seen.append(name)
    secure(gman, certificates)
    use(gman, f"localhost:{fake.port}")
    assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"
    assert seen == ["localhost"]


def test_ipv6(gman: Driver, certificates: Certificates) -> None:
    with FakeServer(host="::1", context=certificates.context()) as fake:
        secure(gman, certificates)
        use(gman, fake.address)
        assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"


# --- servers that must not be trusted ---


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


# --- nothing is sent in plain text, and no call waits for too long ---


@pytest.mark.parametrize("mode", ["good", "silent", "garbage"])
def test_plain_server_gets_nothing(gman: Driver, certificates: Certificates, mode: str) -> None:
    with FakeServer(mode) as fake:
        secure(gman, certificates)
        hurry(gman)
        use(gman, fake.address)
        assert at_once(gman, "gman_do_background", "f", "secret") is None
        gman.integer("gman_wake", "f", "secret")
        assert fake.jobs == []
        assert b"secret" not in fake.foreign
        assert server(gman)["failures"]["tls"] == 1


def test_real_gearmand_without_tls(gman: Driver, certificates: Certificates, gearmand: Gearmand) -> None:
    secure(gman, certificates)
    hurry(gman)
    use(gman, gearmand.address)
    assert at_once(gman, "gman_do", "echo", "secret") is None
    assert server(gman)["failures"]["tls"] == 1


def test_server_that_sends_garbage_at_once(gman: Driver, certificates: Certificates) -> None:
    listener = socket.create_server(("127.0.0.1", free_port()))
    secure(gman, certificates)
    use(gman, f"127.0.0.1:{listener.getsockname()[1]}")
    with listener:
        gman.process.stdin.write("call gman_do_background S:0:1::66 S:0:1::78\n")  # type: ignore[union-attr]
        gman.process.stdin.flush()  # type: ignore[union-attr]
        listener.settimeout(180)
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
            assert gman.process.stdout.readline() == "null\n"  # type: ignore[union-attr]
    assert server(gman)["failures"]["tls"] == 1
    assert "TLS: wrong version number" in server(gman)["last_error"]


def test_hanging_handshake_costs_one_timeout(gman: Driver, certificates: Certificates) -> None:
    with FakeServer("silent") as fake:
        secure(gman, certificates)
        hurry(gman)
        use(gman, fake.address)
        began = time.monotonic()
        assert at_once(gman, "gman_do_background", "f", "x") is None
        assert time.monotonic() - began >= 0.1
        assert "no answer to the handshake" in server(gman)["last_error"]
        until(
            lambda: (
                (gman.storm(4, 0.1, "gman_do_background", "f", "x"), server(gman)["failures"]["tls"])[1] > 2
            )
        )
        # No call waits until a probe is given up.
        patient(gman)
        calls, nulls, worst, _ = gman.storm(4, 0.5, "gman_do_background", "f", "x")
        assert calls == nulls
        assert worst < BOUND * 1e6
        assert (server(gman)["breaker_openings"], server(gman)["jobs_sent"]) == (1, 0)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("silent", "timeout"),
        ("deaf", "timeout"),
        ("close", "closed"),
        ("half", "closed"),
        ("garbage", "protocol"),
        ("error", "rejected"),
        ("huge", "protocol"),
        ("flood", "protocol"),
    ],
)
def test_misbehaviour_inside_of_tls(
    gman: Driver, certificates: Certificates, fake: FakeServer, mode: str, kind: str
) -> None:
    fake.mode = mode
    secure(gman, certificates)
    configure(gman, breaker_retry_ms=20)
    if kind == "timeout":
        configure(gman, io_timeout_ms=250)
    use(gman, fake.address)
    assert at_once(gman, "gman_do_background", "f", "x" * 200_000) is None
    assert server(gman)["failures"][kind] == 1
    patient(gman)
    fake.mode = "good"
    until(lambda: submit(gman))


@pytest.mark.parametrize("mode", ["slow", "drip"])
def test_slow_but_in_time(gman: Driver, certificates: Certificates, fake: FakeServer, mode: str) -> None:
    fake.mode = mode
    secure(gman, certificates)
    use(gman, fake.address)
    assert gman.call("gman_do_background", "f", "x") == b"H:fake:1"


@pytest.mark.parametrize("mode", ["good", "silent", "deaf", "close", "garbage", "flood"])
def test_wake_never_waits(gman: Driver, certificates: Certificates, fake: FakeServer, mode: str) -> None:
    fake.mode = mode
    secure(gman, certificates)
    use(gman, fake.address)
    configure(gman, wake_interval_ms=1)
    wakes_at_once(gman, 300)
    if mode in ("silent", "deaf"):
        configure(gman, io_timeout_ms=1000)

    def dropped() -> bool:
        gman.integer("gman_wake", "f", "x")
        counts = stats(gman)["wakes"]
        return counts["sent"] > 0 and (mode in ("good", "garbage") or counts["dropped"] > 0)

    until(dropped)
    if mode == "good":
        until(lambda: len(fake.jobs) == stats(gman)["wakes"]["sent"])
        assert set(fake.jobs) == {(18, b"f", b"x", b"")}


def test_wake_does_not_wait_for_a_hanging_handshake(gman: Driver, certificates: Certificates) -> None:
    with FakeServer("silent") as fake:
        secure(gman, certificates)
        use(gman, fake.address)
        wakes_at_once(gman, 200)
    assert stats(gman)["wakes"]["sent"] == 0


def test_kept_connection_that_the_server_has_closed(
    gman: Driver, certificates: Certificates, fake: FakeServer
) -> None:
    secure(gman, certificates)
    use(gman, fake.address)
    assert gman.call("gman_do_background", "f", "1")
    for n in range(2, 6):
        fake.hang_up()
        assert gman.call("gman_do_background", "f", n), n
    assert server(gman)["stale_connections"] == 4
    assert server(gman)["breaker_openings"] == 0


def test_probe_from_before_tls_is_not_used_after(gman: Driver, certificates: Certificates) -> None:
    """A probe in plain text is answered after TLS was enabled: nothing may be sent over that connection."""
    with FakeServer("close") as fake:
        use(gman, fake.address)
        configure(gman, breaker_retry_ms=10)
        assert gman.call("gman_do_background", "f", "plain") is None
        fake.mode = "late"
        accepted = fake.accepted
        until(lambda: (gman.call("gman_do_background", "f", "plain"), fake.accepted > accepted)[1])
        secure(gman, certificates)
        before = len(fake.jobs)
        fake.release()
        for _ in range(200):
            assert gman.call("gman_do_background", "f", "secret") is None
            time.sleep(0.001)
        assert len(fake.jobs) == before


# --- the settings ---


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
        ("tls_ca", "ca.pem", "tls_ca must be an absolute path"),
        ("tls_key", "/" + "x" * 255, "tls_key must be an absolute path"),
        ("tls_cert", "/a\0b", "tls_cert must be an absolute path"),
    ],
)
def test_wrong_settings(gman: Driver, name: str, value: str | int, says: str) -> None:
    with pytest.raises(Refused) as refused:
        gman.call("gman_configure", Value(name, constant=True), Value(value, constant=True))
    assert says in str(refused.value)
    with pytest.raises(RowError):
        gman.call("gman_configure", name, value)


def test_settings_are_reported(gman: Driver, certificates: Certificates) -> None:
    assert {k: v for k, v in stats(gman)["settings"].items() if k.startswith("tls")} == {
        "tls": "off",
        "tls_ca": "",
        "tls_cert": "",
        "tls_key": "",
    }
    secure(gman, certificates, client="client")
    assert stats(gman)["settings"]["tls_key"] == certificates.path("client.key")
    for name in ("tls", "tls_ca", "tls_cert", "tls_key"):
        gman.call("gman_configure", name, "default")
    assert {k: v for k, v in stats(gman)["settings"].items() if k.startswith("tls")} == {
        "tls": "off",
        "tls_ca": "",
        "tls_cert": "",
        "tls_key": "",
    }


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
        # When the files are repaired, TLS works without another call.
        for name in ("tls_cert", "tls_key"):
            gman.call("gman_configure", name, "default")
        gman.call("gman_configure", "tls_ca", certificates.path("ca.pem"))
        use(gman, secured.address)
        assert gman.call("gman_do_background", "f", "x")


def test_unusable_change_keeps_the_working_configuration(
    gman: Driver, certificates: Certificates, fake: FakeServer
) -> None:
    secure(gman, certificates)
    use(gman, fake.address)
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


def test_many_loads_leak_nothing(gman: Driver, certificates: Certificates, fake: FakeServer) -> None:
    """OpenSSL itself must stay; everything else is freed. LeakSanitizer checks when the driver ends."""

    def descriptors() -> int:
        return int(gman.ask("fds"))

    before = descriptors()
    for _ in range(30):
        secure(gman, certificates)
        use(gman, fake.address)
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
