# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's metrics page over TLS, asked by clients of the tests' own."""

from __future__ import annotations

import pathlib
import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from harness.commands import Commands
from harness.observed import Pipeline
from harness.ports import free_port
from harness.redis_server import RedisServer
from harness.tls import Certificates
from harness.waiting import until
from harness.worker import Worker, worker_config


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Page(NamedTuple):
    """A worker's metrics page, whose files are of the test's own."""

    certificates: Certificates
    directory: pathlib.Path
    config: dict[str, Any]
    port: int
    start: Callable[[], Worker]

    def put(self, shown: str = "server", key: str = "") -> None:
        """Put a certificate and a key into their place, as a renewal does: by a rename each."""
        for name, source in (("cert.pem", f"{shown}.pem"), ("key.pem", f"{key or shown}.key")):
            shutil.copy(self.certificates.path(source), self.directory / "new")
            (self.directory / "new").replace(self.directory / name)

    def set(self, **tls: str) -> None:
        self.config["worker"]["metrics_tls"].update(tls)

    def connect(
        self, client: str = "", ca: str = "ca", version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ) -> ssl.SSLSocket:
        context = ssl.create_default_context(cafile=self.certificates.path(f"{ca}.pem"))
        context.maximum_version = version
        if client:
            path = self.certificates.path
            context.load_cert_chain(path(f"{client}.pem"), path(f"{client}.key"))
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def get(self, path: str, **how: Any) -> str:
        """The beginning of the answer, or the error."""
        try:
            with self.connect(**how) as connection:
                connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                with connection.makefile() as answer:
                    return answer.readline().strip()
        except OSError as error:
            return f"error: {error}"

    def shown(self, ca: str) -> str:
        """The common name of the certificate that it shows, if that is of the authority."""
        try:
            with self.connect(ca=ca) as connection:
                names: Any = (connection.getpeercert() or {})["subject"]
                return str(names[0][0][1])
        except OSError as error:
            return f"error: {error}"


