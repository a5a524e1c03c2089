# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker and a job server that speaks TLS only."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from harness.commands import Commands
from harness.gearman_protocol import WORK_COMPLETE
from harness.gearmand import Gearmand
from harness.recording_proxy import RecordingProxy
from harness.redis_server import RedisServer
from harness.tls import Certificates, TlsFront
from harness.waiting import until
from harness.worker import Worker, worker_config


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Site(NamedTuple):
    """A gearmand, a TLS proxy for it that requires a certificate of the authority `ca`, and a Redis."""

    gearmand: Gearmand
    front: TlsFront
    redis: RedisServer
    certificates: Certificates

    def config(self, client: str = "client", ca: str = "ca") -> dict[str, Any]:
        path = self.certificates.path
        return {
            **worker_config(self.redis.port, [], job_server=self.front.address),
            "job_server_tls": {
                "ca": path(f"{ca}.pem"),
                "cert": path(f"{client}.pem"),
                "key": path(f"{client}.key"),
            },
        }


@pytest.fixture
def site(certificates: Certificates, gearmand: Gearmand, redis_server: RedisServer) -> Iterator[Site]:
    front = TlsFront(certificates.context(client_ca="ca"), ("127.0.0.1", gearmand.port))
    yield Site(gearmand, front, redis_server, certificates)
    front.stop()


def selftest(settings: dict[str, Any], directory: pathlib.Path) -> tuple[int, str]:
    return Commands(settings, directory).run("selftest")


def test_jobs_are_done_over_tls(
    site: Site, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    settings = site.config()
    start_worker(settings)
    site.gearmand.submit("syncToRedis", b'{"name":"hello"}')
    until(lambda: site.redis.client.get("name"), b"hello")
    # Many records each way, and a thousand jobs at once.
    large = bytes(range(256)) * 4096
    assert site.gearmand.do("reverse", large)[-1] == (WORK_COMPLETE, large[::-1])
    site.gearmand.submit(
        "syncToRedis", *(b'{"key%d":"%s"}' % (number, b"x" * 1000) for number in range(5000))
    )
    until(site.redis.client.dbsize, 5001)
    until(lambda: site.gearmand.queue("syncToRedis")[:2], (0, 0))
    assert site.front.accepted == 1
    status, text = selftest(settings, tmp_path)
    assert (status, "OK 1." in text) == (0, True), text


@pytest.mark.parametrize("encrypted", [True, False])
def test_a_job_crosses_the_network_in_plain_text_without_tls_alone(
    site: Site, start_worker: Callable[..., Worker], tmp_path: pathlib.Path, encrypted: bool
) -> None:
    planted = b"planted-value-2290"
    server = int(site.front.address.rpartition(":")[2]) if encrypted else site.gearmand.port
    with RecordingProxy(server) as network:
        settings = {**site.config(), "job_servers": [f"127.0.0.1:{network.port}"]}
        if not encrypted:
            del settings["job_server_tls"]
        start_worker(settings)
        site.gearmand.submit("syncToRedis", b'{"name":"%s"}' % planted)
        until(lambda: site.redis.client.get("name"), planted)
        text = selftest(settings, tmp_path)[1]
        assert ("verified" if encrypted else "plain text within this host") in text
        assert (planted in network.seen, b"syncToRedis" in network.seen) == (not encrypted,) * 2


def test_the_worker_reconnects_to_a_job_server_that_was_killed(
    site: Site, start_worker: Callable[..., Worker]
) -> None:
    start_worker(site.config())
    until(lambda: site.gearmand.queue("syncToRedis")[2], 1)
    for number in range(3):
        site.gearmand.stop()
        site.gearmand.start()
        site.gearmand.submit("syncToRedis", b'{"again":"%d"}' % number)
        until(lambda number=number: site.redis.client.get("again"), b"%d" % number)


def test_a_server_or_worker_without_a_valid_certificate_is_refused(
    site: Site, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    worker = start_worker(site.config(ca="other-ca"))
    worker.says("certificate verify failed")
    assert site.gearmand.queue("syncToRedis")[2] == 0
    for settings, message in (
        (site.config(ca="other-ca"), "certificate verify failed"),
        (site.config(client="stranger"), "127.0.0.1"),
        ({**site.config(), "job_server_tls": None}, "127.0.0.1"),
        ({**site.config(), "job_servers": [f"127.0.0.1:{site.gearmand.port}"]}, "127.0.0.1"),
    ):
        status, text = selftest(settings, tmp_path)
        assert status == 1, text
        assert "FAILED: job server" in text
        assert message in text


def test_a_name_that_is_not_in_the_certificate_is_refused(site: Site, tmp_path: pathlib.Path) -> None:
    elsewhere = TlsFront(site.certificates.context("elsewhere"), ("127.0.0.1", site.gearmand.port))
    try:
        status, text = selftest(site._replace(front=elsewhere).config(), tmp_path)
    finally:
        elsewhere.stop()
    assert status == 1
    assert "IP address mismatch" in text


def test_a_certificate_for_another_name_is_taken_when_that_is_the_name_of_the_settings(
    site: Site, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    elsewhere = TlsFront(site.certificates.context("elsewhere"), ("127.0.0.1", site.gearmand.port))
    try:
        settings = site._replace(front=elsewhere).config()
        settings["job_server_tls"].update(server_name="elsewhere.example", minimum_version="TLSv1.3")
        start_worker(settings)
        site.gearmand.submit("syncToRedis", b'{"name":"hello"}')
        until(lambda: site.redis.client.get("name"), b"hello")
        status, text = selftest(settings, tmp_path)
        assert (status, "TLSv1.3, verified" in text) == (0, True), text
        settings["job_server_tls"]["server_name"] = "nowhere.example"
        assert "Hostname mismatch" in selftest(settings, tmp_path)[1]
    finally:
        elsewhere.stop()


def test_an_unusable_file_is_named(site: Site, tmp_path: pathlib.Path) -> None:
    site.certificates.openssl(
        "ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "encrypted.key"
    )
    for name, file, message in (
        ("ca", "absent.pem", "absent.pem"),
        ("cert", "ca.pem", "client.key"),
        ("key", "client.pem", "client.pem"),
        ("key", "encrypted.key", "encrypted.key"),
    ):
        settings = site.config()
        settings["job_server_tls"][name] = site.certificates.path(file)
        status, text = selftest(settings, tmp_path)
        assert status == 1
        assert "FAILED: job server" in text
        assert message in text
        assert "cannot be used" in text or file == "absent.pem"


def test_renewed_files_are_used_without_a_restart(
    site: Site, start_worker: Callable[..., Worker], tmp_path: pathlib.Path
) -> None:
    settings = site.config()
    own = {name: tmp_path / name for name in ("cert", "key")}
    for name, file in own.items():
        file.write_text(
            pathlib.Path(site.certificates.path(f"stranger.{'pem' if name == 'cert' else 'key'}")).read_text()
        )
        settings["job_server_tls"][name] = str(file)
    worker = start_worker(settings)
    worker.says("is unavailable")
    for name, file in own.items():
        file.write_text(
            pathlib.Path(site.certificates.path(f"client.{'pem' if name == 'cert' else 'key'}")).read_text()
        )
    until(lambda: site.gearmand.queue("syncToRedis")[2], 1)
