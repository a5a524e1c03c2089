# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds of a library, and what the server has of it."""

import os

import pytest
from harness.modules import GEARMAN_FUNCTIONS, GEARMAN_LIBRARY, JSON_LIBRARY
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


@pytest.fixture
def another_build(modules, libraries, tmp_path):
    """Exchange the Gearman library for another build of it."""
    number = iter(range(100))

    def exchange(**options):
        # An ELF file may carry anything behind its end.
        longer = tmp_path / GEARMAN_LIBRARY
        longer.write_bytes((libraries / GEARMAN_LIBRARY).read_bytes() + b"build %d" % next(number))
        return modules.run(
            "mysql_udf", soname=GEARMAN_LIBRARY, src=str(longer), functions=GEARMAN_FUNCTIONS, **options
        )

    return exchange
