# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles say of the files of TLS before they change anything, by their own tasks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.playbook import LOCAL, run_plays

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


def key_files(directory: Path) -> tuple[str, str]:
    """A certificate and a key as certbot has them: live/NAME/privkey.pem leads to archive/NAME/."""
    directory.mkdir()
    links = []
    for name in ("cert", "key"):
        file, link = directory / f"{name}1.pem", directory / f"{name}.pem"
        file.write_text("")
        file.chmod(0o400)
        link.symlink_to(file.name)
        links.append(str(link))
    return links[0], links[1]


def files(directory: Path) -> dict[str, tuple[str, str, str]]:
    """Certificate, key, and what is reported of them, which may be nothing."""
    good = key_files(directory / "good")
    readable = key_files(directory / "readable")
    (directory / "readable/key1.pem").chmod(0o444)
    missing = key_files(directory / "missing")
    (directory / "missing/key1.pem").unlink()
    return {
        "good": (*good, ""),
        "readable": (*readable, f"{readable[1]} on {{}} may be read by everybody"),
        "missing": (*missing, f"{missing[1]} on {{}} is missing"),
        "relative": ("cert.pem", "key.pem", "absolute paths"),
        "keyless": ("/etc/cert.pem", "", "both or neither"),
    }


def reported(directory: Path, hosts: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, str]:
    """What the check of a role reports on each host, with the role and the host's variables."""
    task = {"include_role": {"name": "gearsync.mysql_redis.{{ role }}", "tasks_from": "check_tls"}}
    inventory = {
        "all": {
            "vars": LOCAL,
            "hosts": {host: {"role": role, **variables} for host, (role, variables) in hosts.items()},
        }
    }
    plays = [{"hosts": "all", "gather_facts": False, "tasks": [task]}]
    done = run_plays(directory, inventory, plays, "--forks", "4")
    failures = re.findall(r"(?ms)^(?:fatal|failed): \[(\w+)\](.*?)(?=^\S|\Z)", done.output)
    texts = {host: " ".join(text.split()) for host, text in failures}
    assert {host for host, failed in done.recap("failed").items() if failed} == set(texts), done.output
    return {host: texts.get(host, "") for host in hosts}


def require(said: dict[str, str], expected: dict[str, str]) -> None:
    """Each host reports what is expected, which may be nothing."""
    for host, message in expected.items():
        assert message in said[host] if message else said[host] == "", (host, said[host])


def test_absolute_paths_and_keys_that_others_cannot_read_are_required(tmp_path: Path) -> None:
    # A host for each case: one run is enough.
    hosts: dict[str, tuple[str, dict[str, Any]]] = {"page": ("worker", {"worker_metrics_tls": True})}
    expected = {"page": "needs worker_metrics_tls_cert_file"}
    for case, (cert, key, message) in files(tmp_path).items():
        for number, (what, variables) in enumerate(SETTINGS.items()):
            host = f"{case}{number}"
            hosts[host] = "mysql_udf" if "functions" in what else "worker", variables(cert, key)
            expected[host] = message.format(host)
    require(reported(tmp_path, hosts), expected)


def test_the_functions_take_a_name_and_a_version_that_can_be_written_into_sql(tmp_path: Path) -> None:
    values = [
        ("server_name", "jobs.example.com", True),
        ("server_name", "2001:db8::1", True),
        ("server_name", "jobs.example.com'), ('", False),
        ("server_name", ".example.com", False),
        ("minimum_version", "TLSv1.3", True),
        ("minimum_version", "1.3", False),
    ]
    hosts: dict[str, tuple[str, dict[str, Any]]] = {}
    expected: dict[str, str] = {}
    for number, (option, value, passes) in enumerate(values):
        variable = f"mysql_udf_tls_{option}"
        hosts[f"case{number}"] = "mysql_udf", {"mysql_udf_tls": True, variable: value}
        expected[f"case{number}"] = "" if passes else variable
    require(reported(tmp_path, hosts), expected)
