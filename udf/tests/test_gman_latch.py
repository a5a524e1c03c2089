# SPDX-License-Identifier: GPL-2.0-or-later
"""gman_configure('locked', 'on'): from then on no account changes settings or lists. And what bounds those
that are not locked.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fake_server import FakeServer
from gman_calls import configure, patient, server, stats, submit, use
from harness.tls import Certificates
from harness.waiting import until
from sanitized import Driver, RowError, Value


def refused(gman: Driver, *call: object) -> None:
    with pytest.raises(RowError):
        gman.call(*call)  # type: ignore[arg-type]  # the first one is a name


def test_locked_settings_and_lists_stay_until_the_library_is_loaded_again(
    gman: Driver, fake: FakeServer
) -> None:
    use(gman, fake.address)
    configure(gman, locked="off")
    configure(gman, locked="on")
    before = stats(gman)
    assert before["settings"]["locked"] == "on"
    for name, value in {
        **before["settings"],
        "tls_ca": "/etc/hostname",
        "tls_server_name": "x",
        "locked": "off",
    }.items():
        if name != "locked" or value != "on":
            refused(gman, "gman_configure", name, value)
            refused(gman, "gman_configure", Value(name, constant=True), Value("default", constant=True))
    refused(gman, "gman_configure", "tls", "on")
    for arguments in [("127.0.0.1:1",), ("",), ("127.0.0.1:1", "f"), ("", "f")]:
        refused(gman, "gman_servers_set", *arguments)
    configure(gman, locked="on")
    after = stats(gman)
    assert (after["settings"], after["server_lists"]) == (before["settings"], before["server_lists"])
    assert submit(gman)
    gman.unload()
    gman.load()
    patient(gman)
    use(gman, fake.address)
    assert submit(gman)


def test_a_list_whose_names_are_looked_up_meanwhile_is_not_set(gman: Driver, fake: FakeServer) -> None:
    gman.name(slow="~")
    use(gman, fake.address)
    gman.start("gman_servers_set", "slow.example:4730")
    until(lambda: gman.asked)
    configure(gman, locked="on")
    gman.join()
    assert stats(gman)["server_lists"] == {"": fake.address}


def test_64_lists_at_most(gman: Driver, fake: FakeServer) -> None:
    for number in range(64):
        use(gman, fake.address, function=f"f{number}")
    refused(gman, "gman_servers_set", fake.address, "one more")
    assert len(stats(gman)["server_lists"]) == 64
    use(gman, fake.address, function="f0")
    gman.call("gman_servers_set", "", "f0")
    use(gman, fake.address, function="one more")
    assert len(stats(gman)["server_lists"]) == 64


@pytest.mark.parametrize("name", ["tls_ca", "tls_cert", "tls_key"])
def test_only_regular_files_are_read(
    gman: Driver, certificates: Certificates, fake: FakeServer, tmp_path: Path, name: str
) -> None:
    """Another one may never end, or never be opened: nothing waits, and nothing goes on in plain text."""
    use(gman, fake.address)
    assert submit(gman)  # over a plain connection, which is kept
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    files = {
        kind: certificates.path(f"client.{end}") for kind, end in (("tls_cert", "pem"), ("tls_key", "key"))
    }
    configure(gman, **{"tls_ca": certificates.path("ca.pem"), **files, name: pipe})
    refused(gman, "gman_configure", "tls", "on")
    assert submit(gman) is None
    assert f"TLS: {name}: not a regular file" in server(gman)["last_error"]
    for path in ("/dev/zero", "/dev/ptmx", tmp_path):
        configure(gman, **{name: path})
        refused(gman, "gman_configure", "tls", "on")
    assert submit(gman) is None
    assert len(fake.jobs) == 1


def test_only_gman_configure_reads_files(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    configure(gman, breaker_retry_ms=10, tls_ca=ca)
    refused(gman, "gman_configure", "tls", "on")
    configure(gman, locked="off")
    use(gman, tls_fake.address)
    shutil.copy(certificates.path("ca.pem"), ca)
    for _ in range(20):
        assert submit(gman) is None
    configure(gman, locked="on", tls="on")
    until(lambda: submit(gman))


def test_renewed_certificates_are_read_when_the_settings_are_locked(
    gman: Driver, certificates: Certificates, tls_fake: FakeServer, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    shutil.copy(certificates.path("ca.pem"), ca)
    configure(gman, tls_ca=ca, tls="on", breaker_retry_ms=10)
    use(gman, tls_fake.address)
    configure(gman, locked="on")
    for _ in range(3):
        assert submit(gman)
        configure(gman, tls="on")
    # Nobody can make all writes connect again and again.
    assert server(gman)["connects"] == 1
    shutil.copy(certificates.path("other-ca.pem"), ca)
    configure(gman, tls="on")
    assert submit(gman) is None
    assert "certificate" in server(gman)["last_error"]
