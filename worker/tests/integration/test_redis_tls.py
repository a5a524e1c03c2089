# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's and its commands' connections to Redis, Sentinel and a cluster over TLS."""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from harness.commands import Commands
from harness.outbox_database import OutboxDatabase
from harness.recording_proxy import RecordingProxy
from harness.redis_cluster import Cluster
from harness.redis_server import RedisServer
from harness.sentinel import Sentinel
from harness.tls import Certificates
from harness.waiting import until
from harness.worker import Worker, worker_config

PLANTED, WORD, SENTINEL_WORD = "planted-value-5527", "redis-Word.1", "sentinel-Word.1"
TABLE: dict[str, Any] = {
    "table": "shop.item",
    "delivery": "durable",
    "columns": ["id", "name"],
    "write": [{"type": "hash", "key": "item:{id}"}],
}
ACCOUNT = {"username": "worker", "password": WORD}
SENTINEL_ACCOUNT = {"sentinel_username": "worker", "sentinel_password": SENTINEL_WORD}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def module_tls_redis(certificates: Certificates) -> Iterator[RedisServer]:
    with RedisServer(certificates=certificates) as server:
        yield server


@pytest.fixture
def tls_redis(module_tls_redis: RedisServer) -> RedisServer:
    """A Redis that speaks TLS alone and wants a certificate of its clients, with an account."""
    module_tls_redis.reset()
    return with_account(module_tls_redis)


def with_account(server: RedisServer) -> RedisServer:
    server.client.acl_setuser(
        "worker", enabled=True, passwords=[f"+{WORD}"], keys=["*"], categories=["+@all"]
    )
    return server


class Site(NamedTuple):
    """What a worker needs beside Redis."""

    certificates: Certificates
    database: OutboxDatabase
    start_worker: Callable[..., Worker]
    directory: pathlib.Path

    def tls(self, ca: str = "ca", client: str = "client", **more: str) -> dict[str, str]:
        path = self.certificates.path
        return {"ca": path(f"{ca}.pem"), "cert": path(f"{client}.pem"), "key": path(f"{client}.key"), **more}

    def config(self, redis: dict[str, Any], **worker: Any) -> dict[str, Any]:
        return worker_config(redis, [TABLE], self.database.account, **worker)

    def selftest(self, redis: dict[str, Any], **worker: Any) -> list[str]:
        """What `selftest` says about Redis and Sentinels."""
        output = Commands(self.config(redis, **worker), self.directory).run("selftest")[1]
        return [line for line in output.splitlines() if ": Redis " in line or ": Sentinel " in line]

    def run_everything(self, redis: dict[str, Any], client: Any) -> None:
        """The drain and commands, all of which send or read the planted value."""
        self.start_worker(self.config(redis))
        self.database.execute(f"INSERT INTO shop.item VALUES (1, '{PLANTED}')")
        until(lambda: client.hget("item:1", "name"), PLANTED.encode())
        until(lambda: self.database.waiting, 0)
        commands = Commands(self.config(redis), self.directory)
        assert commands.verify()[0] == 0
        client.delete("item:1")
        commands.done("resync")
        until(lambda: client.hget("item:1", "name"), PLANTED.encode())


@pytest.fixture
def site(
    certificates: Certificates,
    database: OutboxDatabase,
    start_worker: Callable[..., Worker],
    tmp_path: pathlib.Path,
) -> Site:
    database.execute("CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40)) ENGINE=InnoDB")
    database.sync_table(**TABLE)
    return Site(certificates, database, start_worker, tmp_path)


def test_with_tls_no_value_and_no_password_crosses_the_network_in_plain_text(
    site: Site, tls_redis: RedisServer
) -> None:
    with RecordingProxy(tls_redis.port) as network:
        redis = {"port": network.port, **ACCOUNT, "tls": site.tls()}
        site.run_everything(redis, tls_redis.client)
        (line,) = site.selftest(redis)
        assert line.startswith("ok: Redis")
        assert ", verified" in line
        assert network.accepted > 3
        for text in (PLANTED, WORD, "gearsync"):
            assert text.encode() not in network.seen


def test_without_tls_all_of_it_does(site: Site, redis_server: RedisServer) -> None:
    with_account(redis_server)
    with RecordingProxy(redis_server.port) as network:
        redis = {"port": network.port, **ACCOUNT}
        site.run_everything(redis, redis_server.client)
        assert "plain text within this host" in site.selftest(redis)[0]
        for text in (PLANTED, WORD, "gearsync"):
            assert text.encode() in network.seen


@pytest.mark.parametrize(
    ("tls", "message"),
    [
        ({"ca": "other-ca"}, "certificate verify failed"),
        ({"client": "stranger"}, ""),
        ({"server_name": "elsewhere.example"}, "Hostname mismatch"),
        ({"client": "absent"}, "absent.pem cannot be used"),
    ],
)
def test_a_server_or_worker_that_does_not_show_who_it_is_is_refused(
    site: Site, tls_redis: RedisServer, tls: dict[str, str], message: str
) -> None:
    with RecordingProxy(tls_redis.port) as network:
        (line,) = site.selftest({"port": network.port, **ACCOUNT, "tls": site.tls(**tls)})
        assert line.startswith("FAILED: Redis")
        assert message in line
        assert WORD.encode() not in network.seen


def test_a_worker_without_a_certificate_is_refused(site: Site, tls_redis: RedisServer) -> None:
    ca = {"ca": site.certificates.path("ca.pem")}
    for redis in ({"tls": ca}, {"tls": True, "tls_ca": ca["ca"]}):
        (line,) = site.selftest({"port": tls_redis.port, **ACCOUNT, **redis})
        assert line.startswith("FAILED: Redis")
        assert "certificate verify failed" not in line