@pytest.fixture
def page(
    certificates: Certificates,
    redis_server: RedisServer,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> Page:
    port = free_port()
    tls = {"cert": str(tmp_path / "cert.pem"), "key": str(tmp_path / "key.pem")}
    listen = f"127.0.0.1:{port}"
    config = worker_config(redis_server.port, [], metrics_listen=listen, metrics_tls=tls)
    page = Page(certificates, tmp_path, config, port, lambda: start_worker(config))
    page.put()
    return page


def plain_answer(port: int) -> bytes:
    """What a client without TLS gets."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        try:
            return connection.recv(100)
        except OSError:
            return b""


def test_all_pages_are_served_over_tls_and_nothing_in_plain_text(page: Page) -> None:
    worker = page.start()
    worker.says(f"metrics at https://127.0.0.1:{page.port}/metrics")
    assert page.get("/metrics").endswith("200 OK")
    until(lambda: page.get("/healthz").endswith("200 OK"))
    # No job server listens.
    assert page.get("/readyz").endswith("503 Service Unavailable")
    assert b"HTTP" not in plain_answer(page.port)
    assert "certificate verify failed" in page.get("/metrics", ca="other-ca")
    assert page.get("/metrics", version=ssl.TLSVersion.TLSv1_2).endswith("200 OK")


def test_a_client_needs_a_certificate_and_a_version_where_they_are_set(page: Page) -> None:
    page.set(ca=page.certificates.path("ca.pem"), minimum_version="TLSv1.3")
    page.start().says("metrics at https")
    assert page.get("/metrics", client="client").endswith("200 OK")
    for wrong in ({}, {"client": "stranger"}, {"client": "client", "version": ssl.TLSVersion.TLSv1_2}):
        answer = page.get("/metrics", **wrong)
        assert "200" not in answer
        assert answer == "" or answer.startswith("error")
    assert page.get("/healthz", client="client").endswith("200 OK")


def test_a_renewed_certificate_is_shown_without_a_restart_and_a_broken_one_never(page: Page) -> None:
    worker = page.start()
    worker.says("metrics at https")
    assert page.shown("ca") == "server"
    page.certificates.issue("renewed", "IP:127.0.0.1", authority="other-ca")
    exporter = worker.children
    # Between the two renames of a renewal the key is another one's.
    page.put("renewed", key="server")
    assert page.shown("ca") == "server"
    worker.says("the metrics page keeps its former certificate")
    (page.directory / "cert.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB")
    assert page.shown("ca") == "server"
    (page.directory / "cert.pem").unlink()
    assert page.shown("ca") == "server"
    worker.says("the metrics page keeps its former certificate", times=3)
    assert page.shown("ca") == "server"
    assert worker.said.count("the metrics page keeps its former certificate") == 3
    page.put("renewed")
    assert page.shown("other-ca") == "renewed"
    worker.says("the metrics page has a renewed certificate")
    assert worker.children == exporter


def test_another_authority_of_clients_is_taken_without_a_restart(page: Page) -> None:
    authority = page.directory / "clients.pem"
    shutil.copy(page.certificates.path("ca.pem"), authority)
    page.set(ca=str(authority))
    page.start().says("metrics at https")
    assert page.get("/healthz", client="client").endswith("200 OK")
    shutil.copy(page.certificates.path("other-ca.pem"), authority)
    assert "200" not in page.get("/healthz", client="client")
    assert page.get("/healthz", client="stranger").endswith("200 OK")


def test_clients_that_are_silent_keep_no_other_waiting(page: Page) -> None:
    page.start().says("metrics at https")
    silent = [socket.create_connection(("127.0.0.1", page.port)) for _ in range(20)]
    half = socket.create_connection(("127.0.0.1", page.port))
    half.sendall(b"\x16\x03\x01")
    try:
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda: answers.append(page.get("/healthz")), daemon=True) for _ in "123"
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert [answer[-6:] for answer in answers] == ["200 OK"] * 3
    finally:
        for connection in (*silent, half):
            connection.close()


@pytest.mark.parametrize(
    ("cert", "key", "message"),
    [
        ("absent.pem", "server.key", "absent.pem cannot be used: No such file"),
        ("server.pem", "client.key", "server.pem with "),
        ("ca.key", "server.key", "ca.key with "),
    ],
)
def test_an_unusable_file_is_an_error_of_the_configuration_and_of_the_selftest(
    page: Page, cert: str, key: str, message: str
) -> None:
    path = page.certificates.path
    page.set(cert=path(cert), key=path(key))
    commands = Commands(page.config, page.directory)
    status, text = commands.run("check-config")
    assert status == 2
    # The line of the file is named.
    assert ": worker.metrics_tls: " in text
    assert f"{commands.path}:" in text
    assert message in text
    assert f"FAILED: metrics 127.0.0.1:{page.port}: " in commands.run("selftest")[1]


def test_an_unusable_file_keeps_no_change_from_redis_and_is_used_once_it_is_there(
    pipeline: Pipeline, certificates: Certificates, tmp_path: pathlib.Path
) -> None:
    key = tmp_path / "key.pem"
    pipeline.config["worker"]["metrics_tls"] = {"cert": certificates.path("server.pem"), "key": str(key)}
    worker = pipeline.start()
    listen = pipeline.config["worker"]["metrics_listen"]
    worker.says(f"cannot serve the metrics on {listen}: {key} cannot be used: No such file")
    pipeline.database.execute("INSERT INTO shop.item VALUES (1, 'a')")
    until(lambda: pipeline.redis.client.exists("item:1"), 1)
    shutil.copy(certificates.path("server.key"), key)
    worker.says(f"metrics at https://{listen}/metrics")
    assert worker.said.count("cannot serve the metrics") == 1


def test_selftest_reports_how_the_page_is_protected(page: Page) -> None:
    def line() -> str:
        output = Commands(page.config, page.directory).run("selftest")[1]
        return next(line for line in output.splitlines() if ": metrics " in line)

    of_page = f"ok: metrics 127.0.0.1:{page.port}: "
    assert line() == f"{of_page}TLSv1.2 or later, of any client"
    page.set(ca=page.certificates.path("ca.pem"), minimum_version="TLSv1.3")
    assert line() == f"{of_page}TLSv1.3 or later, of clients with a certificate"
    page.config["worker"]["metrics_tls"] = None
    assert line() == f"{of_page}plain text within this host"
    page.config["worker"]["metrics_listen"] = "0.0.0.0:9788"
    assert line() == "warning: metrics 0.0.0.0:9788: plain text over a network; set worker.metrics_tls"
