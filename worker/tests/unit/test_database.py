"""What a failed connection to MySQL leaves behind."""

from __future__ import annotations

import gc
import os
import pathlib
from collections.abc import Iterator

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable
from harness.outbox_database import OutboxDatabase
from harness.ports import free_port
from harness.tls import Certificates


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A drain's collector comes once in 100,000 objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# Of a unix socket PyMySQL leaves the closing to its end.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("over", ["tcp", "socket"])
def test_a_failed_connection_leaves_no_descriptor_and_no_object(over: str, tmp_path: pathlib.Path) -> None:
    where = {"host": "127.0.0.1", "port": free_port()} if over == "tcp" else {"unix_socket": str(tmp_path / "socket")}
    database = Database(MySQLSettings(user="nobody", **where), 5.0)  # type: ignore[arg-type]

    def attempt() -> None:
        try:
            database.rows("SELECT 1")
        except DatabaseUnavailable:
            return
        pytest.fail("there is a server")

    attempt()
    descriptors, objects = len(os.listdir("/proc/self/fd")), len(gc.get_objects())
    for _ in range(20):
        attempt()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    # Less than one for each attempt.
    assert len(gc.get_objects()) < objects + 20


def test_connections_use_tls_where_there_is_some_and_share_a_context_without_authorities(tmp_path: pathlib.Path) -> None:
    certificates = Certificates(tmp_path)
    server = OutboxDatabase(*(f"--ssl-{option}={certificates.path(file)}" for option, file in (("cert", "server.pem"), ("key", "server.key"))))
    server.execute("CREATE USER someone@'127.0.0.1' IDENTIFIED BY 'word'")
    sessions = [Database(MySQLSettings(user="someone", password="word", host="127.0.0.1", port=server.port), 5.0) for _ in range(2)]
    for session in sessions:
        assert session.rows("SHOW STATUS LIKE 'Ssl_cipher'")[0][1]
    first, second = (session.connection.ctx for session in sessions)
    assert first is second
    assert first.cert_store_stats()["x509_ca"] == 0
    for session in sessions:
        session.close()
    server.remove()
