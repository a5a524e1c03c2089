# SPDX-License-Identifier: GPL-3.0-or-later
"""The role build compiles once for each platform, and installs nothing that is not what was compiled. This
machine stands for two hosts, each with a directory of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness.places import ROOT

#: What is "compiled" says where that was.
SCRIPT = "mkdir -p staging/usr && cat archive >staging/usr/made && pwd >>staging/usr/made && {extra}"
PLAYBOOK = """
- hosts: all
  gather_facts: true
  tasks:
    - name: Bring it
      ansible.builtin.include_role:
        name: gearsync.mysql_redis.build
      vars:
        build_what:
          name: thing
          key: "{{ key | default('1') }}"
          sources: "{{ place }}/sources"
          script: "{{ script }}"
          packages: []
        __build_dir: "{{ place }}/{{ inventory_hostname }}"
        __build_note: "{{ place }}/note"
"""


class Site:
    """Two hosts, and the controller's cache."""

    def __init__(self, place: Path) -> None:
        self.place, self.cache = place, place / "cache"
        (place / "sources").write_text("sources\n")
        (place / "play.yml").write_text(PLAYBOOK)

    def run(self, *options: str, extra: str = "true", hosts: str = "one,two", **variables: str) -> str:
        """Bring it to ``hosts``; what Ansible says, which ends with its status."""
        given = {
            "place": str(self.place),
            "gearsync_build_cache": str(self.cache),
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "script": SCRIPT.format(extra=extra),
            **variables,
        }
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory", f"{hosts},"]
        done = subprocess.run(
            [*command, "--extra-vars", json.dumps(given), *options, str(self.place / "play.yml")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        return " ".join(f"{done.stdout}{done.stderr}".split()) + f" status {done.returncode}"

    def archive(self, host: str) -> bytes:
        return (self.place / host / "built.tar.gz").read_bytes()

    def kept(self) -> Path:
        (archive,) = self.cache.glob("*.tar.gz")
        return archive


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_one_host_compiles_and_the_others_get_the_same(site: Site) -> None:
    output = site.run()
    assert output.endswith("status 0"), output
    assert site.archive("one") == site.archive("two") == site.kept().read_bytes()


def test_what_the_cache_has_is_not_compiled_again(site: Site) -> None:
    site.run(hosts="one")
    (kept,) = [site.kept().stat().st_mtime_ns]
    output = site.run(hosts="two", extra="true")
    assert output.endswith("status 0"), output
    assert "Compile and pack" not in output
    assert site.kept().stat().st_mtime_ns == kept


def test_other_sources_are_compiled_beside_those_of_before(site: Site) -> None:
    site.run(hosts="one")
    site.run(hosts="one", key="2")
    assert len(list(site.cache.glob("*.tar.gz"))) == len(list(site.cache.glob("*.json"))) == 2


def test_each_host_compiles_for_itself_when_it_is_told_to(site: Site) -> None:
    output = site.run(gearsync_build="per_host")
    assert output.endswith("status 0"), output
    assert site.archive("one") != site.archive("two")
    assert not site.cache.exists()


def test_an_archive_that_was_changed_in_the_cache_is_refused(site: Site) -> None:
    site.run(hosts="one")
    kept = site.kept()
    kept.write_bytes(kept.read_bytes() + b"more")
    output = site.run(hosts="two")
    assert output.endswith("status 2"), output
    assert "is not what was compiled" in output
    assert not (site.place / "two").exists()


def test_an_archive_that_is_missing_in_the_cache_is_named(site: Site) -> None:
    site.run(hosts="one")
    site.kept().unlink()
    output = site.run(hosts="two")
    assert "is missing" in output
    assert output.endswith("status 2"), output


def test_a_build_that_fails_shows_its_log_and_leaves_the_cache_empty(site: Site) -> None:
    output = site.run(extra="echo no such header >&2 && false")
    assert output.endswith("status 2"), output
    assert "no such header" in output
    assert (
        "thing was not compiled for two: it waited for the build of one, which failed on one, see above. "
        "Repair that, and run this again; or let each host compile for itself, by -e "
        "gearsync_build=per_host. Nothing was installed on two."
    ) in output
    assert not list(site.place.glob("cache/*"))


def test_check_mode_says_what_would_be_done_and_does_nothing(site: Site) -> None:
    output = site.run("--check")
    assert output.endswith("status 0"), output
    assert "thing would be compiled on one and kept on the controller, and installed" in output
    assert "thing would be compiled once for this platform and taken from the controller" in output
    assert {path.name for path in site.place.iterdir()} == {"sources", "play.yml"}
    site.run(hosts="one")
    assert "thing would be taken from the controller" in site.run("--check", hosts="two")