@pytest.mark.parametrize(
    ("shown", "message"), [("expired", "certificate has expired"), ("elsewhere", "IP address mismatch")]
)
def test_a_certificate_that_is_not_valid_here_is_refused(site: Site, shown: str, message: str) -> None:
    with (
        RedisServer(certificates=site.certificates, shown=shown) as server,
        RecordingProxy(server.port) as network,
    ):
        redis = {"port": network.port, **ACCOUNT, "tls": site.tls()}
        (line,) = site.selftest(redis)
        assert line.startswith("FAILED: Redis")
        assert message in line
        assert WORD.encode() not in network.seen


def test_a_certificate_for_another_name_is_taken_when_that_is_the_name_of_the_settings(site: Site) -> None:
    with RedisServer(certificates=site.certificates, shown="elsewhere") as server:
        tls = site.tls(server_name="elsewhere.example", minimum_version="TLSv1.3")
        (line,) = site.selftest({"port": with_account(server).port, **ACCOUNT, "tls": tls})
        assert line.startswith("ok: Redis")
        assert "TLSv1.3, verified" in line


def test_a_server_without_tls_gets_no_password(site: Site, redis_server: RedisServer) -> None:
    with RecordingProxy(redis_server.port) as network:
        # It waits for the end of a line.
        (line,) = site.selftest({"port": network.port, **ACCOUNT, "tls": site.tls()}, io_timeout=2.0)
        assert line.startswith("FAILED: Redis")
        assert network.accepted == 1
        assert WORD.encode() not in network.sent


@pytest.fixture
def guarded_sentinel(certificates: Certificates) -> Iterator[Sentinel]:
    """A Sentinel with TLS and accounts of its own, of a Redis with TLS and another password."""
    user = f"user worker on >{SENTINEL_WORD} allchannels +@all"
    with (
        RedisServer(certificates=certificates) as master,
        with_account(master).replica(),
        Sentinel(master, user, password="another-Word.1") as sentinel,
    ):
        yield sentinel


def test_sentinels_have_tls_and_a_user_and_password_of_their_own(
    site: Site, guarded_sentinel: Sentinel
) -> None:
    with RecordingProxy(guarded_sentinel.port) as network:
        redis = {
            "sentinels": [f"127.0.0.1:{network.port}"],
            "sentinel_master": "shop",
            "sentinel_tls": site.tls(),
            **SENTINEL_ACCOUNT,
            "tls": site.tls(),
            **ACCOUNT,
        }
        site.run_everything(redis, guarded_sentinel.master.client)
        for line in site.selftest(redis):
            assert line.startswith("ok: ")
            assert ", verified" in line
        for text in (SENTINEL_WORD, WORD, "shop"):
            assert text.encode() not in network.seen
        for wrong in (
            {"sentinel_password": "wrong"},
            {"sentinel_tls": site.tls("other-ca")},
            {"sentinel_tls": None},
        ):
            of_redis, of_sentinel = site.selftest({**redis, **wrong})
            assert of_redis.startswith("FAILED: Redis")
            assert of_sentinel.startswith("FAILED: Sentinel")


def test_the_nodes_of_a_cluster_are_all_spoken_to_with_tls(site: Site) -> None:
    with Cluster(site.certificates) as cluster:
        for node in cluster.nodes:
            with_account(node)
        # They listen for nothing else.
        redis = {"cluster": cluster.addresses, **ACCOUNT, "tls": site.tls()}
        site.run_everything(redis, cluster.client)
        (line,) = site.selftest(redis)
        assert line.startswith("ok: Redis")
        assert ", verified" in line
        for wrong in ("other-ca", None):
            (line,) = site.selftest({**redis, "tls": site.tls(wrong) if wrong else None})
            assert line.startswith("FAILED: Redis")


def test_renewed_certificates_lose_no_change_and_need_no_restart(site: Site, tls_redis: RedisServer) -> None:
    own = {name: site.directory / name for name in ("ca", "cert", "key")}
    for name, file in own.items():
        shutil.copy(site.tls()[name], file)
    tls = {name: str(file) for name, file in own.items()}
    redis = {"port": tls_redis.port, **ACCOUNT, "tls": tls}
    worker = site.start_worker(site.config(redis))

    def write(first: int) -> None:
        for number in range(first, first + 300):
            site.database.execute(f"INSERT INTO shop.item VALUES ({number}, '{PLANTED}')")

    write(1)
    site.certificates.issue("renewed", "IP:127.0.0.1", authority="other-ca")
    path = site.certificates.path
    # Redis takes both authorities of clients from now on, and shows a certificate of the new one.
    both = site.directory / "both.pem"
    both.write_text(own["ca"].read_text() + pathlib.Path(path("other-ca.pem")).read_text())
    renewed = ("tls-cert-file", path("renewed.pem"), "tls-key-file", path("renewed.key"))
    # Over one connection: no new one of this client is of use with the new certificate.
    with tls_redis.client.pipeline(transaction=False) as pipeline:
        pipeline.execute_command("CONFIG", "SET", "tls-ca-cert-file", str(both), *renewed)
        pipeline.execute_command("CLIENT", "KILL", "USER", "worker")
        former = pipeline.execute_command("CONFIG", "GET", "tls-*").execute()[-1]
    assert str(both).encode() in former.values()
    write(301)
    worker.says("certificate verify failed")
    shutil.copy(both, own["ca"])
    shutil.copy(path("stranger.pem"), own["cert"])
    shutil.copy(path("stranger.key"), own["key"])
    write(601)
    until(lambda: site.database.waiting, 0)
    assert Commands(site.config(redis), site.directory).verify()[0] == 0
    assert worker.running
