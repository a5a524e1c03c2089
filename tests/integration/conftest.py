# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the modules for real, against a database server and a job server that the tests start themselves."""

import pytest
from harness.gearmand import Gearmand
from harness.modules import libraries as built
from harness.outbox_database import OutboxDatabase

# The functions' own time-outs are for servers that hang, which the tests in udf/ look at; here a busy machine
# must cost no job.
PATIENT = {
    "connect_timeout_ms": 60_000,
    "io_timeout_ms": 60_000,
    "job_timeout_ms": 600_000,
    "breaker_retry_ms": 10,
}


@pytest.fixture(scope="session")
def libraries():
    """The project's two UDF libraries, built against the headers of the server under test."""
    return built()


@pytest.fixture(scope="session")
def database():
    # Tests of values that are too large for a packet are as true with small ones.
    with OutboxDatabase("--performance-schema=ON", "--max-allowed-packet=16M") as server:
        yield server


@pytest.fixture(scope="session")
def job_server():
    with Gearmand() as server:
        yield server


@pytest.fixture(scope="session")
def modules(database):
    return database.modules


@pytest.fixture
def gearman(database, job_server):
    """The Gearman functions registered, the job server set and empty."""
    database.add_functions(job_server, **PATIENT)
    job_server.jobs()
    return job_server


@pytest.fixture
def schema(database):
    """An empty schema."""
    database.execute("DROP DATABASE IF EXISTS shop", "CREATE DATABASE shop CHARACTER SET utf8mb4")
    yield "shop"
    database.execute("DROP DATABASE shop")


@pytest.fixture
def triggers(database):
    """Ask the server for the triggers of the schema."""

    def look():
        return database.execute(
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT, "
            "DEFINER, SQL_MODE, ACTION_ORDER"
            " FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop' ORDER BY TRIGGER_NAME"
        )

    return look
