"""What a failed connection to MySQL leaves behind."""

from __future__ import annotations

import gc
import os
import pathlib
from collections.abc import Iterator

import pytest
from gearsync.config import MySQLSettings
from gearsync.database import Database, DatabaseUnavailable
from harness.ports import free_port


@pytest.fixture
def no_collector() -> Iterator[None]:
    """A drain's collector comes once in 100,000 objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def objects(kind: str) -> int:
    return sum(type(each).__name__ == kind for each in gc.get_objects())


# Of a unix socket PyMySQL leaves the closing to its end.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("over", ["tcp", "socket"])
def test_a_failed_connection_leaves_no_descriptor_and_no_tls_context(over: str, tmp_path: pathlib.Path) -> None:
    where = {"host": "127.0.0.1", "port": free_port()} if over == "tcp" else {"unix_socket": str(tmp_path / "socket")}
    database = Database(MySQLSettings(user="nobody", **where), 5.0)  # type: ignore[arg-type]

    def attempt() -> None:
        with pytest.raises(DatabaseUnavailable):
            database.rows("SELECT 1")

    attempt()
    descriptors, contexts, connections = len(os.listdir("/proc/self/fd")), objects("SSLContext"), objects("Connection")
    for _ in range(20):
        attempt()
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert objects("SSLContext") <= contexts
    assert objects("Connection") <= connections
