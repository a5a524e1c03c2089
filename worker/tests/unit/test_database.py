# SPDX-License-Identifier: GPL-3.0-or-later
"""What a failed connection to MySQL raises and leaves behind."""

from __future__ import annotations

import gc
import os
import pathlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from gearsync.declare.configuration import MySQLSettings
from gearsync.servers.mysql import Database
from gearsync.servers.mysql_errors import DatabaseUnavailable
from harness.ports import free_port


@pytest.fixture
def no_collector() -> Iterator[None]:
    """The garbage collector of a drain runs once in 100,000 objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# PyMySQL closes a Unix socket only when the object is collected.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("over", ["tcp", "socket"])
def test_a_failed_connection_leaves_no_descriptor_and_no_object(over: str, tmp_path: pathlib.Path) -> None:
    where = (
        {"host": "127.0.0.1", "port": free_port()}
        if over == "tcp"
        else {"unix_socket": str(tmp_path / "socket")}
    )
    database = Database(MySQLSettings(user="none", **where), 5.0)  # type: ignore[arg-type]

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


def packet(content: bytes) -> bytes:
    return struct.pack("<I", len(content)) + content


@pytest.mark.parametrize(
    "greeting",
    [
        packet(b""),
        packet(b"\x0a"),
        packet(b"\x0a8.4.6\0\1"),
        packet(b"\x0aproxy\0" + bytes(50)),
        packet(b"\xff\x15"),
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
def test_a_server_that_greets_with_a_malformed_packet_is_unavailable(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            with listener.accept()[0] as connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=greet)
        thread.start()
        host, port = listener.getsockname()
        with pytest.raises(DatabaseUnavailable):
            Database(MySQLSettings(user="none", host=host, port=port), 5.0).rows("SELECT 1")
        thread.join()
