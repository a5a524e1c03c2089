# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles say of the files of TLS before they change anything, by their own tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness.places import ROOT

#: A role's variables of TLS with a key, by what is spoken to.
SETTINGS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "job servers of the worker": lambda cert, key: {
        "worker_job_server_tls": True,
        "worker_job_server_tls_cert_file": cert,
        "worker_job_server_tls_key_file": key,
    },
    "clients of the metrics page": lambda cert, key: {
        "worker_metrics_tls": True,
        "worker_metrics_tls_cert_file": cert,
        "worker_metrics_tls_key_file": key,
    },
    "MySQL": lambda cert, key: {
        "gearsync_worker_mysql": {"host": "db1", "password": "word", "tls": {"cert": cert, "key": key}}
    },
    "Redis": lambda cert, key: {"gearsync_redis": {"host": "cache1", "tls": {"cert": cert, "key": key}}},
    "Sentinel": lambda cert, key: {
        "gearsync_redis": {
            "sentinels": ["cache1"],
            "sentinel_master": "shop",
            "sentinel_tls": {"cert": cert, "key": key},
        }
    },
    "job servers of the functions": lambda cert, key: {
        "mysql_udf_tls": True,
        "mysql_udf_tls_cert_file": cert,
        "mysql_udf_tls_key_file": key,
    },
}


@pytest.fixture
def check(tmp_path: Path) -> Callable[[str, dict[str, Any]], str]:
    """Run a role's check; what it says against the files, empty for nothing."""

    def checked(what: str, variables: dict[str, Any]) -> str:
        role = "mysql_udf" if "functions" in what else "worker"
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        (tmp_path / "inventory.yml").write_text(
            json.dumps({"all": {"hosts": {"one": {**local, **variables}}}})
        )
        task = {"include_role": {"name": f"gearsync.mysql_redis.{role}", "tasks_from": "check_tls"}}
        (tmp_path / "play.yml").write_text(
            json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}])
        )
        program = str(Path(sys.executable).parent / "ansible-playbook")
        done = subprocess.run(
            [program, "-i", str(tmp_path / "inventory.yml"), str(tmp_path / "play.yml")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        )
        return done.stdout + done.stderr if done.returncode else ""

    return checked


@pytest.mark.parametrize("what", SETTINGS)
def test_a_key_may_be_a_link_and_must_not_be_for_everybody_to_read(
    check: Callable[[str, dict[str, Any]], str], tmp_path: Path, what: str
) -> None:
    # As certbot has them: live/NAME/privkey.pem leads to archive/NAME/privkey1.pem.
    names = {name: tmp_path / f"{name}1.pem" for name in ("cert", "key")}
    links = {name: tmp_path / f"{name}.pem" for name in names}
    for name, file in names.items():
        file.write_text("")
        file.chmod(0o400)
        links[name].symlink_to(file.name)
    variables = SETTINGS[what](str(links["cert"]), str(links["key"]))
    assert check(what, variables) == ""
    names["key"].chmod(0o444)
    assert f"{links['key']} on one may be read by everybody" in check(what, variables)
    names["key"].unlink()
    assert f"{links['key']} on one is missing" in check(what, variables)


@pytest.mark.parametrize("what", SETTINGS)
def test_paths_are_absolute_and_a_certificate_has_a_key(
    check: Callable[[str, dict[str, Any]], str], what: str
) -> None:
    assert "absolute paths" in check(what, SETTINGS[what]("cert.pem", "key.pem"))
    assert "both or neither" in check(what, SETTINGS[what]("/etc/cert.pem", ""))


@pytest.mark.parametrize(
    ("option", "value", "passes"),
    [
        ("server_name", "jobs.example.com", True),
        ("server_name", "2001:db8::1", True),
        ("server_name", "jobs.example.com'), ('", False),
        ("server_name", ".example.com", False),
        ("minimum_version", "TLSv1.3", True),
        ("minimum_version", "1.3", False),
    ],
)
def test_the_functions_take_a_name_and_a_version_that_can_be_written_into_sql(
    check: Callable[[str, dict[str, Any]], str], option: str, value: str, passes: bool
) -> None:
    said = check("functions", {"mysql_udf_tls": True, f"mysql_udf_tls_{option}": value})
    assert said == "" if passes else f"mysql_udf_tls_{option}" in said


def test_the_metrics_page_needs_a_certificate_of_its_own(check: Callable[[str, dict[str, Any]], str]) -> None:
    assert "needs worker_metrics_tls_cert_file" in check("metrics", {"worker_metrics_tls": True})
