# SPDX-License-Identifier: GPL-2.0-or-later
"""Fixtures of the libraries' tests: the sanitized driver, a real gearmand with a worker, a database
server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import FakeServer
from gman_calls import patient
from harness.gearmand import Gearmand
from harness.tls import Certificates
from sanitized import Driver
from udf_servers import HOST, Database, OtherDatabase, Session, statements


@pytest.fixture(scope="session")
def database() -> Iterator[Database | OtherDatabase]:
    other = os.environ.get("UDF_TEST_SERVER")
    server = OtherDatabase(other) if other else Database()
    yield server
    server.remove()


@pytest.fixture
def sql(database: Database | OtherDatabase) -> Iterator[Session]:
    """A schema `test`, and both libraries installed."""
    session = Session(database)
    session.all(
        "DROP DATABASE IF EXISTS test; CREATE DATABASE test; USE test; CREATE TABLE numbers (seq int "
        "PRIMARY KEY)"
    )
    session.all("INSERT INTO numbers VALUES " + ",".join(f"({n})" for n in range(1, 1001)))
    for one in statements("uninstall.sql") + statements("install.sql"):
        session.all(one)
    # A busy machine must cost no job.
    session.all("SELECT gman_configure('connect_timeout_ms', 60000), gman_configure('io_timeout_ms', 60000)")
    yield session
    session.all("DROP DATABASE test")
    for one in statements("uninstall.sql"):
        session.all(one)
    session.connection.close()


@pytest.fixture(scope="session")
def gearmand() -> Iterator[Gearmand]:
    with Gearmand(HOST, workers=2) as server:
        yield server


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    # A setting that is a path takes 255 bytes.
    directory: Path = tmp_path_factory.mktemp("tls")
    return Certificates(directory, HOST)


@pytest.fixture
def own_gearmand() -> Iterator[Gearmand]:
    """A gearmand that a test may kill; it has no workers."""
    with Gearmand(HOST) as server:
        yield server


@pytest.fixture
def gman() -> Iterator[Driver]:
    """The Gearman library, freshly loaded: no lists, no connections, and timeouts that are too long to
    fail a slow test.
    """
    driver = Driver("libgearman_mysql_udf.so")
    patient(driver)
    yield driver
    driver.close()


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer() as one:
        yield one


@pytest.fixture
def tls_fake(certificates: Certificates) -> Iterator[FakeServer]:
    """The same behind TLS."""
    with FakeServer(context=certificates.context()) as one:
        yield one


@pytest.fixture(scope="session")
def json_driver() -> Iterator[Driver]:
    driver = Driver("lib_mysqludf_json.so")
    yield driver
    driver.close()
