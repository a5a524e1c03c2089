# SPDX-License-Identifier: GPL-3.0-or-later
"""A server without the schema gearsync, and a table that is declared with durable delivery."""

import pytest
from harness.durable import DECLARATION


@pytest.fixture(autouse=True)
def no_schema(database):
    """Every test begins on a server that has never heard of durable delivery."""
    database.execute("DROP DATABASE IF EXISTS gearsync")
    yield
    database.execute("DROP DATABASE IF EXISTS gearsync")


@pytest.fixture
def table(database, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), note "
        "VARCHAR(200), hidden INT UNIQUE) ENGINE=InnoDB"
    )
    return "shop.t"


@pytest.fixture
def synced(modules, table):
    modules.ok("sync_table", **DECLARATION)
    return table
