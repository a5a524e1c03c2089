# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook certificates, with this machine as its host, and what OpenSSL reads in the files."""

from __future__ import annotations

import json
import pwd
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from harness.playbook import LOCAL, ansible_playbook


class Site:
    """A host in the groups of Redis and of workers, and a controller."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.controller, self.host = directory, directory / "controller", directory / "host"
        self.variables: dict[str, Any] = {
            **LOCAL,
            "ansible_host": "192.0.2.7",
            "gearsync_certificates_directory": str(self.controller),
            "gearsync_certificates_path": str(self.host),
            "gearsync_certificates": [
                {"service": "redis", "owner": "root", "names": ["cache.example"]},
                {"service": "worker", "owner": "nobody"},
            ],
        }

    def run(self, *options: str, **variables: Any) -> dict[str, int]:
        """A run's recap."""
        host = {"hosts": {"one.example": {**self.variables, **variables}}}
        inventory = self.directory / "inventory.yml"
        inventory.write_text(json.dumps({"gearsync_redis": host, "gearsync_workers": host}))
        done = ansible_playbook("-i", inventory, "playbooks/certificates.yml", *options)
        self.output = done.output
        return {count: done.recap(count)["one.example"] for count in ("changed", "failed", "unreachable")}

    def changes(self, *options: str, **variables: Any) -> int:
        recap = self.run(*options, **variables)
        assert recap["failed"] == recap["unreachable"] == 0, self.output
        return recap["changed"]

    def openssl(self, *words: str) -> str:
        return subprocess.run(
            ["openssl", *words], cwd=self.host, capture_output=True, text=True, check=True
        ).stdout

    def serial(self, service: str) -> str:
        return self.openssl("x509", "-in", f"{service}.pem", "-noout", "-serial")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_each_service_gets_a_certificate_of_the_authority_for_its_names_once(site: Site) -> None:
    assert site.changes("--check") > 0
    assert not site.host.exists()
    assert not site.controller.exists()
    assert site.changes() > 0
    for service, owner in (("redis", 0), ("worker", 65534)):
        for purpose in ("sslserver", "sslclient"):
            site.openssl("verify", "-x509_strict", "-CAfile", "ca.pem", "-purpose", purpose, f"{service}.pem")
        key = (site.host / f"{service}.key").stat()
        assert (key.st_mode & 0o777, key.st_uid) == (0o400, owner)
        public = site.openssl("x509", "-in", f"{service}.pem", "-noout", "-pubkey")
        assert public == site.openssl("pkey", "-in", f"{service}.key", "-pubout")
    names = site.openssl("x509", "-in", "redis.pem", "-noout", "-ext", "subjectAltName")
    assert re.findall(r"(?:DNS|IP Address):[^,\s]+", names) == [
        "IP Address:192.0.2.7",
        "DNS:one.example",
        "DNS:cache.example",
    ]
    assert "cache.example" not in site.openssl(
        "x509", "-in", "worker.pem", "-noout", "-ext", "subjectAltName"
    )
    # The keys of the authority and of others stay on the controller.
    assert sorted(path.name for path in site.host.iterdir()) == [
        "ca.pem",
        "redis.key",
        "redis.pem",
        "worker.key",
        "worker.pem",
    ]
    assert (site.controller / "ca.key").stat().st_mode & 0o777 == 0o600
    assert site.controller.stat().st_mode & 0o777 == 0o700
    # Other directories and the user of a service are not made in check mode.
    nobody = [{**site.variables["gearsync_certificates"][0], "owner": "gearsync-no-user"}]
    another = site.directory / "another"
    assert site.changes("--check", gearsync_certificates=nobody, gearsync_certificates_path=str(another)) > 0
    assert not another.exists()
    assert "gearsync-no-user" not in {user.pw_name for user in pwd.getpwall()}
    assert site.changes() == 0


@pytest.mark.long
def test_a_certificate_is_renewed_when_it_ends_soon_or_has_other_names(site: Site) -> None:
    site.changes(gearsync_certificates_days=20, gearsync_certificates_renew_days=10)
    former = {name: site.serial(name) for name in ("redis", "worker")}
    authority = (site.host / "ca.pem").read_bytes()
    assert site.changes(gearsync_certificates_renew_days=30) > 0
    renewed = {name: site.serial(name) for name in former}
    assert all(renewed[name] != former[name] for name in former)
    one, other = site.variables["gearsync_certificates"]
    assert site.changes(gearsync_certificates=[one, {**other, "names": ["2001:db8::7"]}]) > 0
    assert site.serial("redis") == renewed["redis"]
    names = site.openssl("x509", "-in", "worker.pem", "-noout", "-ext", "subjectAltName")
    assert "IP Address:2001:DB8:0:0:0:0:0:7" in names
    assert (site.host / "ca.pem").read_bytes() == authority
    # Nor does the authority sign for longer than it is valid itself.
    assert site.run(gearsync_certificates_days=4000)["failed"] == 1
    assert "No certificate was changed" in site.output
