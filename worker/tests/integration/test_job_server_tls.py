"""The worker and a job server that speaks TLS only."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import yaml
from conftest import SOURCES, WORK_COMPLETE, Gearmand, Redis, Worker, until
from tls_front import Certificates, TlsFront


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Site(NamedTuple):
    """A gearmand, in front of it one that speaks TLS and asks for a certificate of the authority `ca`, and a Redis."""

    gearmand: Gearmand
    front: TlsFront
    redis: Redis
    certificates: Certificates

    def config(self, client: str = "client", ca: str = "ca") -> dict[str, Any]:
        path = self.certificates.path
        return {
            "job_servers": [self.front.address], "redis": {"port": self.redis.port}, "worker": {"io_timeout": 20.0, "reconnect_max": 0.2},
            "job_server_tls": {"ca": path(f"{ca}.pem"), "cert": path(f"{client}.pem"), "key": path(f"{client}.key")},
        }


@pytest.fixture
def site(certificates: Certificates, gearmand: Gearmand, redis_server: Redis) -> Iterator[Site]:
    front = TlsFront(certificates.context(client_ca="ca"), ("127.0.0.1", gearmand.port))
    yield Site(gearmand, front, redis_server, certificates)
    front.stop()


def selftest(settings: dict[str, Any], directory: pathlib.Path) -> tuple[int, str]:
    file = directory / "selftest.yml"
    file.write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        [sys.executable, "-m", "gearsync", "selftest", "--config", str(file)], env={**os.environ, "PYTHONPATH": str(SOURCES)},
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def test_jobs_are_done_over_tls(site: Site, start_worker: Callable[..., Worker], tmp_path: pathlib.Path) -> None:
    settings = site.config()
    start_worker(settings)
    site.gearmand.submit("syncToRedis", b'{"name":"hello"}')
    until(lambda: site.redis.client.get("name"), b"hello")
    # Many records each way, and a thousand jobs in hand.
    large = bytes(range(256)) * 4096
    assert site.gearmand.do("reverse", large)[-1] == (WORK_COMPLETE, large[::-1])
    site.gearmand.submit("syncToRedis", *(b'{"key%d":"%s"}' % (number, b"x" * 1000) for number in range(5000)))
    until(site.redis.client.dbsize, 5001)
    until(lambda: site.gearmand.queue("syncToRedis")[:2], (0, 0))
    assert site.front.accepted == 1
    status, text = selftest(settings, tmp_path)
    assert (status, "OK 1." in text) == (0, True), text


def test_a_job_server_that_was_killed_is_found_again(site: Site, start_worker: Callable[..., Worker]) -> None:
    start_worker(site.config())
    until(lambda: site.gearmand.queue("syncToRedis")[2], 1)
    for number in range(3):
        site.gearmand.stop()
        site.gearmand.start()
        site.gearmand.submit("syncToRedis", b'{"again":"%d"}' % number)
        until(lambda number=number: site.redis.client.get("again"), b"%d" % number)


def test_who_is_not_who_it_should_be_gets_nothing(site: Site, start_worker: Callable[..., Worker], tmp_path: pathlib.Path) -> None:
    worker = start_worker(site.config(ca="other-ca"))
    until(lambda: "certificate verify failed" in worker.log.read_text())
    assert site.gearmand.queue("syncToRedis")[2] == 0
    for settings, words in (
        (site.config(ca="other-ca"), "certificate verify failed"),
        (site.config(client="stranger"), "127.0.0.1"),
        ({**site.config(), "job_server_tls": None}, "127.0.0.1"),
        ({**site.config(), "job_servers": [f"127.0.0.1:{site.gearmand.port}"]}, "127.0.0.1"),
    ):
        status, text = selftest(settings, tmp_path)
        assert status == 1, text
        assert "FAILED: job server" in text
        assert words in text


def test_a_name_that_is_not_in_the_certificate_is_refused(site: Site, tmp_path: pathlib.Path) -> None:
    elsewhere = TlsFront(site.certificates.context("elsewhere"), ("127.0.0.1", site.gearmand.port))
    try:
        status, text = selftest(site._replace(front=elsewhere).config(), tmp_path)
    finally:
        elsewhere.stop()
    assert status == 1
    assert "IP address mismatch" in text


@pytest.mark.parametrize(("change", "words"), [
    ({"ca": "absent.pem"}, "absent.pem"),
    ({"cert": "ca.pem"}, "client.key"),
    ({"key": "client.pem"}, "client.pem"),
    ({"key": "encrypted.key"}, "encrypted.key"),
])  # fmt: skip
def test_a_file_of_no_use_is_named(site: Site, tmp_path: pathlib.Path, change: dict[str, str], words: str) -> None:
    site.certificates.openssl("ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "encrypted.key")
    settings = site.config()
    settings["job_server_tls"].update({name: site.certificates.path(file) for name, file in change.items()})
    status, text = selftest(settings, tmp_path)
    assert status == 1
    assert words in text


def test_renewed_files_are_taken_without_a_restart(site: Site, start_worker: Callable[..., Worker], tmp_path: pathlib.Path) -> None:
    settings = site.config()
    own = {name: tmp_path / name for name in ("cert", "key")}
    for name, file in own.items():
        file.write_text(pathlib.Path(site.certificates.path(f"stranger.{'pem' if name == 'cert' else 'key'}")).read_text())
        settings["job_server_tls"][name] = str(file)
    worker = start_worker(settings)
    until(lambda: "is lost" in worker.log.read_text())
    for name, file in own.items():
        file.write_text(pathlib.Path(site.certificates.path(f"client.{'pem' if name == 'cert' else 'key'}")).read_text())
    until(lambda: site.gearmand.queue("syncToRedis")[2], 1)
