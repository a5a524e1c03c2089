# SPDX-License-Identifier: GPL-3.0-or-later
"""A table for declarations with direct delivery, and what its triggers send."""

import json

import pytest


@pytest.fixture
def table(database, schema):
    database.execute(
        "CREATE TABLE shop.t (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, name VARCHAR(40), city "
        "VARCHAR(40), secret VARCHAR(40) DEFAULT 'never')"
    )
    return "shop.t"


@pytest.fixture
def payloads(job_server):
    """The changes that the triggers have sent since the last look."""

    def sent(function="syncToRedis"):
        return [json.loads(payload) for payload in job_server.jobs(function)]

    return sent
