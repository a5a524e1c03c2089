# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds of a library, and what the server has of it."""

import os

import pytest
from harness.modules import JSON_LIBRARY
from harness.numbered_library import compiled


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Compile a build of the numbered library."""
    directory = tmp_path_factory.mktemp("numbered")

    def build(number, extra=False):
        return str(compiled(directory, number, extra))

    return build


@pytest.fixture
def registered(database):
    """Ask the server which functions of a library it has."""

    def look(soname="numbered.so"):
        rows = database.execute(f"SELECT name, ret, type FROM mysql.func WHERE dl = '{soname}' ORDER BY name")
        file = database.plugin_dir / soname
        return rows, file.read_bytes() if file.exists() else None

    return look


@pytest.fixture(autouse=True)
def clean(modules, schema, database):
    yield
    for soname in ("numbered.so", JSON_LIBRARY):
        modules.ok("mysql_udf", soname=soname, state="absent", force=True, remove_file=True)
    assert [name for name in os.listdir(database.plugin_dir) if name.startswith(".")] == []
