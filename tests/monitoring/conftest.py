"""A whole pipeline with a worker that shows its metrics, and Debian's Prometheus that reads them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "docs/monitoring"
RULES = MONITORING / "prometheus-rules.yml"
RULES_TEST = MONITORING / "prometheus-rules-test.yml"
DASHBOARD = MONITORING / "grafana-dashboard.json"

DURABLE = {"table": "shop.item", "delivery": "durable", "columns": ["id", "name"], "write": [{"type": "hash", "key": "item:{id}"}]}
DIRECT = {"table": "shop.visit", "delivery": "direct", "function": "countVisits", "columns": ["id", "page"], "write": [{"type": "hash", "key": "visit:{id}"}]}


def _module(name: str, path: str) -> ModuleType:
    """A file of the other tests: their servers are ours too."""
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


sys.path.insert(0, str(ROOT / "tests/integration"))
modules_tests = _module("modules_tests", "tests/integration/conftest.py")
worker_tests = _module("worker_tests", "worker/tests/conftest.py")

# Fixtures of the modules' tests: a database server that loads the functions, built from their sources, and a job server.
database, job_server, modules, libraries = modules_tests.database, modules_tests.job_server, modules_tests.modules, modules_tests.libraries


class Http:
    """A server that answers GET on a port."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **parameters: Any) -> tuple[int, str]:
        """Status and body; status 0 while nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)


class Prometheus(Http):
    """Debian's Prometheus, which reads one worker's metrics every second and evaluates the rules as often."""

    def __init__(self, directory: Path, target: int) -> None:
        super().__init__(worker_tests.free_port())
        config = directory / "prometheus.yml"
        config.write_text(yaml.safe_dump({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": [str(RULES)],
            "scrape_configs": [{"job_name": "gearsync", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}],
        }))
        self.log = directory / "prometheus.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}"],
                stdout=log, stderr=log)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now; fails with Prometheus' own words when it is wrong."""
        status, body = self.get("/api/v1/query", query=expression)
        answer = json.loads(body)
        assert status == 200, f"{expression}: {answer['error']}"
        assert "warnings" not in answer, f"{expression}: {answer['warnings']}"
        result = answer["data"]["result"]
        # A scalar is a pair of its own.
        return [{"metric": {}, "value": result}] if answer["data"]["resultType"] == "scalar" else result

    def alerts(self) -> set[str]:
        """The names of the alerts whose expressions are true, whether or not they have been so for long enough."""
        return {sample["metric"]["alertname"] for sample in self.query("ALERTS")}

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)


class Pipeline:
    """What the tests hold in their hands."""

    def __init__(self, database: Any, job_server: Any, directory: Path) -> None:
        self.database, self.job_server = database, job_server
        self.redis = worker_tests.Redis(directory)
        self.exporter = Http(worker_tests.free_port())
        self.config = {
            "job_servers": [job_server.address], "redis": {"port": self.redis.port}, "mysql": {"user": "root", "unix_socket": database.socket},
            "worker": {"lease": 2.0, "io_timeout": 2.0, "reconnect_max": 0.2, "metrics_listen": f"127.0.0.1:{self.exporter.port}"}, "tables": [DURABLE, DIRECT],
        }
        self.worker = worker_tests.Worker(self.config, directory)
        self.rows = 0

    def write(self, number: int = 20) -> None:
        """New rows in both tables."""
        first, self.rows = self.rows + 1, self.rows + number
        for row in range(first, self.rows + 1):
            self.database.execute(f"INSERT INTO shop.item VALUES ({row}, 'n')", f"INSERT INTO shop.visit VALUES ({row}, 'p')")

    def arrived(self) -> bool:
        return bool(self.redis.client.exists(f"item:{self.rows}", f"visit:{self.rows}") == 2)

    def run(self, *words: str) -> int:
        """A command of the worker's; its exit status."""
        command = [sys.executable, "-m", "gearsync", words[0], "--config", str(self.worker.config), *words[1:]]
        return subprocess.run(command, env=self.worker.environment, capture_output=True, check=False).returncode

    def metrics(self) -> set[str]:
        """The names of all series that the worker shows."""
        return {line.partition("{")[0].partition(" ")[0] for line in self.exporter.get("/metrics")[1].splitlines() if not line.startswith("#")}

    def stop(self) -> None:
        if self.worker.process.poll() is None:
            self.worker.terminate()
        self.redis.client.close()
        if self.redis.process.poll() is None:
            self.redis.stop()


@pytest.fixture(scope="session")
def pipeline(database: Any, job_server: Any, modules: Any, libraries: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """A durable and a direct table whose changes arrive, and the result of a verification that found a difference."""
    library = modules_tests.GEARMAN_LIBRARY
    modules.ok("mysql_udf", soname=library, src=str(libraries / library), functions=modules_tests.GEARMAN_FUNCTIONS)
    modules.ok("gearman_servers", servers=[job_server.address])
    database.execute(
        "CREATE DATABASE shop", "CREATE TABLE shop.item (id INT PRIMARY KEY, name VARCHAR(40))",
        "CREATE TABLE shop.visit (id INT PRIMARY KEY, page VARCHAR(40))")
    for table in (DURABLE, DIRECT):
        modules.ok("sync_table", shards=2, **table)
    found = Pipeline(database, job_server, tmp_path_factory.mktemp("pipeline"))
    try:
        worker_tests.until(lambda: found.exporter.get("/readyz")[0], 200)
        found.write()
        worker_tests.until(found.arrived)
        found.redis.client.delete("item:1")
        assert found.run("verify") == 1
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def prometheus(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus, when it has read the worker's metrics a few times while rows were written."""
    server = Prometheus(tmp_path_factory.mktemp("prometheus"), pipeline.exporter.port)
    try:
        worker_tests.until(lambda: server.get("/-/ready")[0], 200, seconds=30)

        def read() -> bool:
            assert server.process.poll() is None, server.log.read_text()
            pipeline.write(5)
            return bool(server.query('count_over_time(up{job="gearsync"}[1m]) >= 5'))

        worker_tests.until(read, seconds=30)
        yield server
    finally:
        server.stop()
