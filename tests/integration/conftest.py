"""Run the modules for real, against a database server and a job server that the tests start themselves."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from servers import DatabaseServer, JobServer

ROOT = Path(__file__).resolve().parents[2]
# For tls_front.py.
sys.path.append(str(ROOT / "udf/tests"))
PACKAGE = "ansible_collections.gearsync.mysql_redis.plugins.modules"
GEARMAN_LIBRARY = "libgearman_mysql_udf.so"
JSON_LIBRARY = "lib_mysqludf_json.so"
GEARMAN_FUNCTIONS = [
    *({"name": name} for name in ("gman_do", "gman_do_high", "gman_do_low", "gman_do_background", "gman_do_high_background", "gman_do_low_background",
                                  "gman_servers_set", "gman_configure", "gman_stats", "gman_version")),
    {"name": "gman_wake", "returns": "integer"},
    {"name": "gman_sum", "returns": "integer", "aggregate": True},
]


class Modules:
    """Modules as a task runs them, with the login of the private server."""

    def __init__(self, login):
        self.login = login

    def run(self, name, /, check=False, **arguments):
        """What the module returns, failed or not."""
        arguments = {**self.login, **arguments} if name not in {"gearman_info", "gearman_job"} else arguments
        arguments = {**arguments, "_ansible_check_mode": check, "_ansible_diff": True}
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump({"ANSIBLE_MODULE_ARGS": arguments}, file)
            file.flush()
            done = subprocess.run(
                [sys.executable, "-m", f"{PACKAGE}.{name}", file.name], capture_output=True, text=True, timeout=180,
                env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")}, check=False)
        assert done.stdout.strip().startswith("{"), done.stdout + done.stderr
        return json.loads(done.stdout)

    def ok(self, name, /, check=False, **arguments):
        result = self.run(name, check, **arguments)
        assert not result.get("failed"), result["msg"]
        return result

    def refused(self, name, /, check=False, **arguments):
        result = self.run(name, check, **arguments)
        assert result.get("failed"), result
        return result["msg"]

    def converge(self, name, look, /, **arguments):
        """Check mode says what it would do and does not; a run does it; another one has nothing to do. look: what the server has."""
        before = look()
        predicted = self.ok(name, check=True, **arguments)
        assert predicted["changed"]
        assert look() == before
        result = self.ok(name, **arguments)
        assert result["changed"]
        assert result["queries"] == predicted["queries"]
        assert result["diff"] == predicted["diff"]
        assert result["diff"]["before"] != result["diff"]["after"]
        after = look()
        assert after != before
        for check in (True, False):
            again = self.ok(name, check=check, **arguments)
            assert not again["changed"]
            assert again["queries"] == []
            assert again["diff"]["before"] == again["diff"]["after"]
            assert look() == after
        return result


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """The project's two UDF libraries, built against the headers of the server under test."""
    build = tmp_path_factory.mktemp("udf")
    config = shutil.which("mariadb_config") or shutil.which("mysql_config")
    subprocess.run(["make", "-s", "-C", str(ROOT / "udf"), "all", f"BUILD_DIR={build}", f"MYSQL_CONFIG={config}"], check=True)
    return build


@pytest.fixture(scope="session")
def database():
    server = DatabaseServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def job_server():
    server = JobServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def modules(database):
    return Modules(database.login)


@pytest.fixture
def gearman(database, modules, libraries, job_server):
    """The Gearman functions registered, the job server set and empty."""
    modules.ok("mysql_udf", soname=GEARMAN_LIBRARY, src=str(libraries / GEARMAN_LIBRARY), functions=GEARMAN_FUNCTIONS)
    modules.ok("gearman_servers", servers=[job_server.address])
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
            "SELECT TRIGGER_NAME, EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_STATEMENT, DEFINER, SQL_MODE, ACTION_ORDER"
            " FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = 'shop' ORDER BY TRIGGER_NAME")
    return look
