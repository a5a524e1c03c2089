# SPDX-License-Identifier: GPL-3.0-or-later
"""A site without internet: what another host of the platform was deployed with is all that is needed beside
the distribution's packages.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness.hosts import Host, Playbooks, recap
from harness.places import ROOT

STAGING, SITE = Host("offline-staging"), Host("offline-site")
CACHE = ROOT / ".work/hosts/built"
#: What docs/operations.md names for Debian.
PACKAGES = "mariadb-server python3-pymysql python3-cryptography redis-server python3 python3-venv"
#: Neither the index nor gearmand's site can be reached by the controller.
NO_INTERNET = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0"}
NO_SOURCE = "gearmand_source=http://127.0.0.1:1/gearmand.tar.gz"


def deployed(playbooks: Playbooks, host: Host, *options: str) -> dict[str, int]:
    """The recap of ``host`` after site.yml."""
    status, output = playbooks.run(
        "site.yml", "--limit", host.name, *options, env=NO_INTERNET if options else {}
    )
    assert status == 0, output
    return recap(output)[host.name]


@pytest.fixture(scope="module")
def site(playbooks: Playbooks) -> Host:
    """A host with the distribution's packages that the documentation names, and without a network."""
    deployed(playbooks, STAGING)
    lists = [json.loads(path.read_text()) for path in CACHE.glob("gearmand-*-debian12-*.json")]
    libraries = {package for found in lists for package in found["packages"]}
    SITE.run(
        "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update && apt-get -qq install --yes "
        f"--no-install-recommends {PACKAGES} {' '.join(sorted(libraries))} >/dev/null 2>&1"
    )
    SITE.run("ip route flush table main; : >/etc/resolv.conf")
    return SITE


def test_a_host_without_network_is_deployed_from_the_controllers_cache(
    playbooks: Playbooks, site: Host
) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(CACHE).iterdir()}
    assert deployed(playbooks, site, "--extra-vars", NO_SOURCE)["changed"] > 0
    assert {path: path.stat().st_mtime_ns for path in Path(CACHE).iterdir()} == before
    assert site.run("command -v gcc make || true") == ""
    assert site.sql("SELECT gman_do('reverse', 'offline');", database="mysql") == "enilffo"


def test_a_second_run_without_network_changes_nothing(playbooks: Playbooks, site: Host) -> None:
    assert deployed(playbooks, site, "--extra-vars", NO_SOURCE)["changed"] == 0
